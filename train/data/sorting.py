"""Counting of integers in bounded memory: chunks are sorted, spilled to disk, and merged."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

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
    parts = merge([run.counted for run in runs], folder / "passes", memory)
    counted = write_all(parts, folder / "keys", folder / "counts")
    rows = (np.searchsorted(counted.keys, run.counted.keys)[run.places] for run in runs)
    return counted, rows


def merge(runs: list[Counted], folder: Path, memory: int) -> Iterator[Counted]:
    """Return the sums of the counts of sorted runs, in parts of increasing keys.

    Args:
      runs: Distinct integers in increasing order, each with an integer to add up, of any meaning.
      folder: A new folder for the files of many runs, which are merged in several passes.
      memory: About how many integers are merged at a time.
    """
    while len(runs) > FAN_IN:
        folder = folder / "more"
        folder.mkdir(parents=True)
        runs = [
            write_all(
                _merge(runs[start : start + FAN_IN], memory),
                folder / f"{start}.keys",
                folder / f"{start}.counts",
            )
            for start in range(0, len(runs), FAN_IN)
        ]
    return _merge(runs, memory)


def write_all(parts: Iterable[Counted], keys: Path, counts: Path) -> Counted:
    """Write parts one after another into two files, and return the whole, mapped into memory."""
    with keys.open("wb") as keys_file, counts.open("wb") as counts_file:
        for part in parts:
            keys_file.write(part.keys.tobytes())
            counts_file.write(part.counts.tobytes())
    return Counted(read(keys), read(counts))


def write(file: Path, parts: Iterable[np.ndarray]) -> np.ndarray:
    """Write arrays as int64, one after another, and return the whole, mapped into memory."""
    with file.open("wb") as out:
        for part in parts:
            out.write(np.ascontiguousarray(part, np.int64).tobytes())
    return read(file)


def read(file: Path) -> np.ndarray:
    """Return a file of int64, mapped into memory; an empty file cannot be mapped."""
    if not file.stat().st_size:
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
