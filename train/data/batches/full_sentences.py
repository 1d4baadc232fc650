"""Rows of whole sentences, as many as fit, for RoBERTa and DistilBERT.

FULL-SENTENCES of Liu et al. 2019, section 4.2: `<s> sentence sentence ... </s>`, across the borders
of documents, which one more </s> marks. A batch is {"tokens": int32 [B, L], "mask": bool [B, L]
(False on padding)}. A sentence longer than a row is cut.
"""

import numpy as np

from train.data.batches.batches import Batch, Batches, once, shuffled
from train.data.corpus.corpus import Corpus, num_tokens, read

SPECIALS = 2  # <s>, </s>


def train(
    corpus: Corpus,
    length: int,
    batch: int,
    seed: int,
    *,
    cls: int,
    sep: int,
    process: tuple[int, int] = (0, 1),
) -> Batches:
    """Every row once an epoch, shuffled anew in every epoch.

    Raises ValueError where the text is shorter than one row.
    """
    if num_tokens(corpus) < length - SPECIALS:
        raise ValueError(
            f"the text has {num_tokens(corpus)} tokens, a row of length {length} needs "
            f"{length - SPECIALS}: give more text, or a shorter length"
        )
    bounds = _bounds(corpus, length)
    example = lambda number, _: _row(corpus, bounds[number : number + 2], length, cls, sep)
    return shuffled(example, len(bounds) - 1, batch, seed, process)


def evaluate(
    corpus: Corpus,
    length: int,
    batch: int,
    *,
    cls: int,
    sep: int,
    process: tuple[int, int] = (0, 1),
) -> Batches:
    """Every row exactly once, in order."""
    bounds = _bounds(corpus, length)
    example = lambda number, _: _row(corpus, bounds[number : number + 2], length, cls, sep)
    return once(example, len(bounds) - 1, batch, process)


def _bounds(corpus: Corpus, length: int) -> np.ndarray:
    """The offset at which each row starts, and the end of the text."""
    room = length - SPECIALS
    if room < 1:
        raise ValueError(f"a row of length {length} has no room for a sentence: 3 is the least")
    sizes = np.diff(corpus.sentences)
    parts = np.maximum(-(-sizes // room), 1)  # of a sentence that fits no row
    part = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    starts = np.append(np.repeat(corpus.sentences[:-1], parts) + part * room, corpus.sentences[-1])
    # A row from i to j holds the borders of documents strictly between them.
    opened = np.searchsorted(corpus.documents, starts, "right")
    before = np.searchsorted(corpus.documents, starts, "left")
    reached = np.searchsorted(starts + before, starts[:-1] + opened[:-1] + room, "right") - 1
    bounds = [0]
    while bounds[-1] < len(starts) - 1:
        bounds.append(max(int(reached[bounds[-1]]), bounds[-1] + 1))
    return starts[bounds]


def _row(corpus: Corpus, bounds: np.ndarray, length: int, cls: int, sep: int) -> Batch:
    start, stop = (int(offset) for offset in bounds)
    inside = slice(*np.searchsorted(corpus.documents, (start + 1, stop)))
    borders = corpus.documents[inside]
    found = np.insert(read(corpus, start, stop), borders - start, sep)
    tokens = np.zeros(length, np.int32)
    tokens[: len(found) + SPECIALS] = [cls, *found, sep]
    return {"tokens": tokens, "mask": np.arange(length) < len(found) + SPECIALS}
