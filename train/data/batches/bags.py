"""Texts as bags of rows, each with its label, for the classifier of fastText.

A batch is
  rows        int32 [B, R]   the rows of each text; -1 is padding
  label       int32 [B]      its label; -1: there is no text
and for negative sampling
  negatives   int32 [B, K]   labels drawn for each text, other than its own

Texts of similar length share a batch, so R is a length bucket.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from train.data.batches.batches import Batch
from train.data.batches.epochs import Epochs, epochs
from zoo.tokenizers.subwords import Rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Bags:
    """Endless batches that contain every text once per epoch, as a pure function of the step.

    Attributes:
      texts: The rows of each text.
      labels: The label of each text.
      batch: Texts per batch.
      seed: The seed of the order and of all draws.
      negatives: Negative samples per text; 0: none.
      noise: The weight of each label as a negative sample; at least two are above 0.
    """

    texts: Rows
    labels: np.ndarray
    batch: int
    seed: int
    negatives: int
    noise: np.ndarray

    @cached_property
    def order(self) -> Epochs:
        """The order of the texts."""
        sizes = np.maximum(np.diff(self.texts.first), 1)
        return epochs(sizes.tolist(), int(sizes.max()), self.batch, [self.seed])

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step."""
        R, (texts_B,) = self.order(step)
        texts_N = texts_B[texts_B >= 0]
        first, rows = self.texts
        rows_BR, label_B = np.full((self.batch, R), -1, np.int32), np.full(self.batch, -1, np.int32)
        label_B[: len(texts_N)] = self.labels[texts_N]
        sizes_N = first[texts_N + 1] - first[texts_N]
        rows_BR[: len(texts_N)][np.arange(R) < sizes_N[:, None]] = np.concatenate(
            [rows[first[text] : first[text + 1]] for text in texts_N]
        )
        batch = {"rows": rows_BR, "label": label_B}
        if self.negatives:
            batch["negatives"] = self._draw(label_B, np.random.default_rng((self.seed, step)))
        return batch

    def prefetched(self, step: int) -> Iterator[Batch]:
        """Yield the batches from a step on; making them is too quick to need a thread."""
        while True:
            yield self(step)
            step += 1

    def _draw(self, label_B: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Return labels by their weights, drawn again where they are that of the text: [B, K]."""
        noise = self.noise.cumsum()
        draw = lambda *shape: np.searchsorted(noise, random.random(shape) * noise[-1], "right")
        label_BK = draw(len(label_B), self.negatives).astype(np.int32)
        while (same_BK := label_BK == label_B[:, None]).any():
            label_BK[same_BK] = draw(same_BK.sum())
        return label_BK
