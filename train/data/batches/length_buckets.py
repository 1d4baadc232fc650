"""Batches of pairs of about one length, so that little of a batch is padding.

A batch is {"source": int32 [b, l], "target": int32 [b, l], "source_length": int32 [b],
"target_length": int32 [b]}, padded with 0 on the right. Lengths l are the rungs of a ladder, and a
pair is on the first that holds its longer side and the token that an objective ends it with. There
are few rungs, and the step is compiled once for each. A batch of short pairs has more of them: b is
the largest multiple of the batch size with which it has no more tokens than one of long pairs.
"""

import functools
import itertools
import sys
from typing import NamedTuple

import grain
import numpy as np

from train.data.batches.batches import Batch, Batches
from train.data.corpus.corpus import Corpus, read
from train.data.sources.parallel_text import FIELDS, num_pairs


def train(
    corpus: Corpus, length: int, batch: int, seed: int, process: tuple[int, int] = (0, 1)
) -> Batches:
    """Every pair once an epoch: those of a rung shuffled and cut into batches, then the batches.

    The last batch of a rung is filled up with rows of length 0. A pair with a side of `length`
    tokens or more is left out. The order is a function of seed and epoch alone.

    Raises ValueError where no pair is left, or where processes cannot share the rows of a batch.
    """
    rungs = _rungs(corpus, length, batch, process)
    places = _places(rungs)
    count = len(places)

    @functools.lru_cache(maxsize=2)  # those that batches made ahead may come from
    def shuffled(epoch: int) -> tuple[list[_Rung], np.ndarray]:
        random = np.random.default_rng([seed, epoch])
        order = [rung._replace(pairs=random.permutation(rung.pairs)) for rung in rungs]
        return order, random.permutation(places)

    def example(step: int) -> Batch:
        epoch, number = divmod(step, count)
        rungs, places = shuffled(epoch)
        return _batch(corpus, rungs, places[number], process)

    return Batches(grain.MapDataset.range(sys.maxsize).map(example), _count(rungs))


def evaluate(corpus: Corpus, length: int, batch: int, process: tuple[int, int] = (0, 1)) -> Batches:
    """Every pair exactly once, rung by rung and in order; left out and filled up as in `train`.

    Raises ValueError as `train` does.
    """
    rungs = _rungs(corpus, length, batch, process)
    places = _places(rungs)
    example = lambda step: _batch(corpus, rungs, places[step], process)
    return Batches(grain.MapDataset.range(len(places)).map(example), _count(rungs))


def ladder(length: int) -> list[int]:
    """The lengths of batches: 8, 16, 24, 32, 48, 64, 96, 128, 192, ... and `length`, the last."""
    doubled = (base << power for base in (8, 24) for power in range(length.bit_length()))
    return [*sorted(rung for rung in doubled if rung < length), length]


def lengthy(corpus: Corpus, length: int) -> str | None:
    """One line on the pairs that are left out for their length, or None."""
    longest = _longest(corpus)
    count = np.count_nonzero(longest >= length)
    if not count:
        return None
    return (
        f"left out {count:,} of {len(longest):,} pairs, which have a side of more than "
        f"{length - 1} tokens; the longest has {longest.max():,}: a longer length takes them in"
    )


class _Rung(NamedTuple):
    """The pairs that are padded to one length."""

    length: int
    rows: int  # of a batch, over all processes
    pairs: np.ndarray  # their numbers: int32


def _rungs(corpus: Corpus, length: int, batch: int, process: tuple[int, int]) -> list[_Rung]:
    """The rungs that have pairs, each with its pairs in the order of the corpus."""
    if batch % process[1]:
        raise ValueError(f"a batch of {batch} rows cannot be shared by {process[1]} processes")
    longest = _longest(corpus)
    lengths = ladder(length)
    found = np.searchsorted(lengths, longest + 1).astype(np.int8)
    rungs = [
        _Rung(rung, length // rung * batch, np.flatnonzero(found == number).astype(np.int32))
        for number, rung in enumerate(lengths)
    ]
    if not _count(rungs):
        raise ValueError(
            f"no pair has both sides below a length of {length}, the best of {len(longest):,} has "
            f"{longest.min():,} tokens: give a longer length, or other pairs"
        )
    return [rung for rung in rungs if len(rung.pairs)]


def _longest(corpus: Corpus) -> np.ndarray:
    """The tokens of the longer side of every pair: int32."""
    sizes = np.diff(corpus.documents).astype(np.int32)
    return sizes.reshape(num_pairs(corpus), 2).max(1)


def _count(rungs: list[_Rung]) -> int:
    return sum(len(rung.pairs) for rung in rungs)


def _places(rungs: list[_Rung]) -> np.ndarray:
    """Where every batch begins: int [batches, 2], its rung and its first pair there."""
    starts = ((at, start) for at, r in enumerate(rungs) for start in range(0, len(r.pairs), r.rows))
    return np.array(list(starts))


def _batch(
    corpus: Corpus, rungs: list[_Rung], place: np.ndarray, process: tuple[int, int]
) -> Batch:
    """This process's rows of the batch that begins at a place."""
    at, start = place.tolist()
    length, rows, pairs = rungs[at]
    index, count = process
    share = rows // count
    mine = pairs[start : start + rows][index * share : (index + 1) * share]
    batch = {side: np.zeros((share, length), np.int32) for side in FIELDS}
    sizes = {f"{side}_length": np.zeros(share, np.int32) for side in FIELDS}
    for row, pair in enumerate(mine.tolist()):
        bounds = corpus.documents[2 * pair : 2 * pair + 3].tolist()
        for side, (start, stop) in zip(FIELDS, itertools.pairwise(bounds), strict=True):
            batch[side][row, : stop - start] = read(corpus, start, stop)
            sizes[f"{side}_length"][row] = stop - start
    return batch | sizes
