"""Length buckets have every pair once per epoch, in an order set only by seed and step."""

import collections
import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from tests.data.tiny_corpus import numbered
from train.data.batches import length_buckets
from train.data.corpus.pair_corpus import PairCorpus
from zoo.inference.length_buckets import bucket_boundaries

L, B = 48, 4
PAIRS = 600


@pytest.fixture(scope="module")
def pair_corpus():
    """Return sides of 1 to 60 tokens; every token encodes its position in the corpus."""
    return numbered(2 * PAIRS, longest=5, cls=PairCorpus)


@pytest.fixture(scope="module")
def train(pair_corpus):
    return length_buckets.LengthBuckets(length=L).train(pair_corpus, B, seed=7)


def pairs(batch) -> list[tuple]:
    """Return the pairs of a batch, without padding."""
    rows = zip(*batch.values(), strict=True)
    return [(tuple(a[:m].tolist()), tuple(b[:n].tolist())) for a, b, m, n in rows if m or n]


def fitting_pairs(corpus, length=L) -> list[tuple]:
    """Return all pairs of a corpus that fit into the length, in order."""
    bounds = itertools.pairwise(corpus.documents.tolist())
    sides = [tuple(corpus.tokens[start:stop].tolist()) for start, stop in bounds]
    all_pairs = zip(sides[::2], sides[1::2], strict=True)
    return [pair for pair in all_pairs if max(map(len, pair)) < length]


def steps(corpus) -> int:
    """Return the number of batches in an epoch."""
    return len(length_buckets.LengthBuckets(length=L).evaluate(corpus, B))


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


def concatenate(parts: list[dict]) -> dict:
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def test_a_batch_has_the_stated_arrays(train):
    for step in range(40):
        batch = train(step)
        rows, length = batch["source"].shape
        assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
            "source": ((rows, length), np.int32),
            "target": ((rows, length), np.int32),
            "source_length": ((rows,), np.int32),
            "target_length": ((rows,), np.int32),
        }
        for side in ("source", "target"):
            padding = np.arange(length) >= batch[f"{side}_length"][:, None]
            assert (batch[side][padding] == 0).all()
            assert (batch[side][~padding] >= 10).all()


def test_a_pair_is_in_the_first_bucket_that_holds_it_and_an_end_token(pair_corpus, train):
    used = sorted({train(step)["source"].shape[1] for step in range(200)})
    for step in range(40):
        length = train(step)["source"].shape[1]
        for pair in pairs(train(step)):
            longest = max(map(len, pair))
            assert length == next(boundary for boundary in used if boundary > longest)


def test_a_bucket_with_few_pairs_is_merged_into_the_next(pair_corpus):
    sides = np.diff(pair_corpus.documents).reshape(-1, 2).max(1) + 1
    buckets = length_buckets.LengthBuckets(length=L)._buckets(pair_corpus, B, (0, 1))
    lengths = [bucket.length for bucket in buckets]
    assert set(lengths) < set(bucket_boundaries(L))
    for low, bucket in zip([0, *lengths], buckets, strict=False):
        assert (
            bucket.pairs.tolist()
            == np.flatnonzero((low < sides) & (sides <= bucket.length)).tolist()
        )
        assert len(bucket.pairs) >= length_buckets.FEW_BATCHES * bucket.rows or bucket.length == L


@pytest.mark.parametrize("length", [48, 60, 61, 100])
def test_batches_have_about_the_same_number_of_tokens(pair_corpus, length):
    batches = length_buckets.LengthBuckets(length=length).train(pair_corpus, B, 0)
    shapes = {batches(step)["source"].shape for step in range(200)}
    assert {shape[1] for shape in shapes} <= set(bucket_boundaries(length))
    assert len(shapes) == len({shape[1] for shape in shapes}) > 2  # one program per bucket
    for rows, boundary in shapes:
        assert rows % B == 0
        assert rows * boundary <= B * length < (rows + B) * boundary


def test_an_epoch_has_every_pair_exactly_once(pair_corpus, train):
    count = steps(pair_corpus)
    assert train.num_examples == len(fitting_pairs(pair_corpus)) > 0.9 * PAIRS
    for epoch in (0, 1, 5):
        epoch_pairs = [pair for step in range(count) for pair in pairs(train(epoch * count + step))]
        assert sorted(epoch_pairs) == sorted(fitting_pairs(pair_corpus))


def test_only_the_last_batch_of_a_bucket_is_padded(pair_corpus, train):
    padded = collections.Counter()
    for step in range(steps(pair_corpus)):
        batch = train(step)
        is_pair = batch["source_length"] > 0
        assert (is_pair == (batch["target_length"] > 0)).all()
        assert (is_pair[:-1] >= is_pair[1:]).all()
        padded[batch["source"].shape[1]] += not is_pair.all()
    assert len(padded) > 2
    assert max(padded.values()) == 1


