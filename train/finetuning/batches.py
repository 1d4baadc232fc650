"""Batches of labelled rows as a pure function of the step, for one run or for parallel ones.

S runs  N rows  B batch  L length
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import chex
import jax
import numpy as np
from flax import linen as nn

from train.data.batches.epochs import Epochs, epochs
from train.devices.placement import Batch
from train.finetuning.tasks.task import IGNORED, LabelledRow
from zoo.inference.batching import batches, pad


@dataclass(frozen=True, eq=False)
class LabelledBatches:
    """All rows as arrays [N + 1, ...], the last of them empty, and their order.

    A batch is [B, ...]; with several seeds it is [S, B, ...], one batch for each run. The second
    axis of the arrays that `per_token` names counts tokens.
    """

    arrays: Mapping[str, np.ndarray]
    order: Epochs
    per_token: frozenset[str]

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step; arrays per token are truncated to its length bucket."""
        length, indices_SB = self.order(step)
        rows = {
            name: (x[:, :length] if name in self.per_token else x)[indices_SB]
            for name, x in self.arrays.items()
        }
        return rows if len(self.order.seeds) > 1 else {name: x[0] for name, x in rows.items()}

    def prefetched(self, step: int) -> Iterator[Batch]:
        """Yield the batches from a step on; gathering rows is too quick to need a thread."""
        while True:
            yield self(step)
            step += 1

    def with_features(self, features: np.ndarray) -> "LabelledBatches":
        """Return batches that also have the features of the rows, [N + 1, D] or [N + 1, L, D]."""
        per_token = self.per_token | ({"features"} if features.ndim > 2 else set())
        return replace(self, arrays={**self.arrays, "features": features}, per_token=per_token)


def labelled_batches(
    rows: Sequence[LabelledRow], longest: int, batch_size: int, seeds: Sequence[int]
) -> LabelledBatches:
    """Return the batches of rows, none of which has more than `longest` tokens."""
    target_length = lambda target: len(target) if isinstance(target, list) else 0
    lengths = [max(len(row.row.tokens), target_length(row.target)) for row in rows]
    order = epochs(lengths, longest, batch_size, seeds)
    per_token = {"tokens", "segments", "documents"}
    per_token |= {"targets"} if isinstance(rows[0].target, list) else set()
    return LabelledBatches(stack(rows, max(order.buckets)), order, frozenset(per_token))


def stack(rows: Sequence[LabelledRow], longest: int) -> dict[str, np.ndarray]:
    """Return all rows as arrays [N + 1, ...]; the last row is empty."""
    padded = pad([labelled.row for labelled in rows], len(rows) + 1, longest)
    if isinstance(rows[0].target, list):
        targets = np.full((len(rows) + 1, longest), IGNORED, np.int32)
        for number, labelled in enumerate(rows):
            targets[number, : np.size(labelled.target)] = labelled.target
    else:
        targets = np.array([labelled.target for labelled in rows] + [rows[0].target])
        targets = targets.astype(np.int32 if targets.dtype.kind == "i" else np.float32)
    return padded._asdict() | {"targets": targets}


def frozen_features(
    model: nn.Module,
    params: chex.ArrayTree,
    rows: Sequence[LabelledRow],
    longest: int,
    batch_size: int = 64,
) -> np.ndarray:
    """Return the features of all rows without dropout, [N + 1, D] or [N + 1, L, D].

    They are the input of the head, computed once if the trunk is frozen.
    """
    apply = jax.jit(partial(model.apply, method="features"))
    features = np.zeros(0, np.float32)
    for indices, batch in batches([labelled.row for labelled in rows], batch_size, longest):
        output = np.asarray(apply({"params": params}, *batch))[: len(indices)]
        if not features.size:
            shape = (len(rows) + 1, *((longest,) * (output.ndim - 2)), output.shape[-1])
            features = np.zeros(shape, np.float32)
        if output.ndim == 3:
            features[indices, : output.shape[1]] = output
        else:
            features[indices] = output
    return features
