"""Batches as a pure function of the step, on Grain's random-access datasets."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import grain
import numpy as np

from train.data.corpus.corpus import Corpus

Batch = dict[str, np.ndarray]
# Makes an example from its index, with a generator seeded by the run and the position in the order.
Example = Callable[[int, np.random.Generator], Batch]
AnyCorpus = TypeVar("AnyCorpus", bound=Corpus, contravariant=True)
ONE_PROCESS = (0, 1)  # the index of this process and the number of processes


@dataclass(frozen=True)
class Batches:
    """The rows of this process in the global batch of any step.

    With P processes, process p holds the p-th of P equal parts of the global batch. The global
    batch does not depend on P, so a run can resume with a different number of processes.
    """

    dataset: grain.MapDataset
    num_examples: int  # per epoch, over all processes

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step."""
        return self.dataset[step]

    def __len__(self) -> int:
        """Return the number of batches; practically infinite for training."""
        return len(self.dataset)

    def prefetched(self, step: int = 0) -> Iterator[Batch]:
        """Yield the batches from a step on, prefetched by two threads."""
        options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
        batches = iter(self.dataset.to_iter_dataset(options))
        batches.set_state({"next_index": step})
        return batches


class BatchSource(Protocol[AnyCorpus]):
    """Contract of the classes that split a corpus into examples and order them.

    An implementation is a frozen dataclass. Its fields are the sequence length and the other
    settings of an example, such as the ids of special tokens. The order of the examples and all
    random draws are pure functions of the seed and the step, so a run can resume at any step and on
    any number of processes.
    """

    def train(
        self, corpus: AnyCorpus, batch_size: int, seed: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return endless batches that contain every example once per epoch.

        Args:
          corpus: The text.
          batch_size: Rows per batch, over all processes.
          seed: Seed of the order and of all random draws.
          process: Index of this process and the number of processes.

        Raises:
          ValueError: If the text is too short, or if the batch size is not divisible by the number
            of processes.
        """
        ...

    def evaluate(
        self, corpus: AnyCorpus, batch_size: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return batches that contain every example exactly once, with fixed random draws.

        The arguments and errors are those of `train`.
        """
        ...


def shuffled(
    example: Example, num_examples: int, batch_size: int, seed: int, process: tuple[int, int]
) -> Batches:
    """Return every example once per epoch, reshuffled and redrawn in every epoch."""
    order = grain.MapDataset.range(num_examples).seed(seed).shuffle().repeat()
    return Batches(_rows(order.random_map(example), batch_size, process), num_examples)


def in_order(
    example: Example, num_examples: int, batch_size: int, seed: int, process: tuple[int, int]
) -> Batches:
    """Return the examples 0, 1, 2, ... in order and without end, `num_examples` per epoch."""
    order = grain.MapDataset.range(sys.maxsize // batch_size * batch_size).seed(seed)
    return Batches(_rows(order.random_map(example), batch_size, process), num_examples)


def once(
    example: Example,
    num_examples: int,
    batch_size: int,
    process: tuple[int, int],
    order: Callable[[int], int] = lambda position: position,
) -> Batches:
    """Return every example exactly once, with fixed random draws.

    `order` maps each row of the batches to the index of its example. A row without an example is
    filled with zeros, so that its `mask` is False.
    """

    def padded(position: int, random: np.random.Generator) -> Batch:
        index = order(position)
        row = example(min(index, num_examples - 1), random)
        return row if index < num_examples else {k: np.zeros_like(v) for k, v in row.items()}

    positions = grain.MapDataset.range(-(-num_examples // batch_size) * batch_size).seed(0)
    return Batches(_rows(positions.random_map(padded), batch_size, process), num_examples)


def _rows(
    examples: grain.MapDataset, batch_size: int, process: tuple[int, int]
) -> grain.MapDataset:
    index, count = process
    if batch_size % count:
        raise ValueError(f"a batch of {batch_size} rows cannot be shared by {count} processes")
    # Batch to the size of one process, then let each process take every count-th batch. There is no
    # remainder to drop; without drop_remainder, Grain rounds an endless length up in floating point
    # and overflows.
    return examples.batch(batch_size // count, drop_remainder=True)[index::count]
