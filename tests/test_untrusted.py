"""Hostile files are refused quickly and in bounded memory."""

import contextlib
import gzip
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

import zoo
from tests import tiny_run
from train.data.examples import tables
from train.data.sources import parallel_text, sound, text
from zoo import tokenizers, untrusted
from zoo.checkpoints.load import Loaded
from zoo.models import gpt2

SECONDS, MEGABYTES = 4, 500  # of the processor, and beyond what the process has
BOMB = gzip.compress(b"word " * (1 << 21)) * 9  # 90 MiB in 92 KiB


def late(*_):
    raise TimeoutError("this took more than five minutes")


@contextlib.contextmanager
def bounded():
    """Fail if the block takes too long, or more memory."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    status = Path("/proc/self/status").read_text()
    used = int(status.partition("VmData:")[2].split()[0]) << 10
    resource.setrlimit(resource.RLIMIT_DATA, (used + (MEGABYTES << 20), hard))
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(300)  # a pipe that is opened waits without work
    began = time.process_time()
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    assert time.process_time() - began < SECONDS


def refused(read, *arguments) -> str:
    """Return the one line with which a function refuses its arguments, within bounds."""
    with bounded(), pytest.raises((ValueError, OSError)) as error:
        read(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model folder, and what Hugging Face's has of it."""
    folder = tmp_path_factory.mktemp("models")
    loaded = Loaded(gpt2.Model(tiny_run.CONFIG), tiny_run.wide_params(), tiny_run.tokenizer())
    zoo.save(loaded, folder / "ours")
    zoo.export(loaded, folder / "theirs")
    return folder


def changed(folder: Path, out: Path, name: str, content: bytes | dict) -> Path:
    """Return a copy of a folder in which one file has another content, or other fields."""
    out.mkdir()
    for file in folder.iterdir():
        (out / file.name).symlink_to(file)
    if isinstance(content, dict):
        fields = json.loads((folder / name).read_text()) | content
        fields.pop("checksums", None)  # of the file before
        content = json.dumps(fields).encode()
    (out / name).unlink(missing_ok=True)
    (out / name).write_bytes(content)
    return out


CONFIGS = {
    "layers": ({"n_layer": 10**9}, "n_layer = 1000000000, expected a whole number from 1 to 256"),
    "labels": ({"num_labels": 10**9}, "num_labels = 1000000000, expected up to 1,048,576"),
    "names": (
        {"id2label": {str(i): f"L{i}" for i in range(2**20 + 1)}},
        "1,048,577 names in id2label, expected up to 1,048,576",
    ),
    "type": ({"layer_norm_epsilon": {"x": 1}, "n_head": 0}, "/config.json"),
    "digits": (b'{"n_layer": ' + b"9" * 10**6 + b"}", "is not valid JSON: Exceeds the limit"),
    "depth": (b"[" * 10**6, "is not valid JSON: it is nested too deeply"),
    "fields": (b"[1, 2]", "expected a JSON object, not [1, 2]"),
    "encoding": ("{}".encode("utf-16"), "is not UTF-8 at byte 0"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_config_that_promises_too_much_is_refused(case, model, tmp_path):
    content, message = CONFIGS[case]
    folder = changed(model / "theirs", tmp_path / "x", "config.json", content)
    assert message in refused(zoo.load, folder)


def test_json_of_a_terabyte_is_not_read(model, tmp_path):
    folder = changed(model / "theirs", tmp_path / "x", "config.json", b"{}")
    os.truncate(folder / "config.json", 1 << 40)
    assert "has 1,099,511,627,776 bytes: expected at most" in refused(zoo.load, folder)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("num_layers", 10**9, "num_layers is 1,000,000,000, but at most 256 fit"),
        ("num_layers", 10**12, "num_layers cannot be 1000000000000"),
        ("width", "wide", "width cannot be 'wide'"),
        ("width", 0, "does not fit GPT2LM"),
        ("depth", 1, "depth cannot be 1"),
    ],
)
def test_a_config_of_ours_that_is_wrong_is_refused(name, value, message, model, tmp_path):
    fields = json.loads((model / "ours" / "model.json").read_text())["config"] | {name: value}
    folder = changed(model / "ours", tmp_path / "x", "model.json", {"config": fields})
    assert message in refused(zoo.load, folder)


def test_a_header_of_an_exabyte_is_refused(model, tmp_path):
    content = struct.pack("<Q", 1 << 60) + b"{}"
    folder = changed(model / "theirs", tmp_path / "x", "model.safetensors", content)
    assert "is damaged" in refused(zoo.load, folder)


def test_text_that_grows_a_hundredfold_is_refused(tmp_path):
    (tmp_path / "a.gz").write_bytes(BOMB)
    for read in (lambda path: text.files([path]), tables.read_texts, zoo.load):
        message = refused(read, tmp_path / "a.gz")
        assert "decompresses to more than 100 times its size" in message


