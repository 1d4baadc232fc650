"""Files of word vectors: read as they are written, and refused in one line where they are wrong."""

import gzip
import pickle
from io import BytesIO

import jax
import numpy as np
import pytest

import zoo
from train.commands import convert
from zoo.checkpoints import arrays, mapped, model_folder
from zoo.checkpoints.load import Loaded
from zoo.formats import word_vectors
from zoo.models import glove, word2vec
from zoo.params import flatten
from zoo.tokenizers import units

WORDS = ["</s>", "the", "naïve", "日本", "U.S.", "<unk>", "a\u00a0b"]
D = 5
NAMES = ["x.txt", "x.vec", "x.vec.gz", "x.glove.txt", "x.glove.txt.gz", "x.bin", "x.bin.gz"]


def drawn(count=7, width=D):
    table = np.random.default_rng(0).normal(size=(count, width)).astype(np.float32)
    table[0, :3] = 1e-30, -0.1, 3e30
    return table


def loaded(architecture=word2vec, cls="Word2Vec", words=WORDS):
    config = architecture.Config(vocab_size=len(words), width=D)
    params = {"words": drawn(len(words))}
    return Loaded(getattr(architecture, cls)(config), params, units.words(words))


def binary(words=(b"one", b"two"), width=3, newline=b"\n", header=None):
    rows = drawn(len(words), width)
    content = header or f"{len(words)} {width}\n".encode()
    for word, row in zip(words, rows, strict=True):
        content += word + b" " + row.tobytes() + newline
    return content


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_read_back_bit_for_bit(tmp_path, name):
    zoo.export(loaded(), tmp_path / name)
    model, params, tokenizer = zoo.load(tmp_path / name)
    assert isinstance(model, glove.GloVe if "glove" in name else word2vec.Word2Vec)
    assert (model.config.vocab_size, model.config.width) == (len(WORDS), D)
    assert np.array_equal(params["words"], drawn())
    assert params["words"].dtype == np.float32
    assert [tokenizer.token_to_id(word) for word in WORDS] == list(range(len(WORDS)))
    assert tokenizer.get_vocab_size() == len(WORDS)


def test_the_format_is_told_by_content_not_by_name(tmp_path):
    for name in NAMES:
        zoo.export(loaded(), tmp_path / name)
        (tmp_path / name).rename(tmp_path / "vectors")
        model, params, _ = zoo.load(tmp_path / "vectors")
        assert type(model).__name__ == ("GloVe" if "glove" in name else "Word2Vec"), name
        assert np.array_equal(params["words"], drawn()), name


def test_both_tables_of_glove_are_summed_in_a_file(tmp_path):
    contexts = drawn()[::-1]
    params = {"words": drawn(), "contexts": contexts}
    model = glove.GloVePretraining(glove.Config(vocab_size=len(WORDS), width=D))
    zoo.export(Loaded(model, params, units.words(WORDS)), tmp_path / "x.glove.txt")
    assert np.array_equal(zoo.load(tmp_path / "x.glove.txt").params["words"], drawn() + contexts)


def test_the_model_runs_on_the_arrays_of_a_file(tmp_path):
    zoo.export(loaded(), tmp_path / "x.bin")
    model, params, tokenizer = zoo.load(tmp_path / "x.bin")
    tokens_BL = np.array([tokenizer.encode("the naïve 日本").ids], np.int32)
    for apply in (model.apply, jax.jit(model.apply)):
        assert np.array_equal(apply({"params": params}, tokens_BL)[0], drawn()[1:4])


def test_unknown_words_are_unk_if_the_file_has_it_and_refused_otherwise(tmp_path):
    zoo.export(loaded(), tmp_path / "x.txt")
    assert zoo.load(tmp_path / "x.txt").tokenizer.encode("the zebra").ids == [1, 5]
    zoo.export(loaded(words=["a", "b"]), tmp_path / "y.txt")
    tokenizer = zoo.load(tmp_path / "y.txt").tokenizer
    assert tokenizer.encode("b a").ids == [1, 0]
    assert tokenizer.token_to_id("zebra") is None
    with pytest.raises(Exception, match="UNK"):
        tokenizer.encode("a zebra")


