"""Counting of integers in bounded memory: chunks are sorted, spilled to disk, and merged."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

FAN_IN = 64  # runs that are merged at a time


class Counted(NamedTuple):
    """Distinct integers in increasing order, and how often each occurred: int64, on disk."""

    keys: np.ndarray
    counts: np.ndarray


class Run(NamedTuple):
    """The sorted integers of one chunk, and for every integer of the chunk its place in them."""

    counted: Counted
    places: np.ndarray


def count(
    chunks: Iterable[np.ndarray], folder: Path, memory: int
) -> tuple[Counted, Iterator[np.ndarray]]:
    """Count the distinct integers of all chunks.

    Args:
      chunks: Arrays of non-negative integers, each small enough to be sorted in memory.
      folder: A new folder for the files.
      memory: About how many integers are merged at a time.

    Returns:
      The distinct integers and their numbers; and for each chunk, the rows of its integers in them.
    """
    folder.mkdir(parents=True)
    runs = []
    for number, chunk in enumerate(chunks):
        keys, places, counts = np.unique(chunk, return_inverse=True, return_counts=True)
        arrays = {"keys": keys, "counts": counts, "places": places}
        files = {name: folder / f"{number}.{name}" for name in arrays}
        on_disk = {name: write(files[name], [array]) for name, array in arrays.items()}
        runs.append(Run(Counted(on_disk["keys"], on_disk["counts"]), on_disk["places"]))
    counted = spill(merge((run.counted for run in runs), folder, memory), folder)
    rows = (np.searchsorted(counted.keys, run.counted.keys)[run.places] for run in runs)
    return counted, rows


def merge(runs: Iterable[Counted], folder: Path, memory: int) -> Iterator[Counted]:
    """Return the sums of the counts of sorted runs, in parts of increasing keys.

    As soon as there are FAN_IN runs, they are merged into one, of which FAN_IN are merged again, so
    that any number of runs has few open files.

    Args:
      runs: Distinct integers in increasing order, each with an integer to add up.
      folder: A folder for temporary files.
      memory: About how many integers are merged at a time.
    """
    levels: list[list[Counted]] = [[]]
    for run in runs:
        levels[0].append(run)
        for level, waiting in enumerate(levels):
            if len(waiting) == FAN_IN:
                levels.extend([] for _ in range(level + 2 - len(levels)))
                levels[level + 1].append(spill(_merge(waiting, memory), folder))
                waiting.clear()
    return _merge([run for waiting in levels for run in waiting], memory)


def spill(parts: Iterable[Counted], folder: Path) -> Counted:
    """Write parts one after another to disk, and return the whole, mapped into memory.

    The files have no names: their space is free again as soon as the arrays are no longer in use.
    """
    with (
        tempfile.TemporaryFile(dir=folder) as keys,
        tempfile.TemporaryFile(dir=folder) as counts,
    ):
        for part in parts:
            keys.write(part.keys.tobytes())
            counts.write(part.counts.tobytes())
        return Counted(_mapped(keys), _mapped(counts))


def write(file: Path, parts: Iterable[np.ndarray]) -> np.ndarray:
    """Write arrays as int64, one after another, and return the whole, mapped into memory."""
    with file.open("w+b") as out:
        for part in parts:
            out.write(np.ascontiguousarray(part, np.int64).tobytes())
        return _mapped(out)


def _mapped(file: IO[bytes]) -> np.ndarray:
    """Return a file of int64, mapped into memory; an empty file cannot be mapped."""
    file.flush()
    if not os.fstat(file.fileno()).st_size:
        return np.zeros(0, np.int64)
    return np.asarray(np.memmap(file, np.int64, "r"))


def _merge(runs: list[Counted], memory: int) -> Iterator[Counted]:
    """Yield the sums of sorted runs, one range of keys at a time."""
    stride = max(memory // max(len(runs), 1), 1)
    # Between two of these bounds, each run has at most `stride` keys.
    bounds = np.unique(np.concatenate([[0], *(run.keys[::stride] for run in runs)]))
    starts = [np.append(np.searchsorted(run.keys, bounds), len(run.keys)) for run in runs]
    for number in range(len(bounds) if runs else 0):
        parts = [
            (
                run.keys[start[number] : start[number + 1]],
                run.counts[start[number] : start[number + 1]],
            )
            for run, start in zip(runs, starts, strict=True)
        ]
        keys = np.concatenate([keys for keys, _ in parts])
        if not len(keys):
            continue
        counts = np.concatenate([counts for _, counts in parts])
        order = np.argsort(keys, kind="stable")
        keys, counts = keys[order], counts[order]
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        yield Counted(keys[first], np.add.reduceat(counts, first))
