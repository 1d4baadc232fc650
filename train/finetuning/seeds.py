"""Parallel fine-tuning runs in one program: one seed per run, shared frozen parameters.

S runs  N rows  B batch  L length
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from train.devices import placement
from train.finetuning.tasks.task import IGNORED, LabelledRow, Task
from train.objectives.cross_entropy import cross_entropy
from zoo.checkpoints.load import Loaded
from zoo.inference.batching import batches, pad
from zoo.layers.embedding import UnprojectedLogits
from zoo.params import flatten, unflatten

Params = dict[str, jax.Array]  # flat, by path


class Replicas(NamedTuple):
    """The parameters of parallel runs: trained ones, [S, ...], and ones that all runs share."""

    trained: Params
    shared: Params

    def params(self, run: int) -> chex.ArrayTree:
        """Return the parameters of one run."""
        return unflatten(self.shared | {path: x[run] for path, x in self.trained.items()})


class Step(Protocol):
    """The training step of all runs."""

    def __call__(
        self,
        trained: Params,
        opt_state: optax.OptState,
        batch: Mapping[str, jax.Array],
        seeds_S: jax.Array,
        shared: Params,
        step: int,
    ) -> tuple[Params, optax.OptState, jax.Array]:
        """Return the trained parameters and the optimizer state after the step, and loss_S."""


def max_runs(model: nn.Module, params: chex.ArrayTree, rows: int, length: int) -> int:
    """Return how many runs fit into the memory of a device, at least 1.

    A run stores its parameters, their gradient and two moments, all in float32. The activations for
    the backward pass take 2 (34 D + 5 H L) bytes per layer and token (Korthikanti et al. 2022,
    equation 1, https://arxiv.org/abs/2205.05198).
    """
    c = model.config
    per_token = c.num_layers * 2 * (34 * c.width + 5 * getattr(c, "num_heads", 0) * length)
    run = 16 * sum(x.size for x in jax.tree.leaves(params)) + rows * length * per_token
    return max(1, int(placement.memory() // run))


def replicate(loaded: Loaded, new_paths: Sequence[str], seeds: Sequence[int]) -> Replicas:
    """Return runs that share all parameters except the new ones, initialized from their seeds."""
    initial = [
        flatten(loaded.model.init(jax.random.key(seed), jnp.zeros((1, 8), jnp.int32))["params"])
        for seed in seeds
    ]
    trained = {path: jnp.stack([params[path] for params in initial]) for path in new_paths}
    shared = {path: x for path, x in flatten(loaded.params).items() if path not in trained}
    return Replicas(trained, shared)


def unfreeze(replicas: Replicas, paths: Sequence[str], runs: int) -> Replicas:
    """Return replicas in which every run has its own copy of the parameters at `paths`."""
    copies = {
        path: jnp.broadcast_to(x, (runs, *x.shape))
        for path, x in replicas.shared.items()
        if path in set(paths)
    }
    shared = {path: x for path, x in replicas.shared.items() if path not in copies}
    return Replicas(replicas.trained | copies, shared)


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
    """Return the features of all rows without dropout, [N + 1, D] or [N + 1, L, D]."""
    apply = jax.jit(partial(model.apply, method="features"))
    features = None
    for indices, batch in batches([labelled.row for labelled in rows], batch_size, longest):
        output = np.asarray(apply({"params": params}, *batch))[: len(indices)]
        if features is None:
            shape = (len(rows) + 1, *((longest,) * (output.ndim - 2)), output.shape[-1])
            features = np.zeros(shape, np.float32)
        if output.ndim == 3:
            features[indices, : output.shape[1]] = output
        else:
            features[indices] = output
    assert features is not None, "there are no rows"
    return features


def gather(
    arrays: Mapping[str, np.ndarray], length: int, indices: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the rows with the given indices, [S, B, ...]; arrays per token are truncated.

    Features of whole texts are [N, D] and never truncated, even if D equals the longest length.
    """
    longest = arrays["tokens"].shape[1]
    per_token = lambda name, x: x.ndim > 1 + (name == "features") and x.shape[1] == longest
    return {
        name: (x[:, :length] if per_token(name, x) else x)[indices] for name, x in arrays.items()
    }


def make_step(
    model: nn.Module, task: Task, optimizer: optax.GradientTransformation, auxiliary: float = 0.0
) -> Step:
    """Return the compiled step of all runs; `auxiliary` is the weight of the next-token loss."""

    def loss(trained, shared, batch, key):
        variables, rngs = {"params": unflatten(shared | trained)}, {"dropout": key}
        apply = partial(model.apply, variables, train=True, rngs=rngs)
        auxiliary_loss = 0.0
        if "features" in batch:
            output = apply(batch["features"], method="head")
        elif auxiliary:
            apply = partial(apply, method="with_words")
            output, next_token = task.forward(model, apply, batch)
            auxiliary_loss = _next_token_loss(next_token, batch["tokens"], batch["documents"])
        else:
            output = task.forward(model, apply, batch)
        total, weight = task.loss(output, batch["targets"], batch["documents"])
        return total / jnp.maximum(weight, 1) + auxiliary * auxiliary_loss

    def update(trained, opt_state, batch, seed, shared, step):
        key = jax.random.fold_in(jax.random.key(seed), step)
        value, gradient = jax.value_and_grad(loss)(trained, shared, batch, key)
        updates, opt_state = optimizer.update(gradient, opt_state, trained)
        return optax.apply_updates(trained, updates), opt_state, value

    every_run = jax.vmap(update, in_axes=(0, 0, 0, 0, None, None))
    return jax.jit(every_run, donate_argnums=(0, 1))


def _next_token_loss(scores: UnprojectedLogits, tokens_BL, document_ids_BL):
    """Return the mean loss of the next token (Radford et al. 2018, section 3.2)."""
    weights_BL = jnp.float32(document_ids_BL[:, 1:] > 0)
    scores = scores._replace(x_BLD=scores.x_BLD[:, :-1])
    return cross_entropy(scores, tokens_BL[:, 1:], weights_BL).loss / weights_BL.sum()
