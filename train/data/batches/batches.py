"""Batches as a pure function of the step, on Grain's random-access datasets."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import grain
import numpy as np

from train.data.corpus.corpus import Corpus

Batch = dict[str, np.ndarray]
# Makes an example from its number. What it draws depends on the seed and its place in the order.
Example = Callable[[int, np.random.Generator], Batch]
AnyCorpus = TypeVar("AnyCorpus", bound=Corpus, contravariant=True)
ONE_PROCESS = (0, 1)  # the number of a process, and how many there are


@dataclass(frozen=True)
class Batches:
    """This process's rows of the global batch of any step.

    With P processes, process p has the p-th of P equal parts of the global batch, whatever P is; so
    a run may go on with another number of processes.
    """

    dataset: grain.MapDataset
    num_examples: int  # in an epoch, over all processes

    def __call__(self, step: int) -> Batch:
        """Return the batch of any step."""
        return self.dataset[step]

    def __len__(self) -> int:
        """Return how many batches there are; for training, so many that they never end."""
        return len(self.dataset)

    def prefetched(self, step: int = 0) -> Iterator[Batch]:
        """Yield the batches from a step on, some of them prepared ahead in two threads."""
        options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
        batches = iter(self.dataset.to_iter_dataset(options))
        batches.set_state({"next_index": step})
        return batches


class BatchSource(Protocol[AnyCorpus]):
    """A way to cut a corpus into examples of a fixed length, and to order them.

    It is a frozen dataclass whose fields are the length and what else an example is made with, such
    as the ids of special tokens. The order of the examples and all draws are pure functions of the
    seed and the step, so a run can start anywhere and on any number of processes.
    """

    def train(
        self, corpus: AnyCorpus, batch_size: int, seed: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return endless batches, in which every example comes once per epoch.

        Args:
          corpus: The text.
          batch_size: Rows of a batch, over all processes.
          seed: Decides the order and the draws.
          process: The number of this process, and how many there are.

        Raises:
          ValueError: If the text is too short, or if the processes cannot share the rows.
        """
        ...

    def evaluate(
        self, corpus: AnyCorpus, batch_size: int, process: tuple[int, int] = ONE_PROCESS
    ) -> Batches:
        """Return batches that hold every example exactly once, always drawn alike.

        Arguments and errors are those of `train`.
        """
        ...


def shuffled(
    example: Example, num_examples: int, batch_size: int, seed: int, process: tuple[int, int]
) -> Batches:
    """Return every example once per epoch, in a new order and with new draws in every epoch."""
    order = grain.MapDataset.range(num_examples).seed(seed).shuffle().repeat()
    return Batches(_rows(order.random_map(example), batch_size, process), num_examples)


def in_order(
    example: Example, num_examples: int, batch_size: int, seed: int, process: tuple[int, int]
) -> Batches:
    """Return the examples 0, 1, 2, ... without end, `num_examples` per epoch."""
    order = grain.MapDataset.range(sys.maxsize // batch_size * batch_size).seed(seed)
    return Batches(_rows(order.random_map(example), batch_size, process), num_examples)


def once(
    example: Example,
    num_examples: int,
    batch_size: int,
    process: tuple[int, int],
    order: Callable[[int], int] = lambda place: place,
) -> Batches:
    """Return every example exactly once, with draws that never change.

    `order` maps each place, of as many as fill whole batches, to the number of its example. A place
    whose example does not exist is filled with zeros, so that its `mask` is False.
    """

    def padded(place: int, random: np.random.Generator) -> Batch:
        number = order(place)
        row = example(min(number, num_examples - 1), random)
        return row if number < num_examples else {k: np.zeros_like(v) for k, v in row.items()}

    places = grain.MapDataset.range(-(-num_examples // batch_size) * batch_size).seed(0)
    return Batches(_rows(places.random_map(padded), batch_size, process), num_examples)


def _rows(
    examples: grain.MapDataset, batch_size: int, process: tuple[int, int]
) -> grain.MapDataset:
    index, count = process
    if batch_size % count:
        raise ValueError(f"a batch of {batch_size} rows cannot be shared by {count} processes")
    # Batches of one process's size, of which each process takes its own in every round. There is no
    # remainder to drop; but Grain would round an endless length up, by a float, past any integer.
    return examples.batch(batch_size // count, drop_remainder=True)[index::count]
