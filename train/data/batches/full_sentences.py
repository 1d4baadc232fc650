"""Rows packed with whole sentences, for RoBERTa and DistilBERT.

FULL-SENTENCES of Liu et al. 2019, section 4.2: `<s> sentence sentence ... </s>`. A row may cross
document boundaries, each marked by an extra </s>. A batch is {"tokens": int32 [B, L], "mask":
bool [B, L] (False on padding)}. A sentence longer than a row is split.
"""

from dataclasses import dataclass

import numpy as np

from train.data.batches.batches import ONE_PROCESS, Batch, Batches, once, shuffled
from train.data.corpus.corpus import Corpus

SPECIALS = 2  # <s>, </s>


@dataclass(frozen=True, kw_only=True)
class FullSentences:
    """Rows of up to `length` tokens; `cls` starts a row, `sep` ends rows and documents."""

    length: int
    cls: int
    sep: int

    def train(
        self, corpus: Corpus, batch_size: int, seed: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return every row once per epoch, reshuffled in every epoch.

        Raises:
          ValueError: If the text is shorter than one row.
        """
        if corpus.num_tokens < self.length - SPECIALS:
            raise ValueError(
                f"the text has {corpus.num_tokens} tokens, a row of length {self.length} needs "
                f"{self.length - SPECIALS}: give more text, or a shorter length"
            )
        bounds = row_bounds(corpus, self.length)
        example = lambda number, _: self._row(corpus, *bounds[number : number + 2].tolist())
        return shuffled(example, len(bounds) - 1, batch_size, seed, process)

    def evaluate(
        self, corpus: Corpus, batch_size: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return every row exactly once, in order."""
        bounds = row_bounds(corpus, self.length)
        example = lambda number, _: self._row(corpus, *bounds[number : number + 2].tolist())
        return once(example, len(bounds) - 1, batch_size, process)

    def _row(self, corpus: Corpus, start: int, stop: int) -> Batch:
        inside = slice(*np.searchsorted(corpus.documents, (start + 1, stop)))
        borders = corpus.documents[inside]
        text = np.insert(corpus.read(start, stop), borders - start, self.sep)
        tokens = np.zeros(self.length, np.int32)
        tokens[: len(text) + SPECIALS] = [self.cls, *text, self.sep]
        return {"tokens": tokens, "mask": np.arange(self.length) < len(text) + SPECIALS}


def row_bounds(corpus: Corpus, length: int) -> np.ndarray:
    """Return the offset at which each row starts, followed by the end of the text: int64."""
    max_tokens = room_for_text(length)
    starts = parts(corpus.sentences, max_tokens)
    # A row from i to j contains the document boundaries strictly between them.
    borders_up_to = np.searchsorted(corpus.documents, starts, "right")
    borders_before = np.searchsorted(corpus.documents, starts, "left")
    next_row = (
        np.searchsorted(
            starts + borders_before, starts[:-1] + borders_up_to[:-1] + max_tokens, "right"
        )
        - 1
    )
    bounds = [0]
    while bounds[-1] < len(starts) - 1:
        bounds.append(max(int(next_row[bounds[-1]]), bounds[-1] + 1))
    return starts[bounds]


def room_for_text(length: int) -> int:
    """Return how many tokens of text fit into a row of a length.

    Raises:
      ValueError: If none do.
    """
    if length <= SPECIALS:
        raise ValueError(f"a row of length {length} has no room for text: use at least 3")
    return length - SPECIALS


def parts(bounds: np.ndarray, max_tokens: int) -> np.ndarray:
    """Return bounds with more of them where a sentence or document is longer than `max_tokens`."""
    counts = np.maximum(-(-np.diff(bounds) // max_tokens), 1)
    part = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.append(np.repeat(bounds[:-1], counts) + part * max_tokens, bounds[-1])
