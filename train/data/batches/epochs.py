"""The order in which rows of many lengths are seen, by several runs at once.

The rows of about one length share a batch, so that little is padding and a step compiles once a
length. Every run sees every row once an epoch in an order of its own; which length is next is the
same for all, so that their batches fit together. All of it is a function of the seeds and the step.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

FEW = 8  # batches for which one more length, and so a compilation, is worth its time
MOST = 8  # lengths
CHOICES = 64  # of what a length may be


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
    """The order of rows of these lengths, none longer than `longest`."""
    lengths = np.asarray(lengths)
    ends = _ends(lengths, longest, batch)
    rungs = np.searchsorted(ends, lengths)
    found = {end: np.flatnonzero(rungs == rung) for rung, end in enumerate(ends)}
    return Epochs(found, batch, tuple(seeds))


def _ends(lengths: np.ndarray, longest: int, batch: int) -> list[int]:
    """The lengths to pad to that make the fewest tokens, one for every FEW batches or fewer.

    A table of the best for all that is shorter, with one length more in each round.
    """
    step = max(8, int(lengths.max()) // CHOICES)
    ends = sorted({min(-(-int(length) // step) * step, longest) for length in lengths})
    shorter = [0, *np.searchsorted(np.sort(lengths), ends, "right")]
    tokens = lambda i, j: -(-(shorter[j] - shorter[i]) // batch) * batch * ends[j - 1]
    best = [(0, []), *[(math.inf, [])] * len(ends)]
    for _ in range(min(MOST, max(1, len(lengths) // (FEW * batch)))):
        more = [
            min((best[i][0] + tokens(i, j), [*best[i][1], ends[j - 1]]) for i in range(j))
            for j in range(1, len(best))
        ]
        best = [best[0], *map(min, best[1:], more)]
    return best[-1][1]


@functools.lru_cache(maxsize=256)
def _order(count: int, *seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(count)
