"""Weights of torch.save are read without PyTorch, and nothing in the file is run."""

import os
import pickle
import struct
import tarfile
import tracemalloc
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from tests.formats import torch_files
from tests.formats.torch_files import dictionary, name_of, value
from zoo.formats import pickle as pickle_reader
from zoo.formats.pickle import read, read_texts

ARRAYS = {
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "half": np.array([1.5, -2.0], np.float16),
    "count": np.array(7, np.int64),
}
WRITERS = [torch_files.write_zip, torch_files.write_stream, torch_files.write_tar]


def refused(path) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011  # callers look at the message
        read(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("write", WRITERS)
def test_all_three_forms_give_the_same_arrays(tmp_path, write):
    stored = {name: np.ascontiguousarray(array) for name, array in ARRAYS.items()}
    write(tmp_path / "x.bin", stored)
    arrays = read(tmp_path / "x.bin")
    assert list(arrays) == list(ARRAYS)
    for name, array in stored.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array.reshape(arrays[name].shape))


def test_strides_are_obeyed(tmp_path):
    base = ARRAYS["weight"]
    program = dictionary({"x": torch_files.tensor(base.T, "0")})
    torch_files.write_zip(tmp_path / "x.bin", {"x": base}, program)
    np.testing.assert_array_equal(read(tmp_path / "x.bin")["x"], base.T)


