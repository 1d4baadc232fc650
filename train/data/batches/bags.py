"""Texts as bags of rows, each with its label, for the classifier of fastText.

A batch is
  rows        int32 [B, R]   the rows of each text; -1 is padding
  label       int32 [B]      its label
and for negative sampling
  negatives   int32 [B, K]   other labels, drawn for this text
"""

from dataclasses import dataclass

import numpy as np

from train.data.batches.batches import ONE_PROCESS, Batch, Batches, shuffled
from zoo.tokenizers.subwords import Rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Bags:
    """Labelled texts.

    Attributes:
      texts: The rows of each text.
      labels: The label of each text.
      negatives: Negative samples per text; 0: none.
      noise: The probability of each label as a negative sample.
    """

    texts: Rows
    labels: np.ndarray
    negatives: int
    noise: np.ndarray

    def train(self, batch_size: int, seed: int, process: tuple[int, int] = ONE_PROCESS) -> Batches:
        """Return endless batches that contain every text once per epoch."""
        longest = int(np.diff(self.texts.first).max())
        example = lambda number, random: self._example(number, random, longest)
        return shuffled(example, len(self.labels), batch_size, seed, process)

    def _example(self, number: int, random: np.random.Generator, longest: int) -> Batch:
        rows = self.texts.rows[self.texts.first[number] : self.texts.first[number + 1]]
        rows_R = np.full(longest, -1, np.int32)
        rows_R[: len(rows)] = rows
        example = {"rows": rows_R, "label": self.labels[number]}
        if self.negatives:
            example["negatives"] = self._draw(int(self.labels[number]), random)
        return example

    def _draw(self, label: int, random: np.random.Generator) -> np.ndarray:
        """Return labels other than the one given, by their probabilities."""
        others = np.where(np.arange(len(self.noise)) == label, 0, self.noise).cumsum()
        draws = random.random(self.negatives) * others[-1]
        return np.searchsorted(others, draws, "right").astype(np.int32)
