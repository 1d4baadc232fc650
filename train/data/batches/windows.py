"""Fixed-length windows over the whole text, for causal and span-corruption models.

A batch is {"tokens": int32 [B, L + overlap], "mask": bool [B, L + overlap]}, with the mask False on
padding. Consecutive windows start L tokens apart. With an overlap of 1, a causal model reads the
first L tokens of a row and predicts the last L, so every token except the very first is predicted
once per epoch. Without overlap, every token is in exactly one window.
"""

from dataclasses import dataclass

import numpy as np

from train.data.batches.batches import ONE_PROCESS, Batch, Batches, once, shuffled
from train.data.corpus.corpus import Corpus


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Windows in random order, `length` tokens apart, each with `overlap` tokens of the next."""

    length: int
    overlap: int = 1

    def train(
        self, corpus: Corpus, batch_size: int, seed: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return the full windows, reshuffled in every epoch; the rest of the text is dropped.

        Raises:
          ValueError: If the text is shorter than one window.
        """
        count = (corpus.num_tokens - self.overlap) // self.length
        if count < 1:
            raise ValueError(
                f"the text has {corpus.num_tokens} tokens, a window of length {self.length} needs "
                f"{self.length + self.overlap}: give more text, or a shorter length"
            )
        example = lambda number, _: window(corpus, number, self.length, self.overlap)
        return shuffled(example, count, batch_size, seed, process)

    def evaluate(
        self, corpus: Corpus, batch_size: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return all windows once, in order; the last one is padded with id 0.

        Raises:
          ValueError: If the text has no token to predict.
        """
        count = count_windows(corpus, self.length, self.overlap)
        example = lambda number, _: window(corpus, number, self.length, self.overlap)
        return once(example, count, batch_size, process)


def count_windows(corpus: Corpus, length: int, overlap: int) -> int:
    """Return the number of windows that cover the whole text.

    Raises:
      ValueError: If the text has no token to predict.
    """
    count = -(-(corpus.num_tokens - overlap) // length)
    if count < 1:
        raise ValueError(
            "the text has a single token, so there is nothing to predict: give more text"
        )
    return count


def window(corpus: Corpus, number: int, length: int, overlap: int) -> Batch:
    """Return one row of a batch, padded after the end of the text."""
    return window_at(corpus, corpus.start + number * length, length + overlap)


def window_at(corpus: Corpus, start: int, size: int) -> Batch:
    """Return a row of `size` tokens from an offset on, padded after the end of the text."""
    text = corpus.read(start, min(start + size, corpus.stop))
    tokens = np.zeros(size, np.int32)
    tokens[: len(text)] = text
    return {"tokens": tokens, "mask": np.arange(size) < len(text)}
