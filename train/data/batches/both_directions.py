"""Contiguous batches of a text and of its reversal, for language models of both directions.

A batch is that of `contiguous`, and the same of the reversed text under names that begin with
"backward_". A row reads the text and its reversal at the same distance from their starts, so its
two windows are of different parts of the text.
"""

from dataclasses import dataclass

import grain

from train.data.batches.batches import ONE_PROCESS, Batch, Batches
from train.data.batches.contiguous import ContiguousWindows
from train.data.corpus.corpus import Corpus
from train.data.corpus.reversed import Reversed


@dataclass(frozen=True, kw_only=True)
class WindowsOfBothDirections:
    """Windows of both directions that each continue the same row of the previous batch.

    `end_of_document` is the id of the token that begins documents.
    """

    length: int
    end_of_document: int

    def train(
        self, corpus: Corpus, batch_size: int, seed: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return the full windows of all streams, as `ContiguousWindows` does."""
        windows, backward = ContiguousWindows(length=self.length), self._reversed(corpus)
        options = batch_size, seed, process
        return _joined(windows.train(corpus, *options), windows.train(backward, *options))

    def evaluate(
        self, corpus: Corpus, batch_size: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return all windows once, as `ContiguousWindows` does."""
        windows, backward = ContiguousWindows(length=self.length), self._reversed(corpus)
        options = batch_size, process
        return _joined(windows.evaluate(corpus, *options), windows.evaluate(backward, *options))

    def _reversed(self, corpus: Corpus) -> Reversed:
        return Reversed.of(corpus, self.end_of_document)


def _joined(forward: Batches, backward: Batches) -> Batches:
    """Return batches with the arrays of both."""

    def join(batches: tuple[Batch, Batch]) -> Batch:
        return batches[0] | {f"backward_{name}": array for name, array in batches[1].items()}

    both = grain.experimental.ZipMapDataset([forward.dataset, backward.dataset])
    return Batches(both.map(join), forward.num_examples)
