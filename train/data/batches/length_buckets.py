"""Batches of pairs of similar length, to keep padding small.

A batch is {"source": int32 [b, l], "target": int32 [b, l], "source_length": int32 [b],
"target_length": int32 [b]}, padded with 0 on the right. A pair is in the first bucket that fits
its longer side plus the end token that the objective appends. The step is compiled once per bucket,
so a bucket with few pairs is merged into the next larger one. Batches of shorter pairs have more
rows: b is the largest multiple of the batch size that keeps the number of tokens within that of the
longest bucket.
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

FEW_BATCHES = 4  # with fewer batches, a bucket is not worth compiling a step for


class Bucket(NamedTuple):
    """The pairs that are padded to the same length."""

    length: int
    rows: int  # per batch, over all processes
    pairs: np.ndarray  # indices of the pairs: int32


@dataclass(frozen=True, kw_only=True)
class LengthBuckets:
    """Pairs with fewer than `length` tokens on both sides; longer pairs are dropped."""

    length: int

    def train(
        self, corpus: PairCorpus, batch_size: int, seed: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return every pair once per epoch; the order depends only on the seed and the epoch.

        The pairs of a bucket are shuffled and split into batches, then the batches are shuffled.
        The last batch of a bucket is padded with rows of length 0.

        Raises:
          ValueError: If no pair is short enough, or if the batch size is not divisible by the
            number of processes.
        """
        buckets = self._buckets(corpus, batch_size, process)
        batch_starts = _batch_starts(buckets)
        count = len(batch_starts)

        @functools.lru_cache(maxsize=2)  # prefetching may read from two epochs at once
        def shuffled(epoch: int) -> tuple[list[Bucket], np.ndarray]:
            random = np.random.default_rng([seed, epoch])
            order = [bucket._replace(pairs=random.permutation(bucket.pairs)) for bucket in buckets]
            return order, random.permutation(batch_starts)

        def example(step: int) -> Batch:
            epoch, number = divmod(step, count)
            buckets, batch_starts = shuffled(epoch)
            return _batch(corpus, buckets, batch_starts[number], process)

        return Batches(grain.MapDataset.range(sys.maxsize).map(example), _count(buckets))

    def evaluate(
        self, corpus: PairCorpus, batch_size: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return every pair exactly once, bucket by bucket and in order.

        Raises:
          ValueError: As in `train`.
        """
        buckets = self._buckets(corpus, batch_size, process)
        batch_starts = _batch_starts(buckets)
        example = lambda step: _batch(corpus, buckets, batch_starts[step], process)
        return Batches(grain.MapDataset.range(len(batch_starts)).map(example), _count(buckets))

    def _buckets(
        self, corpus: PairCorpus, batch_size: int, process: tuple[int, int]
    ) -> list[Bucket]:
        """Return the non-empty buckets, each with its pairs in the order of the corpus."""
        if batch_size % process[1]:
            raise ValueError(
                f"a batch of {batch_size} rows cannot be shared by {process[1]} processes"
            )
        needed = corpus.longest_sides + 1  # for the token that ends a text
        boundaries = bucket_boundaries(self.length)
        number = np.searchsorted(boundaries, needed).astype(np.int8)
        buckets, pending = [], np.zeros(0, np.int32)
        last = number[needed <= self.length].max(initial=-1)
        for index, boundary in enumerate(boundaries[: last + 1]):
            pairs = np.sort(np.append(pending, np.flatnonzero(number == index).astype(np.int32)))
            rows = self.length // boundary * batch_size
            if index < last and len(pairs) < FEW_BATCHES * rows:
                pending = pairs
            else:
                buckets.append(Bucket(boundary, rows, pairs))
                pending = np.zeros(0, np.int32)
        if not buckets:
            raise ValueError(
                f"no pair has fewer than {self.length} tokens on both sides; the shortest of "
                f"{len(needed):,} has {needed.min() - 1:,}: use a longer --length, or other pairs"
            )
        return buckets


def too_long(corpus: PairCorpus, length: int) -> str | None:
    """Return a one-line note on the pairs dropped for their length, or None if there are none."""
    longest = corpus.longest_sides
    count = np.count_nonzero(longest >= length)
    if not count:
        return None
    return (
        f"dropped {count:,} of {len(longest):,} pairs because a side has more than "
        f"{length - 1} tokens; the longest has {longest.max():,}: a longer --length includes them"
    )


def _count(buckets: Sequence[Bucket]) -> int:
    return sum(len(bucket.pairs) for bucket in buckets)


def _batch_starts(buckets: Sequence[Bucket]) -> np.ndarray:
    """Return the bucket of every batch and its first pair in that bucket: int [batches, 2]."""
    starts = (
        (number, start)
        for number, bucket in enumerate(buckets)
        for start in range(0, len(bucket.pairs), bucket.rows)
    )
    return np.array(list(starts))


def _batch(
    corpus: PairCorpus, buckets: Sequence[Bucket], batch_start: np.ndarray, process: tuple[int, int]
) -> Batch:
    """Return the rows of this process in the batch that starts at `batch_start`."""
    number, start = batch_start.tolist()
    length, rows, pairs = buckets[number]
    index, count = process
    share = rows // count
    local_pairs = pairs[start : start + rows][index * share : (index + 1) * share]
    batch = {side: np.zeros((share, length), np.int32) for side in FIELDS}
    sizes = {f"{side}_length": np.zeros(share, np.int32) for side in FIELDS}
    for row, pair in enumerate(local_pairs.tolist()):
        bounds = corpus.documents[2 * pair : 2 * pair + 3].tolist()
        for side, (start, stop) in zip(FIELDS, itertools.pairwise(bounds), strict=True):
            batch[side][row, : stop - start] = corpus.read(start, stop)
            sizes[f"{side}_length"][row] = stop - start
    return batch | sizes
