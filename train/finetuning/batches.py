"""Batches of labelled rows as a pure function of the step, for one run or for parallel ones.

S runs  N rows  B batch  L length  T tokens of all rows  D width
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import chex
import jax
import numpy as np
from flax import linen as nn

from train.data.batches.epochs import Epochs, epochs
from train.devices.placement import Batch
from train.finetuning.tasks.task import IGNORED, LabelledRow, rows_of
from zoo.contracts import TrunkWithHead
from zoo.direction import is_backward
from zoo.inference.batching import batches, in_reading_order, pad


class Ragged(NamedTuple):
    """Vectors of the tokens of all rows, without padding, which would be most of their memory.

    Attributes:
      x_TD: The vectors of all tokens, row after row.
      starts: Where each row begins, and where the last one ends: [N + 1].
    """

    x_TD: np.ndarray
    starts: np.ndarray

    def padded(self, indices: np.ndarray, length: int) -> np.ndarray:
        """Return rows, padded with zeros to a length: [..., L, D]; row N is empty."""
        x = np.zeros((*indices.shape, length, self.x_TD.shape[-1]), self.x_TD.dtype)
        for place, index in np.ndenumerate(indices):
            if index < len(self.starts) - 1:
                row = self.x_TD[self.starts[index] : self.starts[index + 1]]
                x[place][: len(row)] = row[:length]
        return x


@dataclass(frozen=True, eq=False)
class LabelledBatches:
    """All rows as arrays [N + 1, ...], the last of them empty, and their order.

    A batch is [B, ...]; with more than one seed it is [S, B, ...], one batch for each run.
    `token_axes` is the axis of the tokens of the arrays that have one.
    """

    arrays: Mapping[str, np.ndarray]
    order: Epochs
    token_axes: Mapping[str, int]
    ragged: Mapping[str, Ragged] = field(default_factory=dict)

    @property
    def row_lengths(self) -> Sequence[int]:
        """The lengths of rows; each is compiled once."""
        return tuple(self.order.buckets)

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step; arrays per token are truncated to its length bucket."""
        length, indices_SB = self.order(step)
        truncate = lambda x, axis: x[(slice(None),) * axis + (slice(length),)]
        rows = {
            name: (truncate(x, self.token_axes[name]) if name in self.token_axes else x)[indices_SB]
            for name, x in self.arrays.items()
        }
        rows |= {name: x.padded(indices_SB, length) for name, x in self.ragged.items()}
        return rows if len(self.order.seeds) > 1 else {name: x[0] for name, x in rows.items()}

    def prefetched(self, step: int) -> Iterator[Batch]:
        """Yield the batches from a step on; gathering rows is too quick to need a thread."""
        while True:
            yield self(step)
            step += 1

    def with_outputs(self, name: str, outputs: np.ndarray | Ragged) -> "LabelledBatches":
        """Return batches that also have outputs of a model, one per row or one per token."""
        if isinstance(outputs, Ragged):
            return replace(self, ragged={**self.ragged, name: outputs})
        documents = self.arrays["documents"]
        axes = {name: documents.ndim - 1} if outputs.ndim > documents.ndim else {}
        arrays = {**self.arrays, name: outputs}
        return replace(self, arrays=arrays, token_axes={**self.token_axes, **axes})


def labelled_batches(
    rows: Sequence[LabelledRow], longest: int, batch_size: int, seeds: Sequence[int]
) -> LabelledBatches:
    """Return the batches of rows, none of which has more than `longest` tokens."""
    target_length = lambda target: len(target) if isinstance(target, list) else 0
    lengths = [
        max(target_length(row.target), *(len(tokens) for tokens, *_ in rows_of([row])))
        for row in rows
    ]
    order = epochs(lengths, longest, batch_size, seeds)
    arrays = stack(rows, max(order.buckets))
    tokens_axis = arrays["documents"].ndim - 1
    axes = {name: tokens_axis for name in ("tokens", "segments", "documents")}
    axes |= {"targets": 1} if isinstance(rows[0].target, list) else {}
    return LabelledBatches(arrays, order, axes)


