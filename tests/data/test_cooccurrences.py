"""Pairs of words are counted as by two nested loops, in any chunks, once for all runs."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from train.data import cooccurrences, sorting
from train.data.cooccurrences import Rule
from train.data.corpus.corpus import Corpus
from train.data.permutation import Permutation

UNKNOWN, LINE_END, V = 0, 1, 40


def corpus(tokens) -> Corpus:
    """Return a text of one sentence."""
    tokens = np.asarray(tokens, np.uint16)
    ends = np.array([0, len(tokens)])
    return Corpus(
        tokens=tokens,
        words=np.packbits(np.ones(len(tokens), bool)),
        sentences=ends,
        documents=ends,
        bytes=4 * ends,
        vocab_size=V,
        fingerprint=str(hash(tokens.tobytes())),
    )


def rule(window: int) -> Rule:
    numbers = np.arange(V)
    return Rule(window=window, is_word=numbers > LINE_END, ends_line=numbers == LINE_END)


def random_text(size=400) -> np.ndarray:
    draw = np.random.default_rng(0)
    return np.where(draw.random(size) < 0.1, LINE_END, draw.zipf(1.3, size) % V)


def brute_force(tokens, window: int) -> dict[tuple[int, int], Fraction]:
    """Return the counts of ordered pairs, as the released program has them."""
    counts: Counter = Counter()
    words: list[int] = []
    for token in tokens:
        if token == LINE_END:
            words = []
        elif token != UNKNOWN:
            for distance, other in enumerate(reversed(words[-window:]), 1):
                counts[int(other), int(token)] += Fraction(1, distance)
                counts[int(token), int(other)] += Fraction(1, distance)
            words.append(token)
    return counts


def both_orders(records) -> dict[tuple[int, int], float]:
    triples = records.tolist()
    return {(i, j): x for i, j, x in triples} | {(j, i): x for i, j, x in triples}


@pytest.mark.parametrize("window", [1, 2, 7])
@pytest.mark.parametrize("memory", [1, 50, 10**6])
def test_counts_are_those_of_a_loop_over_words_in_any_chunks(window, memory, tmp_path):
    tokens = random_text()
    parts = list(cooccurrences.count(corpus(tokens), rule(window), tmp_path, memory))
    counted = both_orders(np.concatenate(parts))
    expected = brute_force(tokens, window)
    assert len(expected) > 100
    assert counted == {pair: np.float32(count) for pair, count in expected.items()}
    assert max(map(len, parts)) <= max(memory, sorting.FAN_IN)


def test_each_pair_is_there_once_in_an_order_that_chunks_do_not_change(tmp_path):
    text = corpus(random_text())
    one = np.concatenate(list(cooccurrences.count(text, rule(5), tmp_path, 20)))
    other = np.concatenate(list(cooccurrences.count(text, rule(5), tmp_path, 10**6)))
    assert (one == other).all()
    assert (one["first"] <= one["second"]).all()
    assert len(np.unique(one[["first", "second"]])) == len(one)
    assert abs(np.corrcoef(one["first"], np.arange(len(one)))[0, 1]) < 0.15


def test_a_text_is_counted_once_and_a_part_of_it_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    text = corpus(random_text())
    first = cooccurrences.records(text, rule(5))
    with monkeypatch.context() as patch:
        patch.setattr(cooccurrences, "count", None)
        assert (cooccurrences.records(text, rule(5)) == first).all()
    assert len(cooccurrences.records(text, rule(4))) < len(first)
    files = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["lock", "lock", "records", "records"]


def test_a_text_without_a_pair_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"^no line of the text has two words .* within 5 words"):
        cooccurrences.records(corpus([2, LINE_END, UNKNOWN, 3, LINE_END]), rule(5))


@pytest.mark.parametrize("bits", [2, 7, 8, 13])
def test_a_permutation_has_every_place_once_and_can_be_undone(bits):
    permutation, numbers = Permutation(bits), np.arange(1 << bits)
    places = permutation(numbers)
    assert (np.sort(places) == numbers).all()
    assert (permutation.inverse(places) == numbers).all()


def test_a_permutation_of_large_integers_can_be_undone():
    numbers = np.random.default_rng(0).integers(0, 1 << 63, 1000)
    places = Permutation(63)(numbers)
    assert (places >= 0).all()
    assert (Permutation(63).inverse(places) == numbers).all()
