"""`zoo neighbors`, `analogy`, `similarity`, `embed`, `map`, and `evaluate` for word vectors."""

import sys
from pathlib import Path

import numpy as np
import pytest

import zoo
from tests import tiny
from tests.commands.test_command_line import refusal, run
from tests.inference.tiny_words import VECTORS, by_hand, with_ngrams
from train.reporting import word_map
from zoo.tokenizers import units

VALID = {name: x for name, x in VECTORS.items() if name != "nothing"}


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Each test in a folder with tiny word vectors, and with questions about them."""
    monkeypatch.chdir(tmp_path)
    zoo.save(by_hand(VALID), "words")
    Path("questions.txt").write_text(": gram1\nman king woman queen\nman king woman prince\n")
    Path("pairs.tsv").write_text("man\tking\t1\nking\tqueen\t2\nbank\triver\t9\nbank\tsea\t5\n")


def test_neighbors_are_printed_with_their_cosines(monkeypatch, capsys):
    printed = run(monkeypatch, "neighbors", "words", "king", "--count", "2", read=capsys)
    assert printed == "0.732 kingdom\n0.709 man\n"
    line = refusal(monkeypatch, capsys, "neighbors", "words", "Bank")
    assert line == "zoo: 'Bank' is not in the vocabulary, but 'bank' is: use that"


def test_an_analogy_is_solved(monkeypatch, capsys):
    printed = run(monkeypatch, "analogy", "words", "man", "king", "woman", read=capsys)
    assert printed.split()[1:] == ["queen"]


def test_the_similarity_of_two_words_is_printed(monkeypatch, capsys):
    assert run(monkeypatch, "similarity", "words", "king", "queen", read=capsys) == "0.005\n"
    line = refusal(monkeypatch, capsys, "similarity", "words", "king")
    assert line == "zoo: zoo similarity takes two words, not 1, or a file with --data"
    line = refusal(monkeypatch, capsys, "similarity", "words", "king", "--data", "pairs.tsv")
    assert line == "zoo: zoo similarity takes two words or --data, not both"


def test_word_vectors_are_evaluated_by_what_the_file_has(monkeypatch, capsys):
    printed = run(monkeypatch, "evaluate", "words", "--data", "questions.txt", read=capsys)
    count = "(1 of 1, left out for unknown words: 1)"
    zero = "0.0000 (0 of 0, left out for unknown words: 0)"
    assert printed.splitlines() == [
        f"gram1: 1.0000 {count}",
        f"semantic: {zero}",
        f"syntactic: 1.0000 {count}",
        f"total: 1.0000 {count}",
    ]
    printed = run(monkeypatch, "evaluate", "words", "--data", "pairs.tsv", read=capsys)
    assert printed.splitlines()[2] == "pairs: 3, left out for unknown words: 1"
    assert run(monkeypatch, "similarity", "words", "--data", "pairs.tsv", read=capsys) == printed


def test_fasttext_is_evaluated_too(monkeypatch, capsys):
    loaded = with_ngrams()
    rows = loaded.params["rows"]
    params = {
        "rows": rows,
        "outputs": np.zeros((loaded.model.config.vocab_size, 8), np.float32),
        "counts": np.ones(loaded.model.config.vocab_size, np.int32),
    }
    zoo.save(loaded._replace(params=params), "ngrams")
    assert run(monkeypatch, "neighbors", "ngrams", "unheard", read=capsys).count("\n") == 4
    printed = run(monkeypatch, "evaluate", "ngrams", "--data", "pairs.tsv", read=capsys)
    assert printed.splitlines()[2] == "pairs: 4, left out for unknown words: 0"


def test_texts_are_embedded_and_printed_or_written(monkeypatch, capsys):
    printed = run(monkeypatch, "embed", "words", "king bank", "river", read=capsys)
    assert printed == "0.5 0.5 1.05\n0 0.1 1\n"
    run(monkeypatch, "embed", "words", "king", "--out", "vectors.npy")
    np.testing.assert_allclose(np.load("vectors.npy"), [VECTORS["king"]])
    line = refusal(monkeypatch, capsys, "embed", "words", "king", "--out", "vectors.txt")
    assert line == "zoo: vectors are written as .npy, not as vectors.txt"


def test_a_layer_that_does_not_exist_is_one_line(monkeypatch, capsys):
    model = tiny.TABLE["rnn"].model
    words = units.words(["<unk>", "</s>", "a", "b"])
    zoo.save(zoo.Loaded(model, tiny.wide(model), words), "rnn")
    line = refusal(monkeypatch, capsys, "embed", "rnn", "a b", "--layer", "1")
    assert line.startswith("zoo: RNNLM offers the hidden states of its last layer only")


def test_a_map_is_drawn_of_some_or_of_the_most_frequent_words(monkeypatch, capsys):
    assert run(monkeypatch, "map", "words", read=capsys) == "picture: map.png\n"
    assert Path("map.png").read_bytes().startswith(b"\x89PNG")
    run(monkeypatch, "map", "words", "king", "queen", "man", "--out", "map.svg")
    assert "<svg" in Path("map.svg").read_text()


def test_what_a_map_needs_is_one_line(monkeypatch, capsys):
    words = ("map", "words", "king", "queen", "man")
    line = refusal(monkeypatch, capsys, *words, "--perplexity", "3")
    assert "must be above 0 and less than the number of words, 3, not 3" in line
    line = refusal(monkeypatch, capsys, *words[:4])
    assert line == "zoo: a map needs at least 3 words, not 2"
    line = refusal(monkeypatch, capsys, *words, "--out", "map.jpg")
    assert line == "zoo: a map is written as .png, .svg, .pdf, .html, not as map.jpg"
    monkeypatch.setitem(sys.modules, "plotly.subplots", None)  # as if it were not installed
    line = refusal(monkeypatch, capsys, *words, "--out", "map.html")
    assert line.startswith("zoo: an interactive map needs plotly: run `pip install plotly`")


def test_a_map_is_an_interactive_page_where_plotly_is_there(monkeypatch):
    pytest.importorskip("plotly")
    run(monkeypatch, "map", "words", "king", "queen", "man", "--out", "map.html")
    page = Path("map.html").read_text("utf-8")
    assert '"king","queen","man"' in page


def test_a_map_is_the_same_every_time():
    x_ND = np.random.default_rng(0).normal(size=(12, 5))
    words = [f"w{number}" for number in range(12)]
    for name in ("one.png", "other.png"):
        word_map.draw(words, x_ND, name)
    assert Path("one.png").read_bytes() == Path("other.png").read_bytes()


def test_word_vectors_are_not_evaluated_as_a_language_model(monkeypatch, capsys):
    line = refusal(monkeypatch, capsys, "evaluate", "words")
    assert line.startswith("zoo: words is not a language model: give --data, with analogies")