def train_rows(model: nn.Module, rows: Sequence[Sequence[LabelledRow]]) -> list[LabelledRow]:
    """Return the rows of all examples, in the order in which the model reads their tokens."""
    flat = [row for example in rows for row in example]
    if not is_backward(model.config):
        return flat
    return [_reversed(model, labelled) for labelled in flat]


def _reversed(model: nn.Module, labelled: LabelledRow) -> LabelledRow:
    is_choice = isinstance(labelled.row, list)
    rows = list(in_reading_order(model, rows_of([labelled])))
    target = labelled.target
    return labelled._replace(
        row=rows if is_choice else rows[0],
        target=target[::-1] if isinstance(target, list) else target,
    )


def stack(rows: Sequence[LabelledRow], longest: int) -> dict[str, np.ndarray]:
    """Return all rows as arrays [N + 1, ...]; the last row is empty.

    Tokens are [N + 1, L]; those of C choices are [N + 1, C, L], and lists of letters have a further
    axis.
    """
    flat = rows_of(rows)
    choices = (len(flat) // len(rows),) if isinstance(rows[0].row, list) else ()
    padded = pad(flat, len(flat) + len(flat) // len(rows), longest)
    shape = (len(rows) + 1, *choices, longest)
    if isinstance(rows[0].target, list):
        targets = np.full((len(rows) + 1, longest), IGNORED, np.int32)
        for number, labelled in enumerate(rows):
            targets[number, : np.size(labelled.target)] = labelled.target
    else:
        targets = np.array([labelled.target for labelled in rows] + [rows[0].target])
        targets = targets.astype(np.int32 if targets.dtype.kind == "i" else np.float32)
    arrays = {name: x.reshape(*shape, *x.shape[2:]) for name, x in padded._asdict().items()}
    return arrays | {"targets": targets}


def with_features(
    batches: LabelledBatches,
    model: nn.Module,
    params: chex.ArrayTree,
    rows: Sequence[LabelledRow],
) -> LabelledBatches:
    """Return batches that also have the features of a frozen trunk, if a head can read them."""
    if not isinstance(model, TrunkWithHead):
        return batches
    longest = batches.arrays["documents"].shape[-1]
    return batches.with_outputs("features", frozen_features(model, params, rows, longest))


def frozen_features(
    model: nn.Module,
    params: chex.ArrayTree,
    rows: Sequence[LabelledRow],
    longest: int,
    batch_size: int = 64,
) -> np.ndarray | Ragged:
    """Return the features of all rows without dropout: [N + 1, D], [N + 1, C, D], or of tokens.

    They are the input of the head, computed once if the trunk is frozen.
    """
    if isinstance(rows[0].row, list):
        single_rows = [LabelledRow(row, 0) for row in rows_of(rows)]
        flat_ND = frozen_features(model, params, single_rows, longest, batch_size)
        assert isinstance(flat_ND, np.ndarray), "a choice has one vector"
        features_NCD = flat_ND[:-1].reshape(len(rows), -1, flat_ND.shape[-1])
        return np.concatenate([features_NCD, np.zeros_like(features_NCD[:1])])
    apply = jax.jit(partial(model.apply, method="features"))
    flat, features = rows_of(rows), [np.zeros(0, np.float32)] * len(rows)
    for indices, batch in batches(flat, batch_size, longest):
        output = np.asarray(apply({"params": params}, *batch))
        for index, x in zip(indices, output, strict=False):
            features[index] = x[: len(flat[index].tokens)].copy() if x.ndim > 1 else x
    if features[0].ndim > 1:
        starts = np.cumsum([0, *map(len, features)])
        return Ragged(np.concatenate(features), starts)
    return np.stack([*features, np.zeros_like(features[0])])
