"""A sample is bounded, seeded and from everywhere, and of a small text all of it."""

import itertools
import re
import tracemalloc

import pytest

from tests.data.tiny_corpus import documents
from train.data import sampling
from train.data.sources import text
from train.data.sources.source import Piece, Source


@pytest.fixture(autouse=True)
def small_units(monkeypatch):
    monkeypatch.setattr(sampling, "UNIT", 200)


def numbered(count: int) -> text.Strings:
    """One document whose words tell their place."""
    return text.strings([" ".join(f"w{place:06}" for place in range(count))])


def size(texts) -> int:
    return sum(len(text.encode()) for text in texts)


@pytest.mark.parametrize("spare", [0, 1, 10**9])
def test_a_text_within_the_bound_comes_whole_document_by_document(spare):
    texts = [*documents()[:40], "日本語" * 300, "", "unbroken" * 99]
    assert sampling.sample(text.strings(texts), size(texts) + spare) == texts


def test_a_text_one_byte_over_the_bound_is_halved():
    texts = documents()[:40]
    actual = sampling.sample(text.strings(texts), size(texts) - 1)
    assert 0.4 < size(actual) / size(texts) < 0.6


@pytest.mark.parametrize("most", [10_000, 13_000, 17_000])
def test_a_sample_is_at_most_the_bound_and_about_half_of_it_at_least(most):
    actual = sampling.sample(numbered(50_000), most)
    assert 0.45 * most < size(actual) <= most


@pytest.mark.parametrize("seed", range(4))
def test_every_tenth_of_a_text_gives_a_tenth_of_the_sample(seed):
    actual = sampling.sample(numbered(50_000), 40_000, seed)
    words = re.findall(r"w(\d+)", " ".join(actual))
    tenths = [sum(int(word) // 5000 == tenth for word in words) for tenth in range(10)]
    assert max(tenths) <= 1.2 * min(tenths)


def test_one_unit_of_every_pair_is_kept_at_random():
    kept = [sampling._is_kept(number, 0, 0) for number in range(2000)]
    assert all(a != b for a, b in zip(kept[::2], kept[1::2], strict=True))
    assert 400 < sum(kept[::2]) < 600


def test_the_seed_alone_decides():
    source = numbered(20_000)
    assert sampling.sample(source, 20_000, 1) == sampling.sample(source, 20_000, 1)
    assert sampling.sample(source, 20_000, 1) != sampling.sample(source, 20_000, 2)


def test_no_word_is_cut_and_texts_are_in_order():
    actual = sampling.sample(numbered(20_000), 20_000)
    assert all(re.fullmatch(r" ?(w\d{6})( w\d{6})*", part) for part in actual)
    words = re.findall(r"w\d+", "".join(actual))
    assert words == sorted(words)
    assert len(set(words)) == len(words)


def test_short_documents_are_taken_whole():
    texts = [f"document {number}" for number in range(5000)]
    actual = sampling.sample(text.strings(texts), 10_000)
    assert set(actual) <= set(texts)
    assert len(set(actual)) == len(actual) > 100


class Long(Source):
    """One document of a hundred pieces."""

    fingerprint = "long"

    def documents(self):
        raise AssertionError("the document was read whole")

    def pieces(self):
        return itertools.starmap(Piece, ((0, f" {n} words" * 20_000) for n in range(100)))


def test_a_long_document_is_never_in_memory(monkeypatch):
    monkeypatch.setattr(sampling, "UNIT", 5000)
    tracemalloc.start()
    actual = sampling.sample(Long(), 500_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 200_000 < size(actual) <= 500_000
    assert peak < 2_500_000  # of 18 million
