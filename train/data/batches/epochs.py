"""The order in which parallel runs see rows of different lengths.

Rows of similar length share a batch, so there is little padding and the step is compiled once per
length bucket. Every run sees every row once per epoch in its own order. All runs use the same
bucket at the same step, so their batches have the same shape. The order is a pure function of the
seeds and the step.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zoo.inference.length_buckets import bucket, least, merged

MIN_BATCHES = 8  # per bucket: with fewer, compiling its step costs more than padding its rows


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
    """Return the order of rows with the given lengths, none longer than `longest`.

    A bucket with fewer rows than MIN_BATCHES batches (many more on an accelerator) is merged into
    the next larger one.
    """
    boundaries = [bucket(length, longest) for length in lengths]
    boundary_N = np.array(merged(boundaries, least(MIN_BATCHES) * batch))
    buckets = {each: np.flatnonzero(boundary_N == each) for each in np.unique(boundary_N).tolist()}
    return Epochs(buckets, batch, tuple(seeds))


@functools.lru_cache(maxsize=256)
def _order(count: int, *seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(count)
