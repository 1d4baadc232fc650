"""The training step, and the evaluation of one batch.

Both are pure functions of their arguments. `across` sums over replicas when the step is mapped over
them with pmap; on a mesh the arrays are global, so it is the identity.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from operator import add
from typing import NamedTuple, Protocol, TypeVar

import chex
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from train.data.batches.batches import Batches
from train.objectives.objective import Example, Objective, Term
from zoo.layers.execution import DEFAULT, Execution, run_as

Tree = TypeVar("Tree", bound=chex.ArrayTree)
# The summed terms of a batch, and the sum of the weights of each term.
Sums = tuple[dict[str, Term], dict[str, jax.Array]]


class State(NamedTuple):
    """The state of a run.

    Attributes:
      step: Number of completed steps.
      params: Model parameters.
      opt_state: Optimizer state.
      carry: State that the last batch passes to the next one.
    """

    step: jax.Array
    params: chex.ArrayTree
    opt_state: optax.OptState
    carry: chex.ArrayTree


class Across(Protocol):
    """A sum of the arrays of a tree over replicas."""

    def __call__(self, tree: Tree, /) -> Tree:
        """Return the sums, on every replica."""
        ...


class Evaluate(Protocol):
    """The evaluation of one batch."""

    def __call__(
        self, params: chex.ArrayTree, batch: Example, carry: chex.ArrayTree, number: int, /
    ) -> tuple[Sums, chex.ArrayTree]:
        """Return the sums of batch `number`, and the carry for the next batch."""
        ...


def make_begin(
    model: nn.Module,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    batch_size: int,
) -> Callable[[chex.ArrayTree, int | jax.Array], State]:
    """Return a function that creates the state before a step, from parameters and the step."""

    def begin(params, step):
        carry = objective.initial_carry(model, batch_size)
        return State(jnp.int32(step), params, optimizer.init(params), carry)

    return begin


def random_params(model: nn.Module, seed: int) -> chex.ArrayTree:
    """Return the initial parameters of a model."""
    return model.init(jax.random.key(seed), jnp.zeros((1, 8), jnp.int32))["params"]


def make_step(
    model: nn.Module,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    *,
    seed: int | jax.Array,
    dtype: str,
    accumulate: int = 1,
    execution: Execution = DEFAULT,
    across: Across = lambda x: x,
    place: Callable[[], int | jax.Array] = int,
) -> Callable[[State, Example], tuple[State, dict[str, jax.Array]]]:
    """Return the training step: (state, batch) -> (state, metrics).

    Args:
      model: The network.
      objective: The training objective.
      optimizer: The optimizer.
      schedule: The learning rates, for the metrics.
      seed: Seed of masks and dropout.
      dtype: The type of matrix products.
      accumulate: Number of micro-batches processed in sequence, with gradients summed in float32.
      execution: The platform, and what the backward pass computes again.
      across: Sums over replicas.
      place: Returns the index of the replica.
    """

    def step(state: State, batch):
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        batch = corrupt(objective, key, batch, place())
        weights = across(jax.tree.map(jnp.sum, batch["weights"]))
        key = jax.random.fold_in(key, place())

        def loss(params, micro_batch, carry, key):
            params = cast(params, dtype)
            with run_as(execution):
                terms, carry = objective.loss(model, params, micro_batch, carry, key, train=True)
            return total(objective, terms, weights), (terms, carry)

        def micro_step(gradient, inputs):
            micro_gradient, aux = jax.grad(loss, has_aux=True)(state.params, *inputs)
            return jax.tree.map(jnp.add, gradient, micro_gradient), aux

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
            "learning_rate": schedule(state.step),
            **means(objective, terms, weights),
        }
        return State(state.step + 1, params, opt_state, carry), metrics

    return step


def make_evaluate(
    model: nn.Module,
    objective: Objective,
    *,
    dtype: str,
    execution: Execution = DEFAULT,
    across: Across = lambda x: x,
    place: Callable[[], int | jax.Array] = int,
) -> Evaluate:
    """Return a function that evaluates one batch; the arguments are those of `make_step`.

    The masks depend only on the batch number, so all evaluations use the same masks.
    """

    def evaluate(params, batch, carry, number):
        key = jax.random.fold_in(jax.random.key(0), number)
        batch = corrupt(objective, key, batch, place())
        with run_as(execution):
            params = cast(params, dtype)
            terms, carry = objective.loss(model, params, batch, carry, key, train=False)
        return across((terms, jax.tree.map(jnp.sum, batch["weights"]))), carry

    return evaluate


def corrupt(
    objective: Objective, key: chex.PRNGKey, batch: Example, place: int | jax.Array = 0
) -> Example:
    """Corrupt every row of a batch, with a key derived from its position in the global batch."""
    count = len(next(iter(batch.values())))
    rows = place * count + jnp.arange(count)
    return jax.vmap(lambda row, example: objective.corrupt(jax.random.fold_in(key, row), example))(
        rows, batch
    )


def total(
    objective: Objective, terms: Mapping[str, Term], weights: Mapping[str, jax.Array]
) -> jax.Array:
    """Return the loss: the sum over terms of factor * (sum of losses / sum of weights)."""
    # Methods and operators, unlike functions of jnp, compile nothing for sums that are fetched.
    losses = (objective.factors[n] * term.loss / weights[n].clip(1) for n, term in terms.items())
    return reduce(add, losses)


def means(
    objective: Objective, terms: Mapping[str, Term], weights: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """Return the accuracy of each term, and its loss if the objective has more than one term."""
    metrics = {}
    for name, term in terms.items():
        count = weights[name].clip(1)
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
    numbers: Iterable[int] | None = None,
) -> dict[str, float]:
    """Return loss and accuracies over the batches, with every example counted once.

    Args:
      objective: The training objective.
      evaluate: Evaluates one batch.
      params: The parameters of the network.
      batches: The batches.
      carry: The carry before the first batch.
      numbers: The numbers of the batches to read. None: all.
    """
    sums = None
    for number in range(len(batches)) if numbers is None else numbers:
        batch_sums, carry = evaluate(params, batches(number), carry, number)
        sums = batch_sums if sums is None else jax.tree.map(jnp.add, sums, batch_sums)
    terms, weights = jax.device_get(sums)
    metrics = {"loss": total(objective, terms, weights), **means(objective, terms, weights)}
    return {name: float(value) for name, value in metrics.items()}


def cast(params: chex.ArrayTree, dtype: str) -> chex.ArrayTree:
    """Return the parameters cast to the compute type; vectors stay float32 at negligible cost."""
    return jax.tree.map(lambda x: x.astype(dtype) if x.ndim > 1 else x, params)


def split_rows(batch: Tree, parts: int) -> Tree:
    """Return arrays [B, ...] as [parts, B / parts, ...], each part with rows of every device."""
    return jax.tree.map(
        lambda x: x.reshape(len(x) // parts, parts, *x.shape[1:]).swapaxes(0, 1), batch
    )


def join_rows(parts: Tree) -> Tree:
    """Return the batch from its parts, as the inverse of `split_rows`."""
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), parts)
