"""How often pairs of words occur near each other (Pennington et al. 2014, sections 3 and 4.2).

Two words at a distance of d, at most the window, add 1 / d to their pair in either order. Lines end
every window, and tokens that are no words have no place in it, as in the released program.

Each pair is counted once, with the smaller id first, as a whole number of 1 / lcm(1, ..., window):
so the sums are exact, and no order of the text or of the work changes them. A pair of a word with
itself has the count of both orders, which are one.

Chunks of the text are sorted and merged in bounded memory. The keys that are sorted are the places
of the pairs in a fixed permutation, so the sorted pairs are shuffled.
"""

import fcntl
import hashlib
import math
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from train.data import cache, sorting
from train.data.corpus.corpus import Corpus
from train.data.permutation import Permutation
from train.data.progress import Progress

RECORD = np.dtype([("first", np.int32), ("second", np.int32), ("count", np.float32)])
MEMORY = 1 << 22  # pairs that are sorted at a time


@dataclass(frozen=True, eq=False, kw_only=True)
class Rule:
    """Which pairs of words of a text count.

    Attributes:
      window: The largest distance.
      is_word: Whether each token of the vocabulary is a word.
      ends_line: Whether each token of the vocabulary ends a line.
    """

    window: int
    is_word: np.ndarray
    ends_line: np.ndarray

    def fingerprint(self) -> str:
        """Return a checksum of all settings."""
        tables = np.packbits(self.is_word).tobytes() + np.packbits(self.ends_line).tobytes()
        return f"{self.window} {len(self.is_word)} {hashlib.sha256(tables).hexdigest()}"


def records(corpus: Corpus, rule: Rule) -> np.ndarray:
    """Return all pairs of a text in a fixed random order: RECORD [R], on disk.

    They are counted once, and cached for all runs. Concurrent calls wait for the first.

    Raises:
      ValueError: If the text has no pair.
    """
    identity = f"{corpus.fingerprint} {corpus.start} {corpus.stop} {rule.fingerprint()}"
    folder = cache.folder("cooccurrences", identity)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "records"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            _write(corpus, rule, file)
    if not file.stat().st_size:
        raise ValueError(
            f"no line of the text has two words of the vocabulary within {rule.window} words of "
            "each other: give a text with longer lines, or a lower --min-count"
        )
    return np.asarray(np.memmap(file, RECORD, "r"))


def num_words(corpus: Corpus, rule: Rule, chunk: int = 1 << 20) -> int:
    """Return the number of tokens of a text that are words."""
    starts = range(corpus.start, corpus.stop, chunk)
    parts = (corpus.read(start, min(start + chunk, corpus.stop)) for start in starts)
    return sum(int(rule.is_word[tokens].sum()) for tokens in parts)


def count(corpus: Corpus, rule: Rule, folder: Path, memory: int = MEMORY) -> Iterator[np.ndarray]:
    """Yield all pairs of a text in a fixed random order, in parts: RECORD [r].

    Args:
      corpus: The text.
      rule: Which pairs count.
      folder: A folder for temporary files.
      memory: About how many pairs are in memory at a time.
    """
    V, unit = len(rule.is_word), math.lcm(*range(1, rule.window + 1))
    order = Permutation(max(2, (V * V - 1).bit_length()))
    units = unit // np.arange(1, rule.window + 1)  # what each distance adds

    def run(pairs: np.ndarray, distances: np.ndarray) -> sorting.Counted:
        # The distance travels in the key, so one sort in place is all.
        packed = order(pairs) * rule.window + distances
        packed.sort()
        places, distances = np.divmod(packed, rule.window)
        first = np.flatnonzero(np.diff(places, prepend=-1))
        sums = np.add.reduceat(units[distances], first) if len(first) else first
        return sorting.spill([sorting.Counted(places[first], sums)], folder)

    runs = (run(*part) for part in _pairs(corpus, rule, memory))
    for part in sorting.merge(runs, folder, memory):
        pairs = np.empty(len(part.keys), RECORD)
        pairs["first"], pairs["second"] = np.divmod(order.inverse(part.keys), V)
        pairs["count"] = part.counts / unit * (1 + (pairs["first"] == pairs["second"]))
        yield pairs


def _write(corpus: Corpus, rule: Rule, file: Path) -> None:
    """Count a text into a file, which is there as a whole or not at all."""
    draft = file.with_suffix(".draft")
    with tempfile.TemporaryDirectory(dir=file.parent) as folder, draft.open("wb") as out:
        for part in count(corpus, rule, Path(folder)):
            out.write(part.tobytes())
        out.flush()
        os.fsync(out.fileno())
    draft.replace(file)


def _pairs(corpus: Corpus, rule: Rule, memory: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the pairs of each part of a text, i * V + j for i <= j, and their distances - 1."""
    V, W = len(rule.is_word), rule.window
    chunk = max(memory // W, 1)
    words, lines = np.zeros(0, np.int64), np.zeros(0, np.int64)
    line = 0
    bytes_per_token = corpus.num_bytes / corpus.num_tokens
    with Progress("co-occurrences", corpus.num_bytes) as progress:
        for start in range(corpus.start, corpus.stop, chunk):
            tokens = corpus.read(start, min(start + chunk, corpus.stop))
            is_word, number = rule.is_word[tokens], line + np.cumsum(rule.ends_line[tokens])
            line = int(number[-1])
            before = min(len(words), W)  # words of the part before this one
            words = np.append(words[len(words) - before :], tokens[is_word])
            lines = np.append(lines[len(lines) - before :], number[is_word])
            pairs, distances = [], []
            for distance in range(1, min(W, len(words) - 1) + 1):
                begin, end = max(before - distance, 0), len(words) - distance
                same = lines[begin:end] == lines[begin + distance :]
                one, other = words[begin:end][same], words[begin + distance :][same]
                pairs.append(np.minimum(one, other) * V + np.maximum(one, other))
                distances.append(np.full(len(one), distance - 1, np.int8))
            if pairs:
                yield np.concatenate(pairs), np.concatenate(distances)
            progress.add(round(len(tokens) * bytes_per_token))
