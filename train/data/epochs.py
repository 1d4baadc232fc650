"""The order in which rows of many lengths are seen, by several runs at once.

The rows of about one length share a batch, so that little is padding and a step compiles once a
length. Every run sees every row once an epoch in an order of its own; which length is next is the
same for all, so that their batches fit together. All of it is a function of the seeds and the step.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zoo.rows import rung

FEW = 8  # batches that a length must have for a compilation of its own


class Epochs(NamedTuple):
    """The numbers of rows by the length they are padded to, and the seed of every run."""

    rungs: dict[int, np.ndarray]
    batch: int
    seeds: Sequence[int]

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return len(self._places())

    def __call__(self, step: int) -> tuple[int, np.ndarray]:
        """The length of a step's rows, and their numbers, [runs, batch]; -1 fills the last up."""
        epoch, number = divmod(step, self.steps)
        length, start = self._places()[_order(self.steps, epoch)[number]]
        rows = self.rungs[length]
        found = np.full((len(self.seeds), self.batch), -1)
        for run, seed in enumerate(self.seeds):
            chosen = rows[_order(len(rows), epoch, seed, length)[start : start + self.batch]]
            found[run, : len(chosen)] = chosen
        return length, found

    def _places(self) -> list[tuple[int, int]]:
        return [
            (length, start)
            for length, rows in self.rungs.items()
            for start in range(0, len(rows), self.batch)
        ]


def epochs(lengths: Sequence[int], longest: int, batch: int, seeds: Sequence[int]) -> Epochs:
    """The order of rows of these lengths; where few have a length, they are padded to the next."""
    lengths = [int(length) for length in lengths]
    last = max(rung(length, longest) for length in lengths)
    rungs, waiting = {}, []
    for at in sorted({rung(length, longest) for length in lengths}):
        waiting += [number for number, length in enumerate(lengths) if rung(length, longest) == at]
        if len(waiting) >= FEW * batch or at == last:
            rungs[at], waiting = np.array(waiting), []
    return Epochs(rungs, batch, tuple(seeds))


@functools.lru_cache(maxsize=256)
def _order(count: int, *seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(count)