def test_text_that_is_merely_repetitive_is_read(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"word " * (1 << 22)))
    with bounded():
        assert text.files([tmp_path / "a.txt.gz"]).num_bytes == 5 << 22


FILES = {
    "counts": ("a.arpa", b"\\data\\\nngram 1=99999999999999999\n", "more than such a file can"),
    "compressed": ("a", gzip.compress(b"99999999999 300\nword \0\1"), "is truncated"),
    "words": ("a", b"99999999999 300\nword \0\1", "is truncated"),
    "width": ("a", b"1 999999999\nword \0\1", "is truncated"),
    "entries": (
        "a.bin",
        struct.pack("<2i12id3i2q", 793712314, 12, *[1] * 12, 0, 1 << 30, 1 << 30, 0, 0, -1),
        "is truncated",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_promises_more_than_it_has_is_refused(case, tmp_path):
    name, content, message = FILES[case]
    (tmp_path / name).write_bytes(content)
    assert message in refused(zoo.load, tmp_path / name)


def word_level(**fields) -> dict:
    content = json.loads(Tokenizer(models.WordLevel({"a": 0, "?": 1}, "?")).to_str())
    return content | fields


def split(pattern: str) -> dict:
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }


HOSTILE = {
    "repeated group": (word_level(pre_tokenizer=split("(a+)+$")), "a group is repeated"),
    "alternatives": (word_level(pre_tokenizer=split("(?:a|aa){2,}b")), "a group is repeated"),
    "counted group": (word_level(pre_tokenizer=split("(a|aa){40}b")), "a group is repeated"),
    "call": (word_level(pre_tokenizer=split(r"(?<n>a|a\g<n>)b")), "a group is repeated"),
    "back reference": (word_level(pre_tokenizer=split(r"(a*)\1b")), "a group is repeated"),
    "long": (word_level(pre_tokenizer=split("a" * 10**6)), "very long"),
    "id": (
        word_level(model={"type": "WordLevel", "vocab": {"a": 10**9}, "unk_token": "a"}),
        "the id 1,000,000,000, but ids are at most",
    ),
    "added id": (
        word_level(added_tokens=[{"id": 10**9, "content": "b", "special": True}]),
        "the id 1,000,000,000, but ids are at most",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_tokenizer_that_takes_all_time_or_memory_is_refused(case, tmp_path):
    content, message = HOSTILE[case]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert message in refused(tokenizers.load, tmp_path)


def test_an_id_of_a_billion_in_a_vocabulary_is_refused(tmp_path):
    (tmp_path / "vocab.json").write_text('{"a": 0, "b": 1000000000}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    assert "the id 1,000,000,000, but ids" in refused(tokenizers.load, tmp_path)


# Of GPT-2, of Llama 3, of T5 and of our own added words.
PUBLISHED = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    r" {2,}",
    r"^a\)\+b\)$|[)]+",
)


@pytest.mark.parametrize("pattern", PUBLISHED)
def test_the_regular_expressions_of_published_tokenizers_are_read(pattern, tmp_path):
    content = word_level(pre_tokenizer=split(pattern))
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert tokenizers.load(tmp_path).encode("a a").tokens


@pytest.mark.parametrize(
    "content", [b"\x80" * 10**7, b"\n" + b"\xff" * 10**6 + b"\x01", b"\n\x05ab"]
)
def test_a_number_without_end_in_a_sentencepiece_model_is_refused(content, tmp_path):
    (tmp_path / "spiece.model").write_bytes(content)
    assert "not a SentencePiece model" in refused(tokenizers.load, tmp_path)


READERS = {
    "model": zoo.load,
    "tokenizer": lambda path: tokenizers.load(path.parent),
    "config": lambda path: zoo.load(path.parent),
    "text": lambda path: text.files([path]),
    "pairs": lambda path: parallel_text.lines(path, path),
    "sound": lambda path: sound.files([path]),
}


@pytest.mark.parametrize("reader", READERS)
def test_pipes_and_devices_are_refused(reader, tmp_path):
    name = {"tokenizer": "tokenizer.json", "config": "config.json"}.get(reader, "x")
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a" / name)
    assert "is a pipe, whose content is gone once it is read" in refused(
        READERS[reader], tmp_path / "a" / name
    )
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / name).symlink_to("/dev/zero")
    assert "is a device" in refused(READERS[reader], tmp_path / "b" / name)


def test_a_table_is_read_from_a_pipe_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = f"open({str(tmp_path / 'pipe')!r}, 'w').write('text\\tlabel\\ta film\\tgood\\n')"
    writer = writer.replace("label\\ta", "label\\na")
    with subprocess.Popen([sys.executable, "-c", writer]), bounded():
        (example,) = tables.read_texts(tmp_path / "pipe").examples
    assert (example.text, example.label) == ("a film", "good")


def test_a_folder_and_a_loop_of_links_are_no_files(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder, but a text file is needed"):
        untrusted.check_file(tmp_path, "text")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(FileNotFoundError, match="no such file"):
        untrusted.check_file(tmp_path / "loop")
