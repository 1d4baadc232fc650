"""Overlapping rows for segment recurrence, for XLNet (Yang et al. 2019, section 2.5).

A row is `[reuse tokens] A <sep> B <sep> <cls>`, L tokens in total. Every step moves it forward by
`reuse` tokens, so the memory of one step holds the tokens just before the next. A starts after the
reused tokens and ends at a sentence boundary; B is the text that follows, or, with probability one
half, text from another position. Both are truncated on the right.

A batch is {"tokens": int32 [B, L], "segments": int32 [B, L] (0 up to the first <sep>, then 1; 2 on
<cls>), "mask": bool [B, L] (False on padding), "words": bool [B, L] (True where a word starts;
False on the special tokens), "fresh": bool [B] (True where the row starts over and its memory must
be cleared)}.

Departures from `data_utils.py`: no half of the batch reads the text backwards, and each epoch
shifts the rows by a random offset below `reuse` tokens.
"""

from dataclasses import dataclass

import numpy as np

from train.data.batches.batches import ONE_PROCESS, Batch, Batches, in_order, once
from train.data.batches.segment_pairs import SPECIALS, drops
from train.data.corpus.corpus import Corpus


@dataclass(frozen=True, kw_only=True)
class PermutationRows:
    """Rows of `length` tokens; the first `reuse` of them stay in the memory of the next row."""

    length: int
    reuse: int
    cls: int
    sep: int

    def train(
        self, corpus: Corpus, batch_size: int, seed: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return rows that each read their own part of the text, from its start in every epoch.

        Raises:
          ValueError: If the text is too short for one step, or the length for two segments.
        """
        steps = self._count(corpus, shift=self.reuse - 1) // batch_size
        if steps < 1:
            raise ValueError(
                f"the text has {corpus.num_tokens} tokens, {batch_size} rows of length "
                f"{self.length} need {self.length - SPECIALS + batch_size * self.reuse - 1}: "
                "give more text, a smaller batch or a shorter length"
            )

        def example(index: int, random: np.random.Generator) -> Batch:
            epoch, step = divmod(index // batch_size, steps)
            shift = int(np.random.default_rng((seed, epoch)).integers(self.reuse))
            number = index % batch_size * steps + step
            start = corpus.start + shift + number * self.reuse
            return self._row(corpus, start, random) | {"fresh": np.array(step == 0)}

        return in_order(example, steps * batch_size, batch_size, seed, process)

    def evaluate(
        self, corpus: Corpus, batch_size: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return every position of the text exactly once; rows continue as in training.

        Raises:
          ValueError: If the text is shorter than one row.
        """
        count = self._count(corpus, shift=0)
        if count < 1:
            raise ValueError(
                f"the text has {corpus.num_tokens} tokens, a row of length {self.length} needs "
                f"{self.length - SPECIALS}: give more text, or a shorter length"
            )
        steps = -(-count // batch_size)

        def example(number: int, random: np.random.Generator) -> Batch:
            start = corpus.start + number * self.reuse
            return self._row(corpus, start, random) | {"fresh": np.array(number % steps == 0)}

        order = lambda index: index % batch_size * steps + index // batch_size
        return once(example, count, batch_size, process, order)

    def _count(self, corpus: Corpus, shift: int) -> int:
        """Return how many rows, `reuse` tokens apart, fit after the first `shift` tokens."""
        if not 0 < self.reuse <= self.length - SPECIALS - 2:
            raise ValueError(
                f"a row of length {self.length} that reuses {self.reuse} tokens has no room for "
                "two segments: use a longer length"
            )
        return (corpus.num_tokens - shift - (self.length - SPECIALS)) // self.reuse + 1

    def _row(self, corpus: Corpus, start: int, random: np.random.Generator) -> Batch:
        max_tokens = self.length - self.reuse - SPECIALS
        a_start = start + self.reuse
        a_stop, b_start, b_stop = _segments(corpus, a_start, max_tokens, random)
        a_drop, b_drop = drops(a_stop - a_start, b_stop - b_start, max_tokens)
        parts = [(start, a_start), (a_start, a_stop - a_drop), (b_start, b_stop - b_drop)]
        specials = [np.array(ids, np.int32) for ids in ([], [self.sep], [self.sep, self.cls])]
        tokens, words = [], []
        for (first, stop), special in zip(parts, specials, strict=True):
            tokens += [corpus.read(first, stop), special]
            starts = corpus.word_starts(first, stop)
            starts[:1] = True  # a truncated word starts with its first remaining token
            words += [starts, np.zeros(len(special), bool)]
        segments = np.zeros(self.length, np.int32)
        segments[parts[1][1] - start + 1 :] = 1
        segments[-1] = 2
        return {
            "tokens": np.concatenate(tokens),
            "segments": segments,
            "mask": np.ones(self.length, bool),
            "words": np.concatenate(words),
        }


def _segments(
    corpus: Corpus, start: int, max_tokens: int, random: np.random.Generator
) -> tuple[int, int, int]:
    """Return the end of A, and the start and end of B: at least `max_tokens` tokens in total."""
    sentences = corpus.sentences
    first = int(np.searchsorted(sentences, start, "right"))
    last = int(np.searchsorted(sentences, start + max_tokens))  # ends the last sentence that fits
    inside = last > first  # A can end before that
    a_stop = int(sentences[random.integers(first, last) if inside else last])
    if inside and random.random() < 0.5:
        return a_stop, a_stop, int(sentences[last])
    b_size = max(1, max_tokens - (a_stop - start))
    b_start = int(random.integers(corpus.start, corpus.stop - b_size + 1))
    b_stop = b_start + b_size
    sentence = int(np.searchsorted(sentences, b_start, "right")) - 1
    return a_stop, int(sentences[sentence]), int(sentences[np.searchsorted(sentences, b_stop)])
