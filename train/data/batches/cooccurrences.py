"""Rows of pairs of words with their counts, for GloVe.

A batch is
  size     int32 [B]        how many pairs a row has; fewer than S in the last row only
  first    int32 [B, S]     the smaller id of each pair
  second   int32 [B, S]     the larger id
  count    float32 [B, S]   how often they occur near each other; 0 in padding
with S the length of a row, rounded up to whole blocks of N pairs. The pairs have a fixed random
order, as in the released program, which shuffles them once; here the rows are shuffled in every
epoch, too.

The counts of a held-out text are multiplied by the ratio of the sizes of both texts, so that they
estimate those of the training text. They are too high for pairs that are rare in the held-out text,
which were chosen because they are in it at all, so the loss stays far above that of training.
"""

from dataclasses import dataclass

import numpy as np

from train.data import cooccurrences
from train.data.batches.batches import ONE_PROCESS, Batch, Batches, once, shuffled
from train.data.cooccurrences import Rule
from train.data.corpus.corpus import Corpus
from train.data.corpus.journal import read_part


@dataclass(frozen=True, kw_only=True, eq=False)
class Cooccurrences:
    """Rows of `length` pairs of words of a text, every pair once.

    Attributes:
      length: Pairs per row.
      block_size: Pairs of a block.
      rule: Which pairs count.
      num_words: The number of words of the training text.
    """

    length: int
    block_size: int
    rule: Rule
    num_words: int

    def train(
        self, corpus: Corpus, batch_size: int, seed: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return all rows, reshuffled in every epoch."""
        records = cooccurrences.records(corpus, self.rule)
        example = lambda number, random: self._row(records, number)
        return shuffled(example, self._count(records), batch_size, seed, process)

    def evaluate(
        self, corpus: Corpus, batch_size: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return the rows of the pairs of a held-out text, once."""
        records = cooccurrences.records(corpus, self.rule)
        ratio = self.num_words / cooccurrences.num_words(corpus, self.rule)
        example = lambda number, random: self._row(records, number, ratio)
        return once(example, self._count(records), batch_size, process)

    def _count(self, records: np.ndarray) -> int:
        return -(-len(records) // self.length)

    def _row(self, records: np.ndarray, number: int, ratio: float = 1.0) -> Batch:
        start = number * self.length
        part = read_part(records, start, min(start + self.length, len(records)))
        padding = -(-self.length // self.block_size) * self.block_size - len(part)
        columns = {name: np.pad(part[name], (0, padding)) for name in ("first", "second", "count")}
        columns["count"] *= np.float32(ratio)
        return {"size": np.array(len(part), np.int32), **columns}
