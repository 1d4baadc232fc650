"""Rows packed with whole documents that do not attend to each other.

Every batch has {"documents": int32 [B, L]}, the number of the document in its row that each token
belongs to, from 1; 0 is padding. Rows are packed as in `train/data/packing.py`. A document longer
than a row is split as it is in rows that are not packed.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from train.data.batches.batches import ONE_PROCESS, Batch, Batches, in_order, once
from train.data.batches.full_sentences import SPECIALS, parts, room_for_text
from train.data.corpus.corpus import Corpus
from train.data.packing import Order, Packing, pack


@dataclass(frozen=True, kw_only=True)
class PackedDocuments(ABC):
    """Rows of up to `length` tokens with at most `most` documents, or pieces of long documents."""

    length: int
    most: int

    @abstractmethod
    def bounds(self, corpus: Corpus) -> np.ndarray:
        """Return where each document or piece begins, and where the last one ends."""

    @abstractmethod
    def row(self, corpus: Corpus, starts: np.ndarray, stops: np.ndarray) -> Batch:
        """Return a row with the documents or pieces between some offsets."""

    def room(self, sizes: np.ndarray) -> np.ndarray:
        """Return the room that pieces of so many tokens need in a row; 0: they are left out."""
        return sizes

    def packing(self, corpus: Corpus) -> tuple[Packing, np.ndarray]:
        """Return how the pieces are packed, and their offsets [N, 2].

        Raises:
          ValueError: If there is nothing to pack.
        """
        bounds = self.bounds(corpus)
        room = self.room(np.diff(bounds))
        if not room.any():
            raise ValueError("the text has no document to pack: give more text")
        pieces = np.stack([bounds[:-1], bounds[1:]], 1)[room > 0]
        return pack(room[room > 0], self.length, self.most), pieces

    def train(
        self, corpus: Corpus, batch_size: int, seed: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return every document once per epoch, in every epoch in other rows.

        Raises:
          ValueError: If there is nothing to pack.
        """
        packing, pieces = self.packing(corpus)

        @lru_cache(maxsize=2)  # prefetching may read from two epochs at once
        def epoch(number: int) -> Order:
            return packing.shuffled(seed, number)

        def example(index: int, random: np.random.Generator) -> Batch:
            number, row = divmod(index, packing.num_rows)
            return self.row(corpus, *pieces[epoch(number)(row)].T)

        return in_order(example, packing.num_rows, batch_size, seed, process)

    def evaluate(
        self, corpus: Corpus, batch_size: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return every document exactly once, in rows that are always the same.

        Raises:
          ValueError: If there is nothing to pack.
        """
        packing, pieces = self.packing(corpus)
        order = packing.in_order()
        example = lambda number, _: self.row(corpus, *pieces[order(number)].T)
        return once(example, packing.num_rows, batch_size, process)

    def note(self, corpus: Corpus) -> str:
        """Return how full the rows of a text are, in one line."""
        packing, pieces = self.packing(corpus)
        full = packing.lengths_N.sum() / packing.num_rows / self.length
        return (
            f"packed   {len(pieces):,} documents in {packing.num_rows:,} rows, "
            f"{len(pieces) / packing.num_rows:.1f} in each, which are {full:.0%} full"
        )


@dataclass(frozen=True, kw_only=True)
class PackedWindows(PackedDocuments):
    """Rows for causal models: {"tokens", "targets", "documents": int32 [B, L], "mask"}.

    A target is the token after it in the text. That of a document's last token begins the next
    document of the text, whatever follows in the row. The mask, bool [B, L], is False where there
    is no target.
    """

    def bounds(self, corpus: Corpus) -> np.ndarray:
        return parts(corpus.documents, self.length)

    def row(self, corpus: Corpus, starts: np.ndarray, stops: np.ndarray) -> Batch:
        bounds = list(zip(starts.tolist(), stops.tolist(), strict=True))
        # One more token, the target of the last, except at the end of the text.
        texts = [corpus.read(start, min(stop + 1, corpus.stop)) for start, stop in bounds]
        rows = [text[: stop - start] for text, (start, stop) in zip(texts, bounds, strict=True)]
        targets = [
            np.append(text[1:], 0)[: len(row)] for text, row in zip(texts, rows, strict=True)
        ]
        has_target = [np.arange(start, stop) < corpus.stop - 1 for start, stop in bounds]
        return {
            "tokens": joined(rows, self.length),
            "targets": joined(targets, self.length),
            "documents": numbers(rows, self.length),
            "mask": joined(has_target, self.length).astype(bool),
        }


@dataclass(frozen=True, kw_only=True)
class PackedSentences(PackedDocuments):
    """Rows for masked models: {"tokens", "segments", "documents": int32 [B, L], "mask", "words"}.

    Every document is `cls text sep`; a long one is split between sentences. The segments are 0,
    "words": bool [B, L] is True where a word starts.
    """

    cls: int
    sep: int

    def bounds(self, corpus: Corpus) -> np.ndarray:
        max_tokens = room_for_text(self.length)
        starts = parts(corpus.sentences, max_tokens)
        # A piece ends at the last sentence that fits, or where the next document begins.
        fits = np.searchsorted(starts, starts[:-1] + max_tokens, "right") - 1
        documents = corpus.documents[np.searchsorted(corpus.documents, starts[:-1], "right")]
        following = np.minimum(fits, np.searchsorted(starts, documents)).tolist()
        bounds = [0]
        while bounds[-1] < len(following):
            bounds.append(following[bounds[-1]])
        return starts[bounds]

    def room(self, sizes: np.ndarray) -> np.ndarray:
        return sizes + SPECIALS

    def row(self, corpus: Corpus, starts: np.ndarray, stops: np.ndarray) -> Batch:
        bounds = list(zip(starts.tolist(), stops.tolist(), strict=True))
        rows = [np.array([self.cls, *corpus.read(*both), self.sep]) for both in bounds]
        # A piece starts with a word, even if it is the rest of one.
        words = [[False, True, *corpus.word_starts(*both)[1:], False] for both in bounds]
        documents = numbers(rows, self.length)
        return {
            "tokens": joined(rows, self.length),
            "segments": np.zeros(self.length, np.int32),
            "documents": documents,
            "mask": documents > 0,
            "words": joined(words, self.length).astype(bool),
        }


@dataclass(frozen=True, kw_only=True)
class PackedSpans(PackedDocuments):
    """Rows for span corruption: {"tokens", "documents": int32 [B, R], "mask": bool [B, R]}.

    Attributes:
      raw_length: Tokens of the longest piece.
      row_length: R, the most tokens of a row before spans are removed.
      needed: The room that a piece needs when its spans are removed, by its number of tokens; a
        piece of one token has no span and needs none.
    """

    raw_length: int
    row_length: int
    needed: Callable[[int], int]

    def bounds(self, corpus: Corpus) -> np.ndarray:
        return parts(corpus.documents, self.raw_length)

    def room(self, sizes: np.ndarray) -> np.ndarray:
        return np.array([0, 0, *map(self.needed, range(2, self.raw_length + 1))])[sizes]

    def row(self, corpus: Corpus, starts: np.ndarray, stops: np.ndarray) -> Batch:
        rows = [corpus.read(start, stop) for start, stop in zip(starts, stops, strict=True)]
        documents = numbers(rows, self.row_length)
        return {
            "tokens": joined(rows, self.row_length),
            "documents": documents,
            "mask": documents > 0,
        }


def joined(rows: Sequence[Sequence | np.ndarray], length: int) -> np.ndarray:
    """Return pieces as one row, padded with 0: int32 [length]."""
    row, size = np.zeros(length, np.int32), sum(map(len, rows))
    if rows:
        row[:size] = np.concatenate(rows)
    return row


def numbers(rows: Sequence[Sequence | np.ndarray], length: int) -> np.ndarray:
    """Return the number of the piece at each place of the row, from 1; 0: padding."""
    return joined([np.full(len(row), number) for number, row in enumerate(rows, 1)], length)
