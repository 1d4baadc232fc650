"""Rows of pairs of words with their counts, for GloVe.

A batch is
  size     int32 [B]        how many pairs a row has; fewer than S in the last row only
  first    int32 [B, S]     the smaller id of each pair
  second   int32 [B, S]     the larger id
  count    float32 [B, S]   how often they occur near each other; 0 in padding
with S the length of a row, rounded up to whole blocks of N pairs. The pairs have a fixed random
order, as in the released program, which shuffles them once; here the rows are shuffled in every
epoch, too.
"""

from dataclasses import dataclass

import numpy as np

from train.data import cooccurrences
from train.data.batches.batches import ONE_PROCESS, Batch, Batches, once, shuffled
from train.data.cooccurrences import Rule
from train.data.corpus.corpus import Corpus


@dataclass(frozen=True, kw_only=True, eq=False)
class Cooccurrences:
    """Rows of `length` pairs of words of a text, every pair once.

    Attributes:
      length: Pairs per row.
      block_size: Pairs of a block.
      rule: Which pairs count.
    """

    length: int
    block_size: int
    rule: Rule

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
        example = lambda number, random: self._row(records, number)
        return once(example, self._count(records), batch_size, process)

    def _count(self, records: np.ndarray) -> int:
        return -(-len(records) // self.length)

    def _row(self, records: np.ndarray, number: int) -> Batch:
        part = records[number * self.length : (number + 1) * self.length]
        padding = -(-self.length // self.block_size) * self.block_size - len(part)
        columns = {name: np.pad(part[name], (0, padding)) for name in ("first", "second", "count")}
        return {"size": np.array(len(part), np.int32), **columns}
