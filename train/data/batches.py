"""Batches as a pure function of the step, on Grain's random-access datasets."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grain
import numpy as np

Batch = dict[str, np.ndarray]


@dataclass(frozen=True)
class Batches:
    """This process's rows of the global batch of any step.

    With P processes, process p has the rows from p to p + 1 P-ths of the global batch, whatever P
    is; so a run may go on with another number of processes.
    """

    dataset: grain.MapDataset
    num_examples: int  # in an epoch, over all processes

    def __call__(self, step: int) -> Batch:
        """The batch of a step; any step, at once."""
        return self.dataset[step]

    def __len__(self) -> int:
        """How many batches there are: no end for training, all the examples once for evaluation."""
        return len(self.dataset)

    def prefetched(self, step: int = 0) -> Iterator[Batch]:
        """The batches from a step on, some of them made ahead in two threads."""
        options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
        batches = iter(self.dataset.to_iter_dataset(options))
        batches.set_state({"next_index": step})
        return batches


def endless(
    example: Callable[[int, np.random.Generator], Batch],
    num_examples: int,
    batch: int,
    seed: int,
    process: tuple[int, int] = (0, 1),
) -> Batches:
    """For training: every example once an epoch, in an order that changes with the epoch.

    `example(index, random)` makes one; its generator depends on the seed and the place in the order
    alone, so that it draws anew in every epoch.
    """
    order = grain.MapDataset.range(num_examples).seed(seed).shuffle().repeat()
    return Batches(_rows(order.random_map(example), batch, process), num_examples)


def once(
    example: Callable[[int, np.random.Generator], Batch],
    num_examples: int,
    batch: int,
    process: tuple[int, int] = (0, 1),
) -> Batches:
    """For evaluation: every example exactly once, in order, with draws that never change.

    The last batch is filled up with zeros, so that its `mask` is False there.
    """

    def padded(index: int, random: np.random.Generator) -> Batch:
        row = example(min(index, num_examples - 1), random)
        return row if index < num_examples else {k: np.zeros_like(v) for k, v in row.items()}

    order = grain.MapDataset.range(-(-num_examples // batch) * batch).seed(0)
    return Batches(_rows(order.random_map(padded), batch, process), num_examples)


def _rows(examples: grain.MapDataset, batch: int, process: tuple[int, int]) -> grain.MapDataset:
    index, count = process
    if batch % count:
        raise ValueError(f"a batch of {batch} rows cannot be shared by {count} processes")
    return examples.batch(batch // count, drop_remainder=True)[index::count]