class Call:
    """Pickled as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("function", [os.system, eval, print, os.remove])
def test_a_function_is_refused_by_name_and_not_called(tmp_path, protocol, function):
    victim = tmp_path / "victim"
    victim.write_text("here")
    content = pickle.dumps({"x": Call(function, str(victim))}, protocol)
    torch_files.write_zip(tmp_path / "x.bin", {}, content)
    message = refused(tmp_path / "x.bin")
    assert function.__name__ in message
    assert "runs nothing" in message
    assert victim.exists()


HOSTILE = {
    "a class": name_of("torch.nn", "Linear") + b")R",
    "an attribute of a class that is allowed": name_of("collections", "OrderedDict.fromkeys"),
    "an object with a state": b"(i__main__\nX\n",
    "a memo of gigabytes": b"Nr\xff\xff\xff\x7f",
    "a text of gigabytes": b"X\xff\xff\xff\x7fabc",
    "a number of gigabytes": b"\x8b\xff\xff\xff\x7f1",
    "a storage that is none": value("storage") + b"Q",
    "a tensor that is a list": name_of("torch._utils", "_rebuild_tensor_v2") + b"(]]]]tR",
    "a state of a tensor's class": torch_files.tensor(ARRAYS["half"], "0") + b"}" + b"b",
    "a class without a call": name_of("torch.nn", "Linear") + b")\x81",
    "a tuple so deep that its hash is a crash": b"}N" + b"\x85" * 1_000_000 + b"Ns",
    "a list within itself": b"]q\x01h\x01a",
    "a list that each of many calls copies": b"]q\x01("
    + b"N" * 20_000
    + b"e0("
    + (name_of("torch", "Size") + b"h\x01\x85R") * 1000
    + b"l",
    "33 axes": name_of("torch", "Size") + value((1,) * 33) + b"\x85R",
    "a storage with a number for a name": torch_files.tensor(ARRAYS["half"], 0),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_is_refused_in_little_memory(tmp_path, name):
    program = dictionary({"x": HOSTILE[name]})
    torch_files.write_zip(tmp_path / "x.bin", {"half": ARRAYS["half"]}, program)
    tracemalloc.start()
    refused(tmp_path / "x.bin")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10e6


def test_a_pickle_of_more_values_than_weights_need_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pickle_reader, "MOST_OPCODES", 1000)
    program = dictionary({"x": b"(" + b"N" * 1000 + b"l"})
    torch_files.write_zip(tmp_path / "x.bin", {}, program)
    assert "more than 1000 values" in refused(tmp_path / "x.bin")


def test_a_list_that_is_there_two_to_the_power_of_fifty_times_is_read_once(tmp_path):
    levels = b"".join(b"](h%ch%ceq%c0" % (i, i, i + 1) for i in range(50))
    program = b"\x80\x02]q\x000" + levels + b"}X\x01\x00\x00\x00xh2s."
    torch_files.write_zip(tmp_path / "x.bin", {}, program)
    assert len(read(tmp_path / "x.bin")["x"]) == 2


@pytest.mark.parametrize(
    ("shape", "strides"),
    [
        *[((1 << 40,), (0,)), ((3,), (1,)), ((2,), (5,)), ((1 << 62, 1 << 62), (0, 0))],
        *[((-1,), (1,)), ((2,), (-1,)), ((2, 2), (1, 1)), ((2,), (1, 1)), ((1 << 70,), (1,))],
        *[((0, 1 << 70), (1, 1)), (("2",), (1,)), ((2.0,), (1,))],
    ],
)
def test_a_tensor_outside_of_its_storage_is_refused(tmp_path, shape, strides):
    program = dictionary({"x": torch_files.tensor(ARRAYS["half"], "0")})
    program = program.replace(value((2,)), value(shape)).replace(value((1,)), value(strides))
    torch_files.write_zip(tmp_path / "x.bin", {"half": ARRAYS["half"]}, program)
    refused(tmp_path / "x.bin")


@pytest.mark.parametrize("write", WRITERS[:2])
@pytest.mark.parametrize("length", [-1, 1, 1 << 62])
def test_a_storage_of_another_length_than_its_numbers_is_refused(tmp_path, write, length):
    write(tmp_path / "x.bin", {"half": ARRAYS["half"]})
    content = (tmp_path / "x.bin").read_bytes()
    wrong = content.replace(value("cpu") + value(2), value("cpu") + value(length))
    if write is torch_files.write_stream:
        assert wrong != content
        (tmp_path / "x.bin").write_bytes(wrong)
    else:
        program = dictionary({"half": torch_files.tensor(ARRAYS["half"], "0")})
        program = program.replace(value("cpu") + value(2), value("cpu") + value(length))
        torch_files.write_zip(tmp_path / "x.bin", {"half": ARRAYS["half"]}, program)
    if length < 2:
        refused(tmp_path / "x.bin")
    else:  # as long as its numbers at most
        np.testing.assert_array_equal(read(tmp_path / "x.bin")["half"], ARRAYS["half"])


def test_a_stream_whose_numbers_are_said_to_take_exabytes_is_refused(tmp_path):
    torch_files.write_stream(tmp_path / "x.bin", {"half": ARRAYS["half"]})
    content = (tmp_path / "x.bin").read_bytes()
    numbers = struct.pack("<q", 2) + ARRAYS["half"].tobytes()
    assert content.endswith(numbers)
    for length in (-1, 3, 1 << 40, 1 << 62):
        wrong = content.removesuffix(numbers) + struct.pack("<q", length) + numbers[8:]
        (tmp_path / "x.bin").write_bytes(wrong)
        tracemalloc.start()
        refused(tmp_path / "x.bin")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 10e6


def test_entries_that_overlap_are_refused(tmp_path):
    torch_files.write_zip(tmp_path / "x.bin", {"x": np.zeros(50_000, np.float32)})
    content = (tmp_path / "x.bin").read_bytes()
    with zipfile.ZipFile(tmp_path / "x.bin") as archive:
        last = archive.infolist()[-1]
        archive.close()
    start = content.rindex(b"PK\x01\x02")  # the last entry of the directory, ten times
    end = content.rindex(b"PK\x05\x06")
    entry, tail = content[start:end], bytearray(content[end:])
    struct.pack_into("<HHI", tail, 8, 11, 11, end + 9 * len(entry) - content.index(b"PK\x01\x02"))
    assert last.filename.encode() in entry
    (tmp_path / "x.bin").write_bytes(content[:end] + 9 * entry + bytes(tail))
    assert "overlap" in refused(tmp_path / "x.bin").lower()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.GNUTYPE_SPARSE])
def test_a_tar_archive_of_links_or_of_holes_is_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "x.bin", "w", format=tarfile.GNU_FORMAT) as archive:
        for name in ("storages", "tensors", "pickle"):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    refused(tmp_path / "x.bin")


def test_a_compressed_archive_is_refused(tmp_path):
    zeros = {"x": np.zeros(100_000, np.float32)}
    torch_files.write_zip(tmp_path / "x.bin", zeros, compression=zipfile.ZIP_DEFLATED)
    assert "compressed" in refused(tmp_path / "x.bin")


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("part", [0.1, 0.5, 0.6])
def test_a_truncated_file_is_refused(tmp_path, write, part):
    path = tmp_path / "x.bin"
    write(path, {"x": np.zeros(5000, np.float32)})
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    refused(path)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", b"\x80\x02K\x01."])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "x.bin").write_bytes(content)
    refused(tmp_path / "x.bin")


def test_a_list_of_tensors_is_no_dictionary_of_weights(tmp_path):
    program = b"\x80\x02]" + torch_files.tensor(ARRAYS["half"], "0") + b"a."
    torch_files.write_zip(tmp_path / "x.bin", {"half": ARRAYS["half"]}, program)
    assert "weights are a dictionary" in refused(tmp_path / "x.bin")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_vocabulary_is_a_list_of_texts_and_nothing_else(tmp_path, protocol):
    path = tmp_path / "itos.pkl"
    path.write_bytes(pickle.dumps(["xxunk", "the", "é"], protocol))
    assert read_texts(path) == ["xxunk", "the", "é"]
    for wrong, reason in (
        ({"the": 0}, "not a list of texts"),
        ([1, 2], "not a list of texts"),
        (Call(os.system, "true"), "runs nothing"),
        (OrderedDict(the=0), "collections.OrderedDict"),
    ):
        path.write_bytes(pickle.dumps(wrong, protocol))
        with pytest.raises(ValueError, match=reason):
            read_texts(path)
