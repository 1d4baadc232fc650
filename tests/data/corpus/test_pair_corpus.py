"""A corpus of pairs keeps every pair together when it is read, split or counted."""

import numpy as np
import pytest

from tests.data.tiny_corpus import KINDS, documents, numbered, tokenizer
from train.data.corpus import prepare
from train.data.corpus.pair_corpus import END_OF_TEXT, PairCorpus
from train.data.sources import parallel_text


@pytest.mark.parametrize("kind", KINDS)
def test_a_corpus_of_pairs_has_two_documents_per_pair(tmp_path, kind):
    texts = [line for text in documents()[:9] for line in text.splitlines() if line.strip()]
    pairs = [*zip(texts, reversed(texts), strict=True), ("A. B! C", "-"), ("1", "日")]
    corpus = prepare.prepare(parallel_text.strings(pairs), tokenizer(kind), tmp_path, None)
    assert corpus.num_pairs == len(pairs)
    for number in (0, 1, 17, len(pairs) - 1):
        for side in (0, 1):
            start, stop = corpus.documents[2 * number + side :][:2]
            ids = tokenizer(kind).encode(pairs[number][side], add_special_tokens=False).ids
            assert corpus.read(start, stop).tolist() == ids


@pytest.mark.parametrize(("pairs", "size"), [(2, 1), (20, 1), (39, 1), (40, 2), (50_000, 2000)])
def test_a_split_keeps_pairs_together_and_holds_out_at_most_a_twentieth_and_2000(pairs, size):
    corpus = numbered(2 * pairs, longest=3, sentence=2, cls=PairCorpus)
    train, held_out = corpus.split()
    assert (train.num_pairs, held_out.num_pairs) == (
        pairs - size,
        size,
    )
    assert np.array_equal(np.append(train.documents[:-1], held_out.documents), corpus.documents)
    assert np.array_equal(np.append(train.sentences[:-1], held_out.sentences), corpus.sentences)
    assert np.array_equal(np.append(train.bytes[:-1], held_out.bytes), corpus.bytes)
    for part in (train, held_out):
        assert [*part.documents[[0, -1]]] == [*part.sentences[[0, -1]]]
        assert len(part.bytes) == len(part.sentences)


def test_fewer_than_two_pairs_are_not_split():
    with pytest.raises(ValueError, match=r"^1 pair cannot be split"):
        numbered(2, cls=PairCorpus).split()


class Unchecked(parallel_text.PairSource):
    """Pairs that were not validated."""

    fingerprint = "unchecked"
    num_bytes = None
    name = "unchecked pairs"

    def pairs(self):
        yield from [("one", "two"), ("\x01", "four")]

    def location(self, number, side):
        raise AssertionError


def test_a_text_that_has_no_tokens_is_refused(tmp_path):
    with pytest.raises(ValueError, match="some of the 4 texts have no tokens"):
        prepare.prepare(Unchecked(), tokenizer("wordpiece"), tmp_path, None)


class Words:
    def token_to_id(self, token):
        return {END_OF_TEXT: 7}[token]


def test_the_targets_and_their_ends_are_predicted():
    corpus = numbered(80, cls=PairCorpus)
    for part in (corpus, *corpus.split()):
        bounds = part.documents
        expected = []
        for i in range(1, len(bounds) - 1, 2):
            expected += [*part.tokens[bounds[i] : bounds[i + 1]].tolist(), 7]
        predicted = part.predicted_tokens(Words())
        assert len(predicted) == len(expected)
        assert predicted[:].tolist() == expected
        for start in (0, 1, 5, len(expected) - 3):
            for stop in (start, start + 1, start + 50):
                assert predicted[start:stop].tolist() == expected[start:stop]
