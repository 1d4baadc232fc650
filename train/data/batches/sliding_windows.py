"""Overlapping windows, so that a causal model predicts every token once with a long context.

A batch is that of `windows` with an overlap of 1, plus {"scored": bool [B, L + 1]}, True for the
tokens whose prediction counts.
"""

from dataclasses import dataclass

import numpy as np

from train.data.batches.batches import ONE_PROCESS, Batch, Batches, once
from train.data.batches.windows import count_windows, window_at
from train.data.corpus.corpus import Corpus


@dataclass(frozen=True, kw_only=True)
class SlidingWindows:
    """Windows of `length` tokens, `stride` apart, for evaluation.

    All predictions of the first window are scored, and only the last `stride` of every other one:
    every token but the first is scored once, after the first window with at least
    `length - stride` tokens of context.
    """

    length: int
    stride: int

    def evaluate(
        self, corpus: Corpus, batch_size: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return all windows once, in order; the last one is padded with id 0.

        Raises:
          ValueError: If the text has no token to predict.
        """
        count_windows(corpus, self.length, 1)  # raises for a text of one token
        after_first = max(0, corpus.num_tokens - 1 - self.length)
        count = 1 + -(-after_first // self.stride)
        return once(lambda number, _: self._row(corpus, number), count, batch_size, process)

    def _row(self, corpus: Corpus, number: int) -> Batch:
        row = window_at(corpus, corpus.start + number * self.stride, self.length + 1)
        first = 0 if number == 0 else self.length + 1 - self.stride
        return row | {"scored": np.arange(self.length + 1) >= first}
