"""A sample of a text of any size: bounded in bytes, seeded, and spread evenly over the text.

The text is read once, piece by piece, as a sequence of units of about `UNIT` bytes: some short
documents, or a part of a long one. If it is larger than the bound, one unit of every two neighbours
is kept, drawn by the seed; if what is kept is still too large, one of every two of those, and so
on. After k rounds the sample has one unit of every 2^k, between half of the bound and all of it.
Only units that are kept are in memory.
"""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from train.data.progress import Progress
from train.data.sources import text
from train.data.sources.source import Source

# Small, so that a sample of the smallest bound in use comes from more than 500 places; and large
# enough for whole paragraphs.
UNIT = 1 << 14


class _Part(NamedTuple):
    """A piece of the source, or a part of it."""

    piece: int  # index of the piece
    start: int  # offset in the piece
    text: str


class _Unit(NamedTuple):
    number: int
    size: int  # in bytes
    parts: list[_Part]


def sample(source: Source, most: int, seed: int = 0) -> list[str]:
    """Return texts of a source, in order: all of them if they have at most `most` bytes.

    Args:
      source: The text. Its pieces are split as in `train.data.sources.text`, if at all.
      most: Upper limit on the number of bytes.
      seed: Determines which units are kept.
    """
    kept: list[_Unit] = []
    size = rounds = 0
    with Progress("sample", source.num_bytes) as progress:
        for unit in _units(source):
            progress.add(unit.size)
            if all(_is_kept(unit.number, level, seed) for level in range(rounds)):
                kept.append(unit)
                size += unit.size
            while size > most and len(kept) > 1:
                kept = [unit for unit in kept if _is_kept(unit.number, rounds, seed)]
                size = sum(unit.size for unit in kept)
                rounds += 1
    return list(_joined(kept))


def _units(source: Source) -> Iterator[_Unit]:
    number, size, parts = 0, 0, []
    for part in _parts(source):
        parts.append(part)
        size += len(part.text.encode())
        if size >= UNIT // 2:
            yield _Unit(number, size, parts)
            number, size, parts = number + 1, 0, []
    if parts:
        yield _Unit(number, size, parts)


def _parts(source: Source) -> Iterator[_Part]:
    """Yield the pieces of a source, split into parts of at most UNIT characters."""
    for number, piece in enumerate(source.pieces()):
        start = 0
        while len(piece.text) - start > UNIT:
            split = text.safe_split(piece.text, start + UNIT // 2, start + UNIT)
            yield _Part(number, start, piece.text[start:split])
            start = split
        yield _Part(number, start, piece.text[start:])


def _is_kept(number: int, level: int, seed: int) -> bool:
    """Return whether a unit's group of 2^level units is kept, and not the group beside it."""
    group = number >> level
    draw = hashlib.sha256(f"{seed} {level} {group >> 1}".encode()).digest()[0]
    return draw & 1 == group & 1


def _joined(units: list[_Unit]) -> Iterator[str]:
    """Yield the texts of the units; parts that follow each other in a piece are one text again."""
    joined: list[str] = []
    piece = end = -1
    for unit in units:
        for part in unit.parts:
            if joined and (part.piece, part.start) != (piece, end):
                yield "".join(joined)
                joined = []
            joined.append(part.text)
            piece, end = part.piece, part.start + len(part.text)
    if joined:
        yield "".join(joined)
