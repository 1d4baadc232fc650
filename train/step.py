"""The one gradient step, and the evaluation of one batch.

Both are pure functions of their arguments. `across` adds up over replicas where the step is mapped
over them by hand (pmap); on a mesh the arrays are global, and a sum is a sum.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, TypeVar

import chex
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from train.data.batches.batches import Batches
from train.objectives.objective import Example, Objective, Term

Tree = TypeVar("Tree", bound=chex.ArrayTree)
# The sums of the terms of a batch, and of their weights.
Sums = tuple[dict[str, Term], dict[str, jax.Array]]


class State(NamedTuple):
    """The state of a run.

    Attributes:
      step: How many steps have been made.
      params: The parameters.
      opt_state: The state of the optimizer.
      carry: What the last batch left for the next.
    """

    step: jax.Array
    params: chex.ArrayTree
    opt_state: optax.OptState
    carry: chex.ArrayTree


class Across(Protocol):
    """Adds up the arrays of a tree over replicas."""

    def __call__(self, tree: Tree, /) -> Tree:
        """Return the sums, on every replica."""
        ...


class Evaluate(Protocol):
    """Evaluates one batch."""

    def __call__(
        self, params: chex.ArrayTree, batch: Example, carry: chex.ArrayTree, number: int, /
    ) -> tuple[Sums, chex.ArrayTree]:
        """Return the sums of the batch of some number, and the carry for the next batch."""
        ...


def make_init(
    model: nn.Module,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    batch_size: int,
    seed: int,
) -> Callable[[], State]:
    """Return a function that makes the state before the first step."""

    def init():
        params = model.init(jax.random.key(seed), jnp.zeros((1, 8), jnp.int32))["params"]
        carry = objective.initial_carry(model, batch_size)
        return State(jnp.int32(0), params, optimizer.init(params), carry)

    return init


def make_step(
    model: nn.Module,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    *,
    seed: int,
    dtype: str,
    accumulate: int = 1,
    across: Across = lambda x: x,
    place: Callable[[], int | jax.Array] = int,
) -> Callable[[State, Example], tuple[State, dict[str, jax.Array]]]:
    """Return a function that makes one step from one batch: (state, batch) -> (state, metrics).

    Args:
      model: The network.
      objective: What it is trained to do.
      optimizer: How parameters are updated.
      schedule: The learning rates, for the metrics.
      seed: Decides masks and dropout.
      dtype: What matrix products compute in.
      accumulate: Micro-batches that are taken one after the other, their gradients added up in
        float32.
      across: Adds up over replicas.
      place: Returns the number of the replica.
    """

    def step(state: State, batch):
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        batch = corrupt(objective, key, batch, place())
        weights = across(jax.tree.map(jnp.sum, batch["weights"]))
        key = jax.random.fold_in(key, place())

        def loss(params, micro_batch, carry, key):
            params = cast(params, dtype)
            terms, carry = objective.loss(model, params, micro_batch, carry, key, train=True)
            return total(objective, terms, weights), (terms, carry)

        def micro_step(gradient, inputs):
            more, aux = jax.grad(loss, has_aux=True)(state.params, *inputs)
            return jax.tree.map(jnp.add, gradient, more), aux

        if accumulate == 1:
            gradient, (terms, carry) = jax.grad(loss, has_aux=True)(
                state.params, batch, state.carry, key
            )
        else:
            zeros = jax.tree.map(jnp.zeros_like, state.params)
            keys = jax.random.split(key, accumulate)
            inputs = (split_rows(batch, accumulate), split_rows(state.carry, accumulate), keys)
            gradient, (terms, carry) = jax.lax.scan(micro_step, zeros, inputs)
            terms, carry = jax.tree.map(lambda x: x.sum(0), terms), join_rows(carry)

        gradient, terms = across((gradient, terms))
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {
            "loss": total(objective, terms, weights),
            "gradient_norm": optax.tree.norm(gradient),
            "rate": schedule(state.step),
            **means(objective, terms, weights),
        }
        return State(state.step + 1, params, opt_state, carry), metrics

    return step


def make_evaluate(
    model: nn.Module,
    objective: Objective,
    *,
    dtype: str,
    across: Across = lambda x: x,
    place: Callable[[], int | jax.Array] = int,
) -> Evaluate:
    """Return a function that evaluates one batch; arguments are those of `make_step`.

    What is masked depends on the number of the batch alone, so every evaluation asks the same.
    """

    def evaluate(params, batch, carry, number):
        key = jax.random.fold_in(jax.random.key(0), number)
        batch = corrupt(objective, key, batch, place())
        terms, carry = objective.loss(model, cast(params, dtype), batch, carry, key, train=False)
        return across((terms, jax.tree.map(jnp.sum, batch["weights"]))), carry

    return evaluate


def corrupt(
    objective: Objective, key: chex.PRNGKey, batch: Example, place: int | jax.Array = 0
) -> Example:
    """Corrupt every row of a batch, each with a key of its place in the global batch."""
    count = len(next(iter(batch.values())))
    rows = place * count + jnp.arange(count)
    return jax.vmap(lambda row, example: objective.corrupt(jax.random.fold_in(key, row), example))(
        rows, batch
    )


def total(
    objective: Objective, terms: Mapping[str, Term], weights: Mapping[str, jax.Array]
) -> jax.Array:
    """Return the loss: the mean of each term over its own weights, times its factor, added up."""
    loss = sum(
        objective.factors[name] * term.loss / jnp.maximum(weights[name], 1)
        for name, term in terms.items()
    )
    return jnp.asarray(loss)


def means(
    objective: Objective, terms: Mapping[str, Term], weights: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """Return the accuracy of each term, and its loss where several count."""
    metrics = {}
    for name, term in terms.items():
        count = jnp.maximum(weights[name], 1)
        if term.right is not None:
            metrics[f"{name}_accuracy"] = term.right / count
        if len(terms) > 1 and objective.factors[name]:
            metrics[f"{name}_loss"] = term.loss / count
    return metrics


def add_up(
    objective: Objective,
    evaluate: Evaluate,
    params: chex.ArrayTree,
    batches: Batches,
    carry: chex.ArrayTree,
) -> dict[str, float]:
    """Return loss and accuracies over all batches of an evaluation, every example counted once."""
    sums = None
    for number in range(len(batches)):
        more, carry = evaluate(params, batches(number), carry, number)
        sums = more if sums is None else jax.tree.map(jnp.add, sums, more)
    terms, weights = jax.device_get(sums)
    metrics = {"loss": total(objective, terms, weights), **means(objective, terms, weights)}
    return {name: float(value) for name, value in metrics.items()}


def cast(params: chex.ArrayTree, dtype: str) -> chex.ArrayTree:
    """Return the parameters in the type to compute in; vectors stay float32, they cost nothing."""
    return jax.tree.map(lambda x: x.astype(dtype) if x.ndim > 1 else x, params)


def split_rows(batch: Tree, parts: int) -> Tree:
    """Return [B, ...] as [parts, B / parts, ...], every part with rows of every device."""
    return jax.tree.map(
        lambda x: x.reshape(len(x) // parts, parts, *x.shape[1:]).swapaxes(0, 1), batch
    )


def join_rows(parts: Tree) -> Tree:
    """Return the batch that `split_rows` was given."""
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), parts)
