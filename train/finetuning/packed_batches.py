"""Batches of labelled rows that are packed: a row has texts which do not attend to each other.

A batch has, besides "tokens", "segments" and "documents" (int32 [B, L]), the targets of its tokens
[B, L], or those of its texts [B, N] with the numbers of these, "texts": int32 [B, N]. The text at
place n of a row has the number n, from 1, as in "documents"; 0: the row has fewer texts. With
parallel runs, all arrays are [S, B, ...].

S runs  B batch  L length  N texts
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import jax
import numpy as np
from flax import linen as nn

from train.data.batches.packed_documents import joined, numbers
from train.data.packing import Order, Packing, pack
from train.devices.placement import Batch
from train.finetuning.batches import stack
from train.finetuning.settings import Settings
from train.finetuning.tasks.classification import Classification, Regression
from train.finetuning.tasks.multi_label import MultiLabel
from train.finetuning.tasks.tagging import Tagging
from train.finetuning.tasks.task import IGNORED, LabelledRow, Task, rows_of
from zoo.direction import is_backward
from zoo.layers.heads import OnTrunk
from zoo.layers.taggers import RecurrentTagger

TASKS = (Classification, Regression, MultiLabel, Tagging)


@dataclass(frozen=True)
class PackedOrder:
    """The order in which parallel runs see packed rows, each in its own order.

    Attributes:
      packing: How the texts are packed.
      batch: Rows per batch.
      seeds: The seed of every run.
    """

    packing: Packing
    batch: int
    seeds: Sequence[int]

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        return -(-self.packing.num_rows // self.batch)

    def __call__(self, step: int) -> list[list[np.ndarray]]:
        """Return the texts of every row of every run; rows after the last of an epoch have none."""
        epoch, number = divmod(step, self.steps)
        rows = range(number * self.batch, (number + 1) * self.batch)
        none = np.zeros(0, int)
        return [
            [order(row) if row < self.packing.num_rows else none for row in rows]
            for order in (_epoch(self.packing, seed, epoch) for seed in self.seeds)
        ]


@dataclass(frozen=True, eq=False)
class PackedBatches:
    """All texts as arrays [texts + 1, ...], the last of them empty, and their packed order.

    Attributes:
      arrays: The texts, as `stack` returns them.
      order: Which texts are in which row.
      length: Tokens per row.
      most: The most texts in a row.
      of_tokens: "targets", if they are those of tokens.
    """

    arrays: Mapping[str, np.ndarray]
    order: PackedOrder
    length: int
    most: int
    of_tokens: Sequence[str]

    @property
    def row_lengths(self) -> Sequence[int]:
        """The lengths of rows; each is compiled once."""
        return (self.length,)

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step."""
        runs = [
            {name: np.stack([row[name] for row in rows]) for name in rows[0]}
            for rows in ([self._row(texts) for texts in run] for run in self.order(step))
        ]
        if len(runs) == 1:
            return runs[0]
        return {name: np.stack([run[name] for run in runs]) for name in runs[0]}

    def prefetched(self, step: int) -> Iterator[Batch]:
        """Yield the batches from a step on; packing a few rows is too quick to need a thread."""
        while True:
            yield self(step)
            step += 1

    def __str__(self) -> str:
        packing = self.order.packing
        return (
            f"packed {len(packing.lengths_N):,} texts into {packing.num_rows:,} rows of "
            f"{self.length} tokens, {self.order.batch} rows per batch"
        )

    def _row(self, texts: np.ndarray) -> Batch:
        lengths = self.order.packing.lengths_N[texts].tolist()
        parts = list(zip(texts.tolist(), lengths, strict=True))
        of = lambda name: [self.arrays[name][text, :length] for text, length in parts]
        row = {name: joined(of(name), self.length) for name in ("tokens", "segments")}
        row["documents"] = numbers(of("tokens"), self.length)
        if "targets" in self.of_tokens:
            targets = joined(of("targets"), self.length)
            return row | {"targets": np.where(row["documents"] > 0, targets, IGNORED)}
        places = np.arange(1, self.most + 1, dtype=np.int32)
        filled = np.append(texts, np.full(self.most - len(texts), -1))
        return row | {
            "targets": self.arrays["targets"][filled],
            "texts": np.where(places <= len(texts), places, 0),
        }


def packed_batches(
    rows: Sequence[LabelledRow], length: int, settings: Settings, seeds: Sequence[int]
) -> PackedBatches:
    """Return the batches of rows that are packed into rows of a length, as configured.

    A batch has about as many texts as one that is not packed, so that the learning rate is as good.
    """
    assert settings.pack is not None, "the rows are packed"
    lengths = np.array([len(row.tokens) for row in rows_of(rows)])
    packing = pack(lengths, length, settings.pack)
    parts = settings.accumulate * jax.device_count()
    share = settings.batch * packing.num_rows / len(rows) / parts
    order = PackedOrder(packing, max(1, round(share)) * parts, tuple(seeds))
    arrays = stack(rows, int(lengths.max()))
    of_tokens = ("targets",) if isinstance(rows[0].target, list) else ()
    return PackedBatches(arrays, order, length, settings.pack, of_tokens)


@lru_cache(maxsize=64)
def _epoch(packing: Packing, seed: int, number: int) -> Order:
    return packing.shuffled(seed, number)


def check(model: nn.Module, task: Task, settings: Settings, *, has_teacher: bool) -> None:
    """Raise ValueError if a model, a task or a setting needs a row for each text."""
    if settings.pack is None:
        return
    if type(task) not in TASKS:
        raise ValueError(
            f"--pack does not work with this task ({type(task).__name__}), which needs a row for "
            "each text: leave it out"
        )
    is_transformer = isinstance(model, OnTrunk) and "num_heads" in vars(model.config)
    if not is_transformer or isinstance(model, RecurrentTagger) or is_backward(model.config):
        raise ValueError(
            f"--pack is for Transformers: a {type(model).__name__} reads one text per row: leave "
            "it out"
        )
    if has_teacher or settings.auxiliary:
        flag = "teacher" if has_teacher else "auxiliary"
        raise ValueError(f"--pack and --{flag} cannot be combined: leave out one")
