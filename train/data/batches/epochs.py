"""The order in which parallel runs see rows of different lengths.

Rows of similar length share a batch, so there is little padding and the step is compiled once per
length bucket. The buckets are those that cost least. Every run sees every row once per epoch in its
own order. All runs use the same bucket at the same step, so their batches have the same shape. The
order is a pure function of the seeds and the step.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zoo.inference.length_buckets import aligned, least

COMPILING = 8  # what compiling a step costs in each epoch, in batches of rows of the mean length


class Epochs(NamedTuple):
    """The row indices of each length bucket, the batch size, and the seed of every run."""

    buckets: dict[int, np.ndarray]
    batch: int
    seeds: Sequence[int]

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        return len(self._batch_starts())

    def __call__(self, step: int) -> tuple[int, np.ndarray]:
        """Return the row length of a step and the row indices, [runs, batch]; -1 marks no row."""
        epoch, number = divmod(step, self.steps)
        length, start = self._batch_starts()[_order(self.steps, epoch)[number]]
        rows = self.buckets[length]
        indices = np.full((len(self.seeds), self.batch), -1)
        for run, seed in enumerate(self.seeds):
            run_rows = rows[_order(len(rows), epoch, seed, length)[start : start + self.batch]]
            indices[run, : len(run_rows)] = run_rows
        return length, indices

    def _batch_starts(self) -> list[tuple[int, int]]:
        return [
            (length, start)
            for length, rows in self.buckets.items()
            for start in range(0, len(rows), self.batch)
        ]


def epochs(lengths: Sequence[int], longest: int, batch: int, seeds: Sequence[int]) -> Epochs:
    """Return the order of rows with the given lengths, none longer than `longest`."""
    length_N = aligned(np.asarray(lengths), longest)
    compiling = least(COMPILING) * batch * length_N.mean()
    chosen = _cheapest(length_N, batch, compiling)
    bucket_N = np.searchsorted(chosen, length_N)
    buckets = {length: np.flatnonzero(bucket_N == i) for i, length in enumerate(chosen)}
    return Epochs(buckets, batch, tuple(seeds))


def _cheapest(length_N: np.ndarray, batch: int, compiling: float) -> list[int]:
    """Return the lengths of the buckets with the lowest cost: tokens of an epoch, and compiling.

    Args:
      length_N: The lengths of all rows.
      batch: Rows per batch; the last batch of a bucket is padded with empty rows.
      compiling: The cost of compiling the step of a bucket, in tokens.
    """
    lengths, counts = np.unique(length_N, return_counts=True)
    rows = np.concatenate([[0], counts.cumsum()])  # of the first 0, 1, ... lengths
    lowest, first = [0.0], [0]  # cost of their buckets, and where the last of these starts
    for end, length in enumerate(lengths, 1):
        batches = -(-(rows[end] - rows[:end]) // batch)
        costs = np.array(lowest) + batches * batch * length + compiling
        first.append(int(costs.argmin()))
        lowest.append(costs.min())
    chosen, end = [], len(lengths)
    while end:
        chosen.append(int(lengths[end - 1]))
        end = first[end]
    return chosen[::-1]


@functools.lru_cache(maxsize=256)
def _order(count: int, *seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(count)
