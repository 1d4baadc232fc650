"""Counting: equal to a dictionary's, whatever the memory allows at a time."""

from collections import Counter

import numpy as np
import pytest

from tests.counting import tiny_text
from tests.counting.tiny_text import END, V
from train.counting import counts
from train.data import sorting


def by_dictionary(texts, n) -> Counter:
    """The n-grams of a text; those that begin a document begin with END."""
    actual = Counter()
    for text in texts:
        padded = [END, *text, END]
        if n == 1:
            actual.update((token,) for token in padded[1:])
        else:
            actual.update(tuple(padded[i : i + n]) for i in range(len(padded) - n + 1))
    return actual


def ngrams(levels, n) -> list[tuple]:
    """The n-grams of the rows of an order."""
    rows = np.arange(V)[:, None]
    for level in levels[1:n]:
        rows = np.concatenate([rows[level.contexts()], level.last[:, None]], 1)
    return [tuple(row) for row in rows.tolist()]


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
def test_counts_equal_those_of_a_dictionary(tmp_path, chunk):
    texts = tiny_text.sentences(count=10)
    levels = tiny_text.count(tmp_path, texts, 4, chunk)
    for n, level in enumerate(levels, 1):
        actual = dict(zip(ngrams(levels, n), level.counts.tolist(), strict=True))
        assert {gram: count for gram, count in actual.items() if count} == by_dictionary(texts, n)


def test_rows_are_sorted_and_suffixes_are_the_ngram_without_its_first_token(tmp_path):
    levels = tiny_text.count(tmp_path, tiny_text.sentences(), 4)
    for n in range(2, 5):
        rows, below = ngrams(levels, n), ngrams(levels, n - 1)
        assert rows == sorted(rows)
        assert [below[row] for row in levels[n - 1].suffix] == [gram[1:] for gram in rows]
        assert (levels[n - 1].opens == [gram[0] == END for gram in rows]).all()


def test_an_order_beyond_the_longest_document_has_no_ngrams(tmp_path):
    levels = tiny_text.count(tmp_path, [[2, 3]], 6)
    assert [len(level.last) for level in levels] == [V, 3, 2, 1, 0, 0]


def test_chunks_are_counted_as_a_whole_and_know_their_rows(tmp_path):
    draw = np.random.default_rng(0)
    chunks = [draw.integers(0, 50, size) for size in (30, 0, 1, 200)]
    counted, rows = sorting.count(chunks, tmp_path / "files", 10)
    keys, numbers = np.unique(np.concatenate(chunks), return_counts=True)
    assert (counted.keys == keys).all()
    assert (counted.counts == numbers).all()
    for chunk, row in zip(chunks, rows, strict=True):
        assert (counted.keys[row] == chunk).all()


def test_too_many_ngrams_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(counts, "MOST", 10)
    with pytest.raises(ValueError, match=r"n-grams of order 2, but at most 10"):
        tiny_text.count(tmp_path, tiny_text.sentences())
