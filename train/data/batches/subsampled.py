"""Rows of words for word vectors: frequent words are left out at random, then windows are drawn.

A batch is
  size        int32 [B]             how many words of the row remain
  words       int32 [B, S + 2 W]    the words that remain, after W places of padding
  lines       int32 [B, S + 2 W]    the line of each, or -1 in padding: no window crosses its end
  reach       int32 [B, S]          the size of the window of each word, uniform on 1 to W
  negatives   int32 [B, S / N, K]   negative samples for every block of N words
with S the length of a row, a multiple of N. The rows of fastText have in addition
  subwords    int32 [B, S / N, R]   the rows of the words of every block and of their n-grams
  owners      int32 [B, S / N, R]   the place in the block, with its context, of the word of each

Words are left out before windows are drawn, so a window reaches over what is left out, and the
windows are those of the released programs (Mikolov et al. 2013b, section 2.3, and facts of its
code): a word with the frequency f stays with the probability sqrt(t / f) + t / f.
"""

from dataclasses import dataclass

import numpy as np

from train.data.batches.batches import ONE_PROCESS, Batch, Batches, once, shuffled
from train.data.corpus.corpus import Corpus
from zoo.tokenizers.subwords import Rows


@dataclass(frozen=True, kw_only=True, eq=False)
class SubsampledWords:
    """Rows of `length` tokens of the text, of which some words remain.

    Attributes:
      length: Tokens of the text per row.
      window: The most words on one side of a word.
      block_size: Words of a block.
      keep: The probability with which each word stays; 0 for tokens that are no words.
      line_ends: Tokens that end a line.
      negatives: Negative samples per block; 0: none.
      noise: The cumulative distribution of negative samples over the vocabulary.
      subwords: For fastText, the rows of each word. None: words only.
      whole_context: Whether the rows of the words around a block are read too.
      subwords_per_word: The most rows of a block, on average over its words.
    """

    length: int
    window: int
    block_size: int
    keep: np.ndarray
    line_ends: tuple[int, ...]
    negatives: int
    noise: np.ndarray
    subwords: Rows | None = None
    whole_context: bool = False
    subwords_per_word: int = 0

    def train(
        self, corpus: Corpus, batch_size: int, seed: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return all rows, reshuffled and redrawn in every epoch; the last one may be shorter."""
        example = lambda number, random: self._row(corpus, number, random)
        return shuffled(example, self._count(corpus), batch_size, seed, process)

    def evaluate(
        self, corpus: Corpus, batch_size: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return all rows once, with fixed draws."""
        example = lambda number, random: self._row(corpus, number, random)
        return once(example, self._count(corpus), batch_size, process)

    def _count(self, corpus: Corpus) -> int:
        return -(-corpus.num_tokens // self.length)

    def _row(self, corpus: Corpus, number: int, random: np.random.Generator) -> Batch:
        start = corpus.start + number * self.length
        tokens = corpus.read(start, min(start + self.length, corpus.stop))
        stays = random.random(len(tokens), np.float32) < self.keep[tokens]
        lines = np.cumsum(np.isin(tokens, self.line_ends))[stays]
        W, N = self.window, self.block_size
        blocks = -(-self.length // N)
        around = blocks * N + 2 * W
        words_M, lines_M = np.zeros(around, np.int32), np.full(around, -1, np.int32)
        size = len(lines)
        words_M[W : W + size], lines_M[W : W + size] = tokens[stays], lines
        row = {
            "size": np.array(size, np.int32),
            "words": words_M,
            "lines": lines_M,
            "reach": random.integers(1, W + 1, blocks * N, np.int32),
        }
        if self.negatives:
            draws = random.random((blocks, self.negatives), np.float32)
            row["negatives"] = np.searchsorted(self.noise, draws).astype(np.int32)
        if self.subwords is not None:
            row |= self._subwords(self.subwords, words_M, size, blocks)
        return row

    def _subwords(self, subwords: Rows, words_M: np.ndarray, size: int, blocks: int) -> Batch:
        """Return the rows of n-grams of every block; those beyond the most are left out."""
        W, N = self.window, self.block_size
        before, width = (0, N + 2 * W) if self.whole_context else (W, N)
        most = width * self.subwords_per_word
        rows_TR = np.zeros((blocks, most), np.int32)
        owners_TR = np.full((blocks, most), -1, np.int32)
        for block in range(-(-size // N)):
            places = np.arange(before, before + width)
            places = places[block * N + places < W + size]
            words = words_M[block * N + places]
            first, sizes = subwords.first[words], np.diff(subwords.first)[words]
            starts = np.cumsum(sizes) - sizes
            offsets = np.arange(sizes.sum()) + np.repeat(first - starts, sizes)
            rows, owners = subwords.rows[offsets][:most], np.repeat(places, sizes)[:most]
            rows_TR[block, : len(rows)], owners_TR[block, : len(rows)] = rows, owners
        return {"subwords": rows_TR, "owners": owners_TR}
