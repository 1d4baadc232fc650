"""Batches of pairs of about one length, so that little of a batch is padding.

A batch is {"source": int32 [b, l], "target": int32 [b, l], "source_length": int32 [b],
"target_length": int32 [b]}, padded with 0 on the right. A pair is in the first bucket that holds
its longer side and the token that an objective ends it with. The step is compiled once per bucket,
so a bucket with few pairs is merged into the next larger one. A batch of short pairs has more of
them: b is the largest multiple of the batch size with which it has no more tokens than one of long
pairs.
"""

import functools
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import grain
import numpy as np

from train.data.batches.batches import ONE_PROCESS, Batch, Batches
from train.data.corpus.pair_corpus import PairCorpus
from train.data.sources.parallel_text import FIELDS
from zoo.inference.length_buckets import bucket_boundaries

FEW_BATCHES = 4  # with fewer, a bucket is not worth the time to compile a step for it


class Bucket(NamedTuple):
    """The pairs that are padded to one length."""

    length: int
    rows: int  # of a batch, over all processes
    pairs: np.ndarray  # their numbers: int32


@dataclass(frozen=True, kw_only=True)
class LengthBuckets:
    """Pairs, both sides of which have fewer than `length` tokens; longer ones are dropped."""

    length: int

    def train(
        self, corpus: PairCorpus, batch_size: int, seed: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return every pair once per epoch; the order is a function of seed and epoch alone.

        The pairs of a bucket are shuffled and cut into batches, then the batches are shuffled. The
        last batch of a bucket is filled up with rows of length 0.

        Raises:
          ValueError: If no pair is short enough, or if processes cannot share the rows of a batch.
        """
        buckets = self._buckets(corpus, batch_size, process)
        places = _places(buckets)
        count = len(places)

        @functools.lru_cache(maxsize=2)  # those that batches prepared ahead may come from
        def shuffled(epoch: int) -> tuple[list[Bucket], np.ndarray]:
            random = np.random.default_rng([seed, epoch])
            order = [bucket._replace(pairs=random.permutation(bucket.pairs)) for bucket in buckets]
            return order, random.permutation(places)

        def example(step: int) -> Batch:
            epoch, number = divmod(step, count)
            buckets, places = shuffled(epoch)
            return _batch(corpus, buckets, places[number], process)

        return Batches(grain.MapDataset.range(sys.maxsize).map(example), _count(buckets))

    def evaluate(
        self, corpus: PairCorpus, batch_size: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return every pair exactly once, bucket by bucket and in order.

        Raises:
          ValueError: As `train`.
        """
        buckets = self._buckets(corpus, batch_size, process)
        places = _places(buckets)
        example = lambda step: _batch(corpus, buckets, places[step], process)
        return Batches(grain.MapDataset.range(len(places)).map(example), _count(buckets))

    def _buckets(
        self, corpus: PairCorpus, batch_size: int, process: tuple[int, int]
    ) -> list[Bucket]:
        """Return the buckets that have pairs, each with its pairs in the order of the corpus."""
        if batch_size % process[1]:
            raise ValueError(
                f"a batch of {batch_size} rows cannot be shared by {process[1]} processes"
            )
        needed = corpus.longest_sides + 1  # for the token that ends a text
        boundaries = bucket_boundaries(self.length)
        number = np.searchsorted(boundaries, needed).astype(np.int8)
        buckets, waiting = [], np.zeros(0, np.int32)
        last = number[needed <= self.length].max(initial=-1)
        for place, boundary in enumerate(boundaries[: last + 1]):
            pairs = np.sort(np.append(waiting, np.flatnonzero(number == place).astype(np.int32)))
            rows = self.length // boundary * batch_size
            if place < last and len(pairs) < FEW_BATCHES * rows:
                waiting = pairs
            else:
                buckets.append(Bucket(boundary, rows, pairs))
                waiting = np.zeros(0, np.int32)
        if not buckets:
            raise ValueError(
                f"no pair has both sides below a length of {self.length}, the best of "
                f"{len(needed):,} has {needed.min() - 1:,} tokens: give a longer length, or other "
                "pairs"
            )
        return buckets


def too_long(corpus: PairCorpus, length: int) -> str | None:
    """Return one line on the pairs that are dropped because they are too long, or None."""
    longest = corpus.longest_sides
    count = np.count_nonzero(longest >= length)
    if not count:
        return None
    return (
        f"dropped {count:,} of {len(longest):,} pairs, which have a side of more than "
        f"{length - 1} tokens; the longest has {longest.max():,}: a longer --length includes them"
    )


def _count(buckets: Sequence[Bucket]) -> int:
    return sum(len(bucket.pairs) for bucket in buckets)


def _places(buckets: Sequence[Bucket]) -> np.ndarray:
    """Return where every batch begins: int [batches, 2], its bucket and its first pair there."""
    starts = (
        (number, start)
        for number, bucket in enumerate(buckets)
        for start in range(0, len(bucket.pairs), bucket.rows)
    )
    return np.array(list(starts))


def _batch(
    corpus: PairCorpus, buckets: Sequence[Bucket], place: np.ndarray, process: tuple[int, int]
) -> Batch:
    """Return this process's rows of the batch that begins at a place."""
    number, start = place.tolist()
    length, rows, pairs = buckets[number]
    index, count = process
    share = rows // count
    mine = pairs[start : start + rows][index * share : (index + 1) * share]
    batch = {side: np.zeros((share, length), np.int32) for side in FIELDS}
    sizes = {f"{side}_length": np.zeros(share, np.int32) for side in FIELDS}
    for row, pair in enumerate(mine.tolist()):
        bounds = corpus.documents[2 * pair : 2 * pair + 3].tolist()
        for side, (start, stop) in zip(FIELDS, itertools.pairwise(bounds), strict=True):
            batch[side][row, : stop - start] = corpus.read(start, stop)
            sizes[f"{side}_length"][row] = stop - start
    return batch | sizes