def test_every_epoch_has_different_batches_in_another_order(pair_corpus, train):
    count = steps(pair_corpus)
    first, second = (
        [pairs(train(epoch * count + step)) for step in range(count)] for epoch in (0, 1)
    )
    assert not {tuple(batch) for batch in first} & {tuple(batch) for batch in second}
    lengths = [
        [train(epoch * count + step)["source"].shape[1] for step in range(count)]
        for epoch in (0, 1)
    ]
    assert lengths[0] != lengths[1]
    assert sorted(lengths[0]) == sorted(lengths[1]) != lengths[0]


def test_a_batch_is_a_function_of_seed_and_step(pair_corpus, train):
    same_seed = length_buckets.LengthBuckets(length=L).train(pair_corpus, B, seed=7)
    other_seed = length_buckets.LengthBuckets(length=L).train(pair_corpus, B, seed=8)
    for step in (900, 3, 0, 3, 10**9):
        assert equal(same_seed(step), train(step))
        assert not equal(other_seed(step), train(step))


def test_the_prefetched_batches_are_the_same_from_any_step(pair_corpus, train):
    for start in (0, 5, steps(pair_corpus) - 3, 123_456):
        batches = itertools.islice(train.prefetched(start), 12)
        assert all(equal(batch, train(start + i)) for i, batch in enumerate(batches))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_processes_together_see_what_one_process_sees(pair_corpus, train, count):
    held_out = length_buckets.LengthBuckets(length=L).evaluate(pair_corpus, B)
    processes = [
        length_buckets.LengthBuckets(length=L).train(pair_corpus, B, 7, (p, count))
        for p in range(count)
    ]
    evaluations = [
        length_buckets.LengthBuckets(length=L).evaluate(pair_corpus, B, (p, count))
        for p in range(count)
    ]
    for step in (*range(30), 10**6):
        assert equal(concatenate([process(step) for process in processes]), train(step))
    for step in range(len(held_out)):
        assert equal(concatenate([process(step) for process in evaluations]), held_out(step))
    assert {process.num_examples for process in processes} == {train.num_examples}
    assert {len(process) for process in evaluations} == {len(held_out)}


def test_rows_that_processes_cannot_share_are_refused(pair_corpus):
    source = length_buckets.LengthBuckets(length=L)
    for make in (partial(source.train, seed=0), source.evaluate):
        with pytest.raises(ValueError, match="4 rows cannot be shared by 3 processes"):
            make(pair_corpus, B, process=(0, 3))


def test_evaluation_has_every_pair_exactly_once_bucket_by_bucket_in_order(pair_corpus):
    batches = length_buckets.LengthBuckets(length=L).evaluate(pair_corpus, B)
    evaluated = [pair for step in range(len(batches)) for pair in pairs(batches(step))]
    used = sorted({batches(step)["source"].shape[1] for step in range(len(batches))})
    bucket = lambda pair: next(boundary for boundary in used if boundary > max(map(len, pair)))
    assert evaluated == sorted(fitting_pairs(pair_corpus), key=bucket)
    assert batches.num_examples == len(evaluated)


def test_a_part_of_a_corpus_stays_within_its_bounds(pair_corpus):
    parts = pair_corpus.split()
    pairs_of_parts = []
    for part in parts:
        batches = length_buckets.LengthBuckets(length=L).evaluate(part, B)
        pairs_of_parts.append(
            {pair for step in range(len(batches)) for pair in pairs(batches(step))}
        )
        assert sorted(pairs_of_parts[-1]) == fitting_pairs(part)
    assert not pairs_of_parts[0] & pairs_of_parts[1]


def test_pairs_that_are_too_long_are_dropped_and_counted_never_truncated(pair_corpus):
    dropped = PAIRS - len(fitting_pairs(pair_corpus, 20))
    batches = length_buckets.LengthBuckets(length=20).train(pair_corpus, B, 0)
    assert batches.num_examples == PAIRS - dropped
    train_pairs = [pair for step in range(60) for pair in pairs(batches(step))]
    assert set(train_pairs) == set(fitting_pairs(pair_corpus, 20))
    longest = int(np.diff(pair_corpus.documents).max())
    message = length_buckets.too_long(pair_corpus, 20)
    assert message.startswith(f"dropped {dropped} of 600 pairs because a side has more than 19 ")
    assert f"the longest has {longest}" in message
    assert "\n" not in message
    assert length_buckets.too_long(pair_corpus, longest) is not None
    assert length_buckets.too_long(pair_corpus, longest + 1) is None


def test_a_corpus_without_a_fitting_pair_is_refused():
    long = numbered(10, longest=1, sentence=1, cls=PairCorpus)
    assert length_buckets.LengthBuckets(length=2).train(long, B, 0).num_examples == 5
    source = length_buckets.LengthBuckets(length=1)
    for make in (partial(source.train, seed=0), source.evaluate):
        with pytest.raises(
            ValueError, match="no pair has fewer than 1 tokens on both sides; the shortest"
        ):
            make(long, B)


def test_an_id_out_of_range_is_refused_where_it_is_read(pair_corpus):
    batches = length_buckets.LengthBuckets(length=L).evaluate(
        replace(pair_corpus, vocab_size=100), B
    )
    with pytest.raises(ValueError, match="delete the corpus and prepare it again"):
        [batches(step) for step in range(len(batches))]
