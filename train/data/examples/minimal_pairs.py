"""Minimal pairs: an acceptable sentence and one that differs from it by an error.

Warstadt et al. 2019 (BLiMP), https://arxiv.org/abs/1912.00582.
"""

from pathlib import Path
from typing import NamedTuple

from train.data.examples.tables import read_rows

NAMES = {  # of columns; those of BLiMP's own JSON lines last
    "good": ("good", "sentence_good"),
    "bad": ("bad", "sentence_bad"),
    "paradigm": ("UID", "paradigm"),
    "field": ("field",),
}


class MinimalPair(NamedTuple):
    """Two sentences, and the paradigm and the field of grammar that they belong to."""

    good: str
    bad: str
    paradigm: str = ""
    field: str = ""


def read_minimal_pairs(path: Path, limit: int | None = None) -> list[MinimalPair]:
    """Return the pairs of a table or of JSON lines.

    Args:
      path: A file with the columns `good` and `bad`, and maybe `UID` and `field`.
      limit: The number of pairs to read of each paradigm. None: all.

    Raises:
      ValueError: If a column is missing, a sentence is empty, or there are no pairs.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"--limit must be at least 1, not {limit}")
    pairs: list[MinimalPair] = []
    counts: dict[str, int] = {}
    for location, row in read_rows(path, {"good": "good", "bad": "bad"}):
        values = {}
        for role, names in NAMES.items():
            name = next((name for name in names if name in row), None)
            if name is None and role in ("good", "bad"):
                raise ValueError(
                    f"{location} has no column {names[0]!r}: minimal pairs need the columns "
                    f"good and bad, but there are {', '.join(row)}"
                )
            values[role] = "" if name is None else str(row[name] or "").strip()
        pair = MinimalPair(**values)
        if not pair.good or not pair.bad:
            raise ValueError(f"{location} has an empty sentence: remove it")
        counts[pair.paradigm] = counts.get(pair.paradigm, 0) + 1
        if limit is None or counts[pair.paradigm] <= limit:
            pairs.append(pair)
    if not pairs:
        raise ValueError(f"no minimal pairs in {path}")
    return pairs
