"""Contiguous batches whose length varies from step to step (Merity et al. 2017, section 4.1).

With windows of a fixed length, the same tokens would always stand at the end of a window and get
the gradient of few later tokens, in every epoch. So the length of a window is drawn: the base, or
half of it with probability 0.05, plus normal noise.

Departures: lengths are rounded to a multiple of about a seventh of the base, so that the step is
compiled for a handful of lengths; the lengths are drawn once for a run, and their order in every
epoch, so that all epochs have the same number of steps.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from train.data.batches.batches import ONE_PROCESS, Batch, Batches, in_order
from train.data.batches.contiguous import ContiguousWindows
from train.data.batches.windows import window_at
from train.data.corpus.corpus import Corpus

SHORT = 0.05  # probability of half the base length
NOISE = 5.0  # standard deviation of the length, in tokens


@dataclass(frozen=True)
class Lengths:
    """The lengths of all windows of a run: a pure function of the fields and the step.

    Attributes:
      base: The usual length.
      stream: Predicted tokens per row; what is left after the last window is dropped.
      seed: Seed of the lengths and of their order.
    """

    base: int
    stream: int
    seed: int

    @cached_property
    def drawn(self) -> np.ndarray:
        """The lengths of an epoch, in the order of the draws."""
        draw = np.random.default_rng(self.seed)
        grain = -(-self.base // 7)
        lengths: list[int] = []
        left = self.stream
        while left >= grain:
            mean = self.base if draw.random() >= SHORT else self.base / 2
            rounded = round(draw.normal(mean, NOISE) / grain) * grain
            # The last window is shortened to what is left.
            longest = min(self.base + 2 * grain, left // grain * grain)
            lengths.append(int(np.clip(rounded, grain, longest)))
            left -= lengths[-1]
        return np.array(lengths, np.int32)

    @property
    def steps(self) -> int:
        """The number of steps of an epoch."""
        return len(self.drawn)

    def epoch(self, number: int) -> np.ndarray:
        """Return the lengths of an epoch, in its own order."""
        return np.random.default_rng((self.seed, number)).permutation(self.drawn)

    def first(self, steps: int) -> np.ndarray:
        """Return the lengths of the first steps of a run."""
        epochs = -(-steps // self.steps)
        return np.concatenate([self.epoch(number) for number in range(epochs)])[:steps]


@dataclass(frozen=True, kw_only=True)
class VariableWindows:
    """Windows of varying length that each continue the same row of the previous batch."""

    length: int

    def lengths(self, corpus: Corpus, batch_size: int, seed: int) -> Lengths:
        """Return the lengths of the windows of a corpus.

        Raises:
          ValueError: If the text is too short for one window per row.
        """
        stream = (corpus.num_tokens - 1) // batch_size
        if stream < self.length:
            raise ValueError(
                f"the text has {corpus.num_tokens} tokens, {batch_size} rows of length "
                f"{self.length} need {batch_size * self.length + 1}: "
                "give more text, a smaller batch or a shorter length"
            )
        return Lengths(self.length, stream, seed)

    def train(
        self, corpus: Corpus, batch_size: int, seed: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return the windows of all streams, in every epoch at other places.

        Raises:
          ValueError: If the text is too short for one window per row.
        """
        lengths = self.lengths(corpus, batch_size, seed)

        @lru_cache(maxsize=4)
        def epoch(number: int) -> tuple[np.ndarray, np.ndarray]:
            of_epoch = lengths.epoch(number)
            return np.cumsum(of_epoch) - of_epoch, of_epoch

        def example(index: int, random: np.random.Generator) -> Batch:
            step, row = divmod(index, batch_size)
            number, step = divmod(step, lengths.steps)
            starts, of_epoch = epoch(number)
            start = corpus.start + row * lengths.stream + int(starts[step])
            # One token more, the target of the last.
            read = window_at(corpus, start, int(of_epoch[step]) + 1)
            return read | {"fresh": np.array(step == 0)}

        return in_order(example, lengths.steps * batch_size, batch_size, seed, process)

    def evaluate(
        self, corpus: Corpus, batch_size: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return windows of the base length, as `ContiguousWindows` does."""
        return ContiguousWindows(length=self.length).evaluate(corpus, batch_size, process)
