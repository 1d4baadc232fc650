"""The order in which several runs see rows of many lengths.

Rows of similar length share a batch, so that there is little padding and a step is compiled once
per length bucket. Every run sees every row once per epoch in its own order. Which bucket comes next
is the same for all runs, so that their batches have one shape. All of it is a function of the seeds
and the step.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zoo.inference.length_buckets import bucket

MIN_BATCHES = 8  # of a bucket: with fewer, compiling a step for it costs more than the padding


class Epochs(NamedTuple):
    """The indices of the rows in each length bucket, the batch size, and the seed of every run."""

    buckets: dict[int, np.ndarray]
    batch: int
    seeds: Sequence[int]

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        return len(self._places())

    def __call__(self, step: int) -> tuple[int, np.ndarray]:
        """Return the length of a step's rows and their indices, [runs, batch]; -1 is no row."""
        epoch, number = divmod(step, self.steps)
        length, start = self._places()[_order(self.steps, epoch)[number]]
        rows = self.buckets[length]
        indices = np.full((len(self.seeds), self.batch), -1)
        for run, seed in enumerate(self.seeds):
            chosen = rows[_order(len(rows), epoch, seed, length)[start : start + self.batch]]
            indices[run, : len(chosen)] = chosen
        return length, indices

    def _places(self) -> list[tuple[int, int]]:
        return [
            (length, start)
            for length, rows in self.buckets.items()
            for start in range(0, len(rows), self.batch)
        ]


def epochs(lengths: Sequence[int], longest: int, batch: int, seeds: Sequence[int]) -> Epochs:
    """Return the order of rows of these lengths, none longer than `longest`.

    A bucket with fewer rows than MIN_BATCHES batches is merged into the next larger one.
    """
    boundary_N = np.array([bucket(length, longest) for length in lengths])
    buckets, waiting = {}, np.array([], int)
    for boundary in np.unique(boundary_N).tolist():
        waiting = np.union1d(waiting, np.flatnonzero(boundary_N == boundary))
        if len(waiting) >= MIN_BATCHES * batch or boundary == boundary_N.max():
            buckets[boundary], waiting = waiting, waiting[:0]
    return Epochs(buckets, batch, tuple(seeds))


@functools.lru_cache(maxsize=256)
def _order(count: int, *seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(count)
