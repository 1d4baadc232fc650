"""The n-grams of a text and their counts, order by order.

An n-gram is the row of its first n - 1 tokens in the order below, and its last token. Both are
packed into one integer, row * V + token, so one sort of integers counts an order, and the sorted
n-grams are the rows of a trie: those that share a context are consecutive.

Nothing is counted across the beginning of a document: an n-gram may begin with the token that
begins a document, and may end with it, but has it nowhere else. All n-grams of a document's
beginning are counted, the shorter ones in the lower orders, as in KenLM with one <s>.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from train.data import sorting

CHUNK = 1 << 22  # tokens that are sorted at a time
MOST = 2**31 - 1  # n-grams of one order: rows are int32


class Level(NamedTuple):
    """The n-grams of one order, in the order of their rows.

    Attributes:
      first: Where the rows of each context begin, and the end: int64, one more than contexts.
      last: The last token of each n-gram: int32.
      counts: How often each occurred: int64.
      suffix: The row of each without its first token, in the order below: int32.
      opens: Whether each begins with the token that begins a document.
    """

    first: np.ndarray
    last: np.ndarray
    counts: np.ndarray
    suffix: np.ndarray
    opens: np.ndarray

    def contexts(self) -> np.ndarray:
        """Return the row of the context of each n-gram, in the order below."""
        return np.repeat(np.arange(len(self.first) - 1, dtype=np.int32), np.diff(self.first))

    def by_context(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of values of n-grams for every context: float64."""
        return np.bincount(self.contexts(), values, minlength=len(self.first) - 1)


def count(
    tokens: np.ndarray,
    order: int,
    vocab_size: int,
    end: int,
    folder: Path,
    chunk: int = CHUNK,
) -> list[Level]:
    """Return the n-grams of a text, of order 1 first.

    Memory is bounded by the chunk and by the table of one order; the rest is on disk.

    Args:
      tokens: Token ids, each document after the token `end`, which also ends the last.
      order: The highest order.
      vocab_size: Upper bound (exclusive) of the ids. Order 1 has a row for each of them.
      end: The id of that token.
      folder: A folder for files that the result needs.
      chunk: Number of tokens sorted at a time.

    Raises:
      ValueError: If an order has too many n-grams.
    """
    levels = [_unigrams(tokens, vocab_size, end, chunk)]
    rows: np.ndarray = tokens  # of the n-gram that ends at each token; -1 if there is none
    for n in range(2, order + 1):
        keys = (_keys(*part, vocab_size) for part in _parts(tokens, rows, n, end, chunk))
        counted, ranks = sorting.count(
            (key[key >= 0] for key in keys), folder / f"order_{n}", chunk
        )
        if len(counted.keys) > MOST:
            raise ValueError(
                f"the text has {len(counted.keys):,} n-grams of order {n}, but at most {MOST:,} "
                "are supported: use a lower --order, or a part of the text"
            )
        longer = np.memmap(folder / f"rows_{n}", np.int32, "w+", shape=len(tokens))
        suffix = np.zeros(len(counted.keys), np.int32)
        start = 0
        for (context, token), rank in zip(_parts(tokens, rows, n, end, chunk), ranks, strict=True):
            stop = start + len(token)
            is_there = context >= 0
            longer[start:stop] = -1
            longer[start:stop][is_there] = rank
            suffix[rank] = rows[start:stop][is_there]
            start = stop
        levels.append(_level(counted, levels[-1], suffix, vocab_size))
        rows = longer
    return levels


def _unigrams(tokens: np.ndarray, vocab_size: int, end: int, chunk: int) -> Level:
    counts = np.zeros(vocab_size, np.int64)
    for start in range(1, len(tokens), chunk):  # the first token begins the text: not predicted
        counts += np.bincount(tokens[start : start + chunk], minlength=vocab_size)
    return Level(
        first=np.array([0, vocab_size]),
        last=np.arange(vocab_size, dtype=np.int32),
        counts=counts,
        suffix=np.zeros(vocab_size, np.int32),
        opens=np.arange(vocab_size) == end,
    )


def _parts(
    tokens: np.ndarray, rows: np.ndarray, n: int, end: int, chunk: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the row of the context of each token, or -1, and the token; chunk by chunk."""
    for start in range(0, len(tokens), chunk):
        stop = min(start + chunk, len(tokens))
        before = slice(max(start - 1, 0), stop - 1)
        context = rows[before].astype(np.int64)
        if n > 2:  # two tokens or more that end a document are no context
            context[tokens[before] == end] = -1
        if start == 0:
            context = np.concatenate([[-1], context])
        yield context, tokens[start:stop].astype(np.int64)


def _keys(context: np.ndarray, token: np.ndarray, vocab_size: int) -> np.ndarray:
    return np.where(context >= 0, context * vocab_size + token, -1)


def _level(counted: sorting.Counted, lower: Level, suffix: np.ndarray, vocab_size: int) -> Level:
    context = (counted.keys // vocab_size).astype(np.int32)
    sizes = np.bincount(context, minlength=len(lower.last))
    return Level(
        first=np.concatenate([[0], np.cumsum(sizes)]),
        last=(counted.keys % vocab_size).astype(np.int32),
        counts=counted.counts,
        suffix=suffix,
        opens=lower.opens[context],
    )
