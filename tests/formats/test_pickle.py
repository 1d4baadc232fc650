"""Weights of torch.save are read without PyTorch, and nothing in the file is run."""

import os
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from tests.formats import torch_files
from tests.formats.torch_files import dictionary, name_of, value
from zoo.formats.pickle import read

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


@pytest.mark.parametrize(
    ("shape", "strides"),
    [((1 << 40,), (0,)), ((3,), (1,)), ((2,), (5,)), ((1 << 62, 1 << 62), (0, 0)), ((-1,), (1,))],
)
def test_a_tensor_outside_of_its_storage_is_refused(tmp_path, shape, strides):
    program = dictionary({"x": torch_files.tensor(ARRAYS["half"], "0")})
    program = program.replace(value((2,)), value(shape)).replace(value((1,)), value(strides))
    torch_files.write_zip(tmp_path / "x.bin", {"half": ARRAYS["half"]}, program)
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
