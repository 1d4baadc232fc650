"""The rows of fastText: hashes of the released program, and n-grams of a plain loop."""

import numpy as np
import pytest

from zoo.tokenizers import subwords

HASHES = {
    "a": 3826002220,
    "<wh": 1048167652,
    "<where>": 2319392596,
    "é": 1023043777,
    "naï": 3249590546,
    "日本": 4164387409,
}


def loop(word, min_n, max_n):
    """Return the n-grams of a word in the order of the program."""
    if word == "</s>":
        return []
    text = f"<{word}>"
    return [
        text[start : start + n]
        for start in range(len(text))
        for n in range(min_n, min(max_n, len(text) - start) + 1)
        if not (n == 1 and (start in (0, len(text) - 1)))
    ]


def test_hashes_extend_the_sign_of_a_byte():
    assert subwords.hashes(list(HASHES)).tolist() == list(HASHES.values())


@pytest.mark.parametrize(("min_n", "max_n"), [(3, 6), (1, 2), (5, 5), (2, 9)])
def test_n_grams_are_those_of_a_loop(min_n, max_n):
    words = ["where", "</s>", "é", "日本語", "a", "naïve", "𝄞clef", "é" * 12]
    numbers, hashes = subwords.ngrams(words, min_n, max_n)
    for number, word in enumerate(words):
        expected = subwords.hashes(loop(word, min_n, max_n))
        assert hashes[numbers == number].tolist() == expected.tolist(), word


def test_the_n_grams_of_where_are_those_of_the_paper():
    grams = "<wh <whe <wher <where whe wher where where> her here here> ere ere> re>"
    assert " ".join(loop("where", 3, 6)) == grams


def test_rows_begin_with_the_word_if_it_is_in_the_vocabulary():
    rows = subwords.word_rows(["where", "there"], np.array([4, -1]), 10, 1000, 3, 6)
    table = rows.padded()
    assert table[0, 0] == 4
    assert np.diff(rows.first).tolist() == [15, 14]
    assert table[1, -1] == -1
    expected = 10 + subwords.hashes(loop("there", 3, 6)) % 1000
    assert table[1, :-1].tolist() == expected.tolist()


@pytest.mark.parametrize(("buckets", "max_n"), [(0, 6), (1000, 0)])
def test_without_n_grams_a_word_has_its_own_row_alone(buckets, max_n):
    rows = subwords.word_rows(["a", "b"], np.array([1, -1]), 5, buckets, 3, max_n)
    assert rows.rows.tolist() == [1]
    assert rows.first.tolist() == [0, 1, 1]


def test_n_grams_of_words_have_the_rows_of_the_program():
    assert subwords.sentence_rows(["good", "movie"], 0, 2_000_000, 2).tolist() == [1646615]
    rows = subwords.sentence_rows(["a", "good", "movie"], 7, 100, 3)
    assert len(rows) == 3  # a good, good movie, a good movie
    assert rows[1] == 7 + 1646615 % 100
    assert len(subwords.sentence_rows(["a"], 7, 100, 3)) == 0
