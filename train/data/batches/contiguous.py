"""Contiguous batches for stateful recurrent models (Mikolov et al. 2010).

The text is split into B contiguous streams, one per row of the batch. Each step reads the next
window of every stream, so the recurrent state after one step is the initial state of the next.

A batch is that of `windows` plus {"fresh": bool [B]}, True where a row starts its stream.
"""

from dataclasses import dataclass

import numpy as np

from train.data.batches.batches import ONE_PROCESS, Batch, Batches, in_order, once
from train.data.batches.windows import count_windows, window
from train.data.corpus.corpus import Corpus


@dataclass(frozen=True, kw_only=True)
class ContiguousWindows:
    """Windows that each continue the same row of the previous batch."""

    length: int

    def train(
        self, corpus: Corpus, batch_size: int, seed: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return the full windows of all streams, the same in every epoch; the rest is dropped.

        Raises:
          ValueError: If the text is too short for one window per row.
        """
        steps = (corpus.num_tokens - 1) // self.length // batch_size
        if steps < 1:
            raise ValueError(
                f"the text has {corpus.num_tokens} tokens, {batch_size} rows of length "
                f"{self.length} need {batch_size * self.length + 1}: "
                "give more text, a smaller batch or a shorter length"
            )

        def example(index: int, random: np.random.Generator) -> Batch:
            step = index // batch_size % steps
            return self._row(corpus, index % batch_size * steps + step, step == 0)

        return in_order(example, steps * batch_size, batch_size, seed, process)

    def evaluate(
        self, corpus: Corpus, batch_size: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return all windows once, stream by stream; the last one is padded with id 0.

        Raises:
          ValueError: If the text has no token to predict.
        """
        count = count_windows(corpus, self.length, 1)
        steps = -(-count // batch_size)
        return once(
            lambda number, _: self._row(corpus, number, number % steps == 0),
            count,
            batch_size,
            process,
            lambda index: index % batch_size * steps + index // batch_size,
        )

    def _row(self, corpus: Corpus, number: int, is_start: bool) -> Batch:
        return window(corpus, number, self.length, 1) | {"fresh": np.array(is_start)}
