"""fastText's .bin files: read as they are written, and refused in one line where they are wrong."""

import gzip
import struct

import jax
import numpy as np
import pytest

import zoo
from zoo.checkpoints.load import Loaded
from zoo.formats import fasttext
from zoo.models.fasttext import LOSSES, Config, FastText, FastTextClassifier
from zoo.params import flatten
from zoo.tokenizers import units

WORDS = ["</s>", "the", "naïve", "日本"]
LABELS = ("pos", "neg", "other")


def loaded(cls=FastText, **fields):
    config = Config(vocab_size=len(WORDS), width=4, buckets=7, min_n=2, max_n=3, **fields)
    model = cls(config)
    params = model.init(jax.random.key(0), np.zeros((1, 3), np.int32))["params"]
    draw = np.random.default_rng(0)
    params["outputs"] = draw.normal(size=params["outputs"].shape).astype(np.float32)
    params["counts"] = np.arange(9, 9 - len(WORDS), -1, np.int32)
    if cls is FastTextClassifier:
        params["label_counts"] = np.arange(1, len(LABELS) + 1, dtype=np.int32)
    return Loaded(model, params, units.words(WORDS))


def classifier(**fields):
    return loaded(FastTextClassifier, labels=LABELS, word_ngrams=2, **fields)


def check_equal(actual, expected):
    assert type(actual.model) is type(expected.model)
    assert actual.model.config == expected.model.config
    assert flatten(actual.params).keys() == flatten(expected.params).keys()
    for name, array in expected.params.items():
        assert np.array_equal(actual.params[name], array), name
        assert actual.params[name].dtype == array.dtype
    assert actual.tokenizer.get_vocab() == expected.tokenizer.get_vocab()


@pytest.mark.parametrize("loss", LOSSES)
def test_what_is_written_is_read_back_bit_for_bit(tmp_path, loss):
    for expected in (loaded(loss=loss), classifier(loss=loss)):
        zoo.export(expected, tmp_path / "x.bin", overwrite=True)
        check_equal(zoo.load(tmp_path / "x.bin"), expected)


def test_the_format_is_told_by_content_not_by_name(tmp_path):
    zoo.export(classifier(), tmp_path / "x.bin")
    (tmp_path / "x.bin").rename(tmp_path / "x.vec")
    check_equal(zoo.load(tmp_path / "x.vec"), classifier())


def test_matrices_are_mapped_read_only(tmp_path):
    zoo.export(loaded(), tmp_path / "x.bin")
    for name in ("rows", "outputs"):
        array = zoo.load(tmp_path / "x.bin").params[name]
        assert isinstance(array.base, np.memmap)
        assert not array.flags.writeable


def test_a_model_folder_gives_back_the_model_of_a_file(tmp_path):
    zoo.export(classifier(), tmp_path / "x.bin")
    zoo.save(zoo.load(tmp_path / "x.bin"), tmp_path / "model")
    check_equal(zoo.load(tmp_path / "model"), classifier())
    zoo.export(zoo.load(tmp_path / "model"), tmp_path / "y.bin")
    assert (tmp_path / "x.bin").read_bytes() == (tmp_path / "y.bin").read_bytes()


def test_text_has_the_composed_vectors(tmp_path):
    zoo.export(loaded(), tmp_path / "x.vec")
    model, params, _ = loaded()
    composed = model.word_vectors(params, WORDS, np.arange(len(WORDS)))
    assert np.array_equal(zoo.load(tmp_path / "x.vec").params["words"], composed)


def test_labels_of_another_prefix_keep_it(tmp_path):
    zoo.export(classifier(), tmp_path / "x.bin")
    content = (tmp_path / "x.bin").read_bytes()
    assert b"__label__pos\0" in content
    (tmp_path / "x.bin").write_bytes(content.replace(b"__label__", b"__class__"))
    labels = zoo.load(tmp_path / "x.bin").model.config.labels
    assert labels == ("__class__pos", "__class__neg", "__class__other")


def test_counts_beyond_32_bits_are_clipped(tmp_path):
    zoo.export(loaded(), tmp_path / "x.bin")
    content = (tmp_path / "x.bin").read_bytes()
    entry = b"the\0" + struct.pack("<q", 8)
    assert entry in content
    (tmp_path / "x.bin").write_bytes(content.replace(entry, b"the\0" + struct.pack("<q", 1 << 40)))
    assert zoo.load(tmp_path / "x.bin").params["counts"].tolist() == [9, (1 << 31) - 1, 7, 6]


def test_classifiers_of_version_11_have_no_ngrams_of_characters(tmp_path):
    for expected, max_n in ((classifier(), 0), (loaded(), 3)):
        zoo.export(expected, tmp_path / "x.bin", overwrite=True)
        changed(tmp_path / "x.bin", 4, struct.pack("<i", 11))
        assert zoo.load(tmp_path / "x.bin").model.config.max_n == max_n


def test_entries_are_read_in_chunks_of_any_size(tmp_path, monkeypatch):
    zoo.export(classifier(), tmp_path / "x.bin")
    monkeypatch.setattr(fasttext.word_vectors, "CHUNK", 1)
    check_equal(zoo.load(tmp_path / "x.bin"), classifier())


def changed(file, at, content):
    old = file.read_bytes()
    file.write_bytes(old[:at] + content + old[at + len(content) :])


@pytest.mark.parametrize(
    ("at", "content", "message"),
    [
        (4, struct.pack("<i", 13), r"is version 13 of fastText's files: expected 12"),
        (32, struct.pack("<i", 9), r"is damaged: loss 9 is none of 1 to 4"),
        (40, struct.pack("<i", 8), r"its rows are \[11, 4\], but its settings need \[12, 4\]"),
        (64, struct.pack("<i", 9), r"4 words and 3 labels are not 9 entries"),
        (84, struct.pack("<q", 0), r"is quantized \(.ftz\)"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path, at, content, message):
    file = tmp_path / "x.bin"
    zoo.export(classifier(), file)
    changed(file, at, content)
    with pytest.raises(ValueError, match=message) as error:
        zoo.load(file)
    assert "\n" not in str(error.value)


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path):
    file = tmp_path / "x.bin"
    zoo.export(classifier(), file)
    whole = file.read_bytes()
    for size in range(4, len(whole)):
        file.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=f"is truncated: it ends at byte {size}, within "):
            zoo.load(file)


def test_a_quantized_or_compressed_file_is_refused_with_what_to_do(tmp_path):
    file = tmp_path / "x.ftz"
    zoo.export(classifier(), tmp_path / "x.bin")
    whole = (tmp_path / "x.bin").read_bytes()
    matrices = whole.index(struct.pack("<?2q", False, 11, 4))
    file.write_bytes(whole)
    changed(file, matrices, b"\1")
    with pytest.raises(ValueError, match=r"x.ftz is quantized .*: load the .bin .* x\.bin"):
        zoo.load(file)
    file.write_bytes(gzip.compress(whole))
    with pytest.raises(ValueError, match="is compressed, so it cannot be mapped: run gunzip"):
        zoo.load(file)


def test_a_file_needs_a_name_for_every_row(tmp_path):
    with pytest.raises(ValueError, match="the tokenizer has 3 of 4"):
        zoo.export(loaded()._replace(tokenizer=units.words(WORDS[:3])), tmp_path / "x.bin")
