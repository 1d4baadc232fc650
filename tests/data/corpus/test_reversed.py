"""A reversed corpus is its text from the last token to the first, document by document."""

from dataclasses import replace

import numpy as np
import pytest

from tests.data.tiny_corpus import numbered
from train.data.batches.contiguous import ContiguousWindows
from train.data.batches.windows import Windows
from train.data.corpus.corpus import Corpus
from train.data.corpus.reversed import Reversed

END = 1


def corpus(text: str) -> Corpus:
    """Return the corpus of some letters, where `/` is the token that begins documents."""
    tokens = np.array([END if letter == "/" else ord(letter) for letter in text], np.uint16)
    starts = [place for place, letter in enumerate(text) if letter == "/" or place == 0]
    if len(text) - 1 in starts[1:]:  # the last marker belongs to the last document
        starts.remove(len(text) - 1)
    bounds = np.array([*starts, len(text)])
    return Corpus(
        tokens=tokens,
        words=np.packbits(np.ones(len(text), bool), bitorder="little"),
        sentences=bounds,
        documents=bounds,
        bytes=np.array([len(text[:bound].replace("/", "")) for bound in bounds]),
        vocab_size=200,
        fingerprint="letters",
    )


def letters(tokens) -> str:
    return "".join("/" if token == END else chr(token) for token in tokens)


def read_all(view) -> str:
    return letters(view.read(view.start, view.stop))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/ab/cde/", "/edc/ba/"),  # a whole text
        ("/ab/cde", "/edc/ba"),  # its first part, which ends at the start of a document
        ("ab/cde/", "/edc/ba"),  # its last part, which begins inside of a document
        ("ab/cde", "edc/ba"),
        ("abc", "cba"),
        ("/abc", "/cba"),
    ],
)
def test_every_reversed_document_begins_with_its_token(text, expected):
    view = Reversed.of(corpus(text), END)
    assert read_all(view) == expected
    for start in range(len(text) + 1):
        for stop in range(start, len(text) + 1):
            assert letters(view.read(start, stop)) == expected[start:stop]
    for place in view.documents[1:-1]:
        assert expected[place] == "/"
    assert view.num_bytes == corpus(text).num_bytes
    assert list(view.bytes) == [len(expected[:place].replace("/", "")) for place in view.documents]


def test_a_part_of_a_corpus_keeps_to_its_own_tokens():
    first, last = numbered().split(0.3)
    for part in (first, last):
        view = Reversed.of(part, END)
        tokens = view.read(view.start, view.stop)
        assert (tokens == np.arange(part.start, part.stop)[::-1] + 10).all()
        starts = view.word_starts(view.start, view.stop)
        assert (starts == part.word_starts(part.start, part.stop)[::-1]).all()


def test_the_held_out_part_is_the_end_of_the_text():
    text = numbered()
    begins = replace(text, tokens=text.tokens.copy())
    begins.tokens[begins.documents[:-1]] = END
    parts = Reversed.of(begins, END).split(0.3)
    for view, part in zip(parts, begins.split(0.3), strict=True):
        assert (view.start, view.stop) == (part.start, part.stop)
        tokens = np.sort(view.read(view.start, view.stop))
        assert (tokens == np.sort(part.read(part.start, part.stop))).all()
        assert view.read(view.start, view.start + 1)[0] == END or not view.rotates


@pytest.mark.parametrize("batches", [Windows(length=3), ContiguousWindows(length=3)])
def test_batches_of_a_view_are_those_of_the_reversed_text(batches):
    view, copy = Reversed.of(corpus("/abcd/ef/ghijkl"), END), corpus("/lkjihg/fe/dcba")
    for actual, expected in (
        (batches.train(view, 2, 0), batches.train(copy, 2, 0)),
        (batches.evaluate(view, 2), batches.evaluate(copy, 2)),
    ):
        for number in range(2):
            for name, array in expected(number).items():
                assert (actual(number)[name] == array).all()
