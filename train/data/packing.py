"""Packing: as many documents in each row of a fixed size as have room in it.

Best fit, longest documents first, on the histogram of the lengths (Krell et al. 2021,
https://arxiv.org/abs/2107.02027, section 3.1): each document goes into the fullest row that has
room for it. Only lengths are packed. Which of the documents of a length goes where is drawn in
every epoch, so all epochs have the same number of rows and documents meet in new company.

N documents
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Order:
    """The rows of an epoch in their order, each with its documents.

    Attributes:
      documents_N: The documents, place after place.
      starts: The first place of each row, and the number of places.
      rows: The row that is read first, second, ...
    """

    documents_N: np.ndarray
    starts: np.ndarray
    rows: np.ndarray

    def __call__(self, number: int) -> np.ndarray:
        """Return the documents of a row, by its number in the epoch."""
        row = self.rows[number]
        return self.documents_N[self.starts[row] : self.starts[row + 1]]


@dataclass(frozen=True, eq=False)
class Packing:
    """The places of all rows, for documents of given lengths.

    Attributes:
      lengths_N: The length of each document.
      starts: The first place of each row, and the number of places.
      ranks_N: For each place, the number of places that are filled before it: longer ones.
    """

    lengths_N: np.ndarray
    starts: np.ndarray
    ranks_N: np.ndarray

    @property
    def num_rows(self) -> int:
        """The number of rows of an epoch."""
        return len(self.starts) - 1

    def shuffled(self, seed: int, epoch: int) -> Order:
        """Return an epoch: a pure function of the seed and its number."""
        random = np.random.default_rng((seed, epoch))
        drawn = random.permutation(len(self.lengths_N))
        return self._filled(drawn, random.permutation(self.num_rows))

    def in_order(self) -> Order:
        """Return the rows without a draw."""
        return self._filled(np.arange(len(self.lengths_N)), np.arange(self.num_rows))

    def _filled(self, documents_N: np.ndarray, rows: np.ndarray) -> Order:
        longest_first = documents_N[np.argsort(-self.lengths_N[documents_N], kind="stable")]
        return Order(longest_first[self.ranks_N], self.starts, rows)


def pack(lengths: np.ndarray, size: int, most: int) -> Packing:
    """Pack documents into rows.

    Args:
      lengths: The length of each document, from 1 to `size`.
      size: The room in a row.
      most: The most documents in a row.
    """
    counts = np.bincount(lengths, minlength=size + 1)
    # By the room that is left: what rows contain -> how many do. Empty rows never run out.
    rows: list[dict[tuple[int, ...], int]] = [{} for _ in range(size + 1)]
    full: dict[tuple[int, ...], int] = {}  # rows with the most documents
    rows[size][()] = len(lengths) + 1
    for length in np.flatnonzero(counts)[::-1].tolist():
        documents = int(counts[length])
        for room in range(length, size + 1):
            while documents and rows[room]:
                content, count = rows[room].popitem()
                copies = min(room // length, most - len(content), documents)
                filled = min(count, documents // copies)
                if filled < count:
                    rows[room][content] = count - filled
                documents -= filled * copies
                longer = content + (length,) * copies
                left = full if len(longer) == most else rows[room - copies * length]
                left[longer] = left.get(longer, 0) + filled
            if not documents:
                break
    del rows[size][()]
    contents = [item for by_content in (full, *rows) for item in by_content.items()]
    lengths_N = np.concatenate([np.tile(content, count) for content, count in contents])
    sizes = np.repeat(*np.transpose([(len(content), count) for content, count in contents]))
    ranks_N = np.empty(len(lengths_N), np.int64)
    ranks_N[np.argsort(-lengths_N, kind="stable")] = np.arange(len(lengths_N))
    return Packing(np.asarray(lengths), np.append(0, np.cumsum(sizes)), ranks_N)