def test_a_model_folder_of_vectors_is_mapped_and_exported_again(tmp_path):
    zoo.export(loaded(), tmp_path / "x.vec")
    zoo.save(zoo.load(tmp_path / "x.vec"), tmp_path / "model")
    table = model_folder.read(tmp_path / "model")["words"]
    assert isinstance(table.base, np.memmap)
    assert jax.device_put(table).unsafe_buffer_pointer() == table.ctypes.data  # not copied
    zoo.export(zoo.load(tmp_path / "model"), tmp_path / "y.vec")
    assert (tmp_path / "x.vec").read_bytes() == (tmp_path / "y.vec").read_bytes()


def test_the_commands_convert_files_and_model_folders(tmp_path, capsys):
    zoo.export(loaded(), tmp_path / "x.bin")
    convert.Import(tmp_path / "x.bin", tmp_path / "model").run()
    convert.Export(tmp_path / "model", tmp_path / "y.bin").run()
    assert (tmp_path / "x.bin").read_bytes() == (tmp_path / "y.bin").read_bytes()
    assert f"file: {tmp_path / 'y.bin'}" in capsys.readouterr().out


@pytest.mark.parametrize("shape", [(3, 2), (0, 2)])
def test_an_array_without_content_is_damaged(shape, tmp_path):
    tree = {"counts": np.zeros(shape, np.float32)}
    folder = tmp_path / "arrays"
    mapped.save(folder, tree)
    about = arrays.describe(tree)
    assert mapped.load(folder, about)["counts"].shape == shape
    (folder / "counts.npy").write_bytes(b"")
    with pytest.raises(arrays.Damaged, match=r"counts\.npy cannot be read: "):
        mapped.load(folder, about)


def test_models_with_layers_are_not_mapped():
    config = word2vec.Config(vocab_size=9, width=D)
    tokens_BL = np.zeros((1, 3), np.int32)
    for cls, is_mapped in ((word2vec.SkipGram, True), (word2vec.Word2VecClassifier, False)):
        params = cls(config).init(jax.random.key(0), tokens_BL)["params"]
        assert mapped.is_for(params) == is_mapped, list(flatten(params))


def test_words_may_have_spaces_in_text_as_in_published_files(tmp_path):
    (tmp_path / "x").write_text("the 1 2\n. . . 3 4\nat a@b.com 5 6\n")
    _, params, tokenizer = zoo.load(tmp_path / "x")
    assert tokenizer.token_to_id(". . .") == 1
    assert tokenizer.token_to_id("at a@b.com") == 2
    assert params["words"].tolist() == [[1, 2], [3, 4], [5, 6]]
    again = Loaded(glove.GloVe(glove.Config(vocab_size=3, width=2)), params, tokenizer)
    zoo.export(again, tmp_path / "y.glove.txt")
    assert (tmp_path / "y.glove.txt").read_text() == (tmp_path / "x").read_text()
    for name in ("y.txt", "y.bin"):
        with pytest.raises(ValueError, match=r"the word '. . .' has white space"):
            zoo.export(again, tmp_path / name)
        assert not (tmp_path / name).exists()


def test_of_words_that_are_there_twice_the_first_is_kept(tmp_path):
    (tmp_path / "x").write_text("4 2\na 1 2\nb 3 4\na 5 6\nc 7 8\n")
    with pytest.warns(UserWarning, match="1 words are there twice, such as 'a'"):
        _, params, tokenizer = zoo.load(tmp_path / "x")
    assert params["words"].tolist() == [[1, 2], [3, 4], [7, 8]]
    assert tokenizer.token_to_id("c") == 2


def test_bytes_that_are_not_utf8_are_read_as_their_numbers(tmp_path):
    for content in (b"3 2\n\xe9 1 2\n\xe8 3 4\nok 5 6\n", binary([b"\xe9", b"\xe8", b"ok"])):
        (tmp_path / "x").write_bytes(content)
        with pytest.warns(UserWarning, match=r"2 words are not UTF-8"):
            tokenizer = zoo.load(tmp_path / "x").tokenizer
        assert tokenizer.get_vocab() == {"\\xe9": 0, "\\xe8": 1, "ok": 2}


@pytest.mark.parametrize("newline", [b"\n", b""])
@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_binary_is_read_in_chunks_of_any_size(tmp_path, monkeypatch, chunk, newline):
    monkeypatch.setattr(word_vectors, "CHUNK", chunk)
    words = [b"one", b"two", b"three"]
    (tmp_path / "x").write_bytes(binary(words, newline=newline))
    vectors = word_vectors.read_binary(tmp_path / "x")
    assert vectors.words == ["one", "two", "three"]
    assert np.array_equal(vectors.table, drawn(3, 3))


