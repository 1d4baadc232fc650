"""Batches as a pure function of the step, on Grain's random-access datasets."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grain
import numpy as np

Batch = dict[str, np.ndarray]
# Makes an example from its number. What it draws depends on the seed and its place in the order.
Example = Callable[[int, np.random.Generator], Batch]


@dataclass(frozen=True)
class Batches:
    """This process's rows of the global batch of any step.

    With P processes, process p has the p-th of P equal parts of the global batch, whatever P is; so
    a run may go on with another number of processes.
    """

    dataset: grain.MapDataset
    num_examples: int  # in an epoch, over all processes

    def __call__(self, step: int) -> Batch:
        """The batch of a step; any step, at once."""
        return self.dataset[step]

    def __len__(self) -> int:
        """How many batches there are: all the examples once for evaluation, no end for training."""
        return len(self.dataset)

    def prefetched(self, step: int = 0) -> Iterator[Batch]:
        """The batches from a step on, some of them made ahead in two threads."""
        options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
        batches = iter(self.dataset.to_iter_dataset(options))
        batches.set_state({"next_index": step})
        return batches


def shuffled(
    example: Example, num_examples: int, batch: int, seed: int, process: tuple[int, int]
) -> Batches:
    """For training: every example once an epoch, in an order and with draws new in every epoch."""
    order = grain.MapDataset.range(num_examples).seed(seed).shuffle().repeat()
    return Batches(_rows(order.random_map(example), batch, process), num_examples)


def in_order(
    example: Example, num_examples: int, batch: int, seed: int, process: tuple[int, int]
) -> Batches:
    """For training: the examples 0, 1, 2, ... without end, `num_examples` to an epoch."""
    order = grain.MapDataset.range(sys.maxsize // batch * batch).seed(seed)
    return Batches(_rows(order.random_map(example), batch, process), num_examples)


def once(
    example: Example,
    num_examples: int,
    batch: int,
    process: tuple[int, int],
    order: Callable[[int], int] = lambda place: place,
) -> Batches:
    """For evaluation: every example exactly once, with draws that never change.

    `order` says which example stands at which place, of as many places as fill whole batches. A
    place whose example does not exist is filled with zeros, so that its `mask` is False.
    """

    def padded(place: int, random: np.random.Generator) -> Batch:
        number = order(place)
        row = example(min(number, num_examples - 1), random)
        return row if number < num_examples else {k: np.zeros_like(v) for k, v in row.items()}

    places = grain.MapDataset.range(-(-num_examples // batch) * batch).seed(0)
    return Batches(_rows(places.random_map(padded), batch, process), num_examples)


def _rows(examples: grain.MapDataset, batch: int, process: tuple[int, int]) -> grain.MapDataset:
    index, count = process
    if batch % count:
        raise ValueError(f"a batch of {batch} rows cannot be shared by {count} processes")
    # Batches of one process's size, of which each process takes its own in every round. There is no
    # remainder to drop; but Grain would round an endless length up, by a float, past any integer.
    return examples.batch(batch // count, drop_remainder=True)[index::count]