@pytest.mark.parametrize("chunk", [1, 100])
def test_text_is_read_in_chunks_of_any_size(tmp_path, monkeypatch, chunk):
    zoo.export(loaded(), tmp_path / "x.txt")
    monkeypatch.setattr(word_vectors, "CHUNK", chunk)
    assert np.array_equal(word_vectors.read_text(tmp_path / "x.txt").table, drawn())


def npy():
    file = BytesIO()
    np.save(file, drawn())
    return file.getvalue()


# What is wrong with a file -> its content, and the error.
WRONG = {
    "empty": (b"", r"is empty: expected a word and its vector per line"),
    "no words": (b"0 5\n", r"has no words"),
    "too few": (b"3 2\na 1 2\nb 1 2\n", r"promises 3 words, but the file has 2"),
    "too many": (b"1 2\na 1 2\nb 1 2\n", r"promises 1 words, but the file has 2"),
    "short row": (
        b"2 2\na 1 2\nb 1\n",
        r"line 3: expected a word and 2 numbers, .* 2 fields: 'b 1'",
    ),
    "long row": (
        b"a 1 2\nb 1 2 3\n",
        r"line 2: expected a word and 2 numbers, .* 4 fields: 'b 1 2",
    ),
    "blank": (b"a 1 2\n\nb 1 2\n", r"line 2: expected a word and 2 numbers, .* not 1 fields: ''"),
    "no number": (b"a 1 2\nb 1 x\n", r"line 2: .* and 2 numbers, but 'x' is not a number"),
    "two spaces": (b"a 1 2\nb 1  2\n", r"line 2: expected a word and 2 numbers, .*single spaces"),
    "nan": (b"a 1 2\nb nan 2\n", r"the vector of 'b' is not finite"),
    "infinity": (b"a 1 2\nb 1 1e999\n", r"the vector of 'b' is not finite"),
    "no vectors": (b"word\nother\n", r"line 1: expected a word and its numbers, .*: 'word'"),
    "half": (binary()[:-12], r"is truncated: 2 words of 3 numbers need .* 28 bytes, .* at most 26"),
    "cut": (binary()[:-5], r"is truncated: it ends at byte 33, in row 2 of 2"),
    "cut gzip": (gzip.compress(binary()[:-5]), r"is truncated: it ends at byte 33, in row 2 of 2"),
    "damaged gzip": (gzip.compress(binary())[:-12], r"is not a complete gzip file: "),
    "rest": (binary() + b"more", r"goes on at byte 38 after the 2 words"),
    "binary too many": (binary(header=b"1 3\n"), r"goes on at byte 21 after the 1 words"),
    "pickle": (
        pickle.dumps(["a"]),
        r"is a pickle.*save_word2vec_format\(\"vectors.bin\", binary=T",
    ),
    "array": (npy(), r"is an array without its words: in gensim, .*save_word2vec_format"),
    "archive": (b"PK\x03\x04....", r"is a zip archive: unpack it"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_file_is_refused_in_one_line(tmp_path, wrong):
    content, message = WRONG[wrong]
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        zoo.load(tmp_path / "x")
    assert "\n" not in str(error.value)


def test_a_binary_vector_that_is_not_finite_is_named(tmp_path):
    rows = np.array([[1, 2], [np.inf, 1]], "<f4")
    (tmp_path / "x").write_bytes(b"2 2\na " + rows[0].tobytes() + b"b " + rows[1].tobytes())
    with pytest.raises(ValueError, match="the vector of 'b' is not finite"):
        zoo.load(tmp_path / "x")


def test_what_cannot_be_exported_is_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"name it .*\.bin .*\.glove.txt .*\.vec"):
        zoo.export(loaded(), tmp_path / "folder")
    with pytest.raises(ValueError, match="the model has no tokenizer"):
        zoo.export(loaded()._replace(tokenizer=None), tmp_path / "x.txt")
    zoo.export(loaded(), tmp_path / "x.txt")
    with pytest.raises(ValueError, match="a file of a Word2Vec is no SkipGram"):
        zoo.load(tmp_path / "x.txt", cls="SkipGram")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        zoo.load(tmp_path / "missing.bin")
