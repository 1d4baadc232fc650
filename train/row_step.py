"""The training step, and the evaluation, of an objective that reads rows of tables.

Both have the form of those in `train.step`. A step makes one update after another, so that frequent
words, which are in every block, follow their own changes as they do in the original programs.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from train.objectives.objective import Example, Term
from train.objectives.row_objective import RowObjective, Rows
from train.optimization.rows import RowOptimizer
from train.step import Evaluate, State, cast

Sums = tuple[jax.Array, jax.Array]  # of the losses and of the weights


def make_row_step(
    model: nn.Module,
    objective: RowObjective,
    optimizer: RowOptimizer,
    schedule: optax.Schedule,
    *,
    seed: int | jax.Array,
    dtype: str,
    accumulate: int = 1,
) -> Callable[[State, Example], tuple[State, dict[str, jax.Array]]]:
    """Return the training step: (state, batch) -> (state, metrics).

    Args:
      model: The model.
      objective: The training objective.
      optimizer: Changes the rows of tables.
      schedule: The learning rates.
      seed: Not used: all random draws are in the batch.
      dtype: The type of matrix products.
      accumulate: 1: the blocks of a batch are updates already.

    Raises:
      ValueError: If gradients are to be accumulated.
    """
    if accumulate != 1:
        raise ValueError("word vectors change after every block of words: leave out --accumulate")

    def step(state: State, batch: Example) -> tuple[State, dict[str, jax.Array]]:
        learning_rate = schedule(state.step)
        key = jax.random.key(seed)

        def update(number, before):
            params, opt_state, (loss, weight), _ = before
            block = objective.block(batch, number)
            ids = objective.rows(block)

            def block_loss(rows: Rows) -> tuple[jax.Array, jax.Array]:
                terms, _ = objective.loss(model, cast(rows, dtype), block, (), key, train=True)
                total = _sum(objective, terms)
                return total, total

            gradient, block_total = jax.grad(block_loss, has_aux=True)(_gather(params, ids))
            tables, opt_state = optimizer.update(params, opt_state, ids, gradient, learning_rate)
            sums = loss + block_total, weight + _weight(objective, block)
            return {**params, **tables}, opt_state, sums, optax.tree.norm(gradient)

        zeros = jnp.float32(0), jnp.float32(0)
        first = state.params, state.opt_state, zeros, jnp.float32(0)
        params, opt_state, (loss, weight), norm = jax.lax.fori_loop(
            0, objective.num_blocks(batch), update, first
        )
        metrics = {
            "loss": loss / jnp.maximum(weight, 1),
            "gradient_norm": norm,
            "learning_rate": learning_rate,
        }
        return State(state.step + 1, params, opt_state, state.carry), metrics

    return step


def make_row_evaluate(model: nn.Module, objective: RowObjective, *, dtype: str) -> Evaluate:
    """Return a function that evaluates one batch, without any update."""

    def evaluate(params, batch, carry, number):
        def add(block_number, sums):
            block = objective.block(batch, block_number)
            rows = cast(_gather(params, objective.rows(block)), dtype)
            terms, _ = objective.loss(model, rows, block, (), jax.random.key(0), train=False)
            return sums[0] + _sum(objective, terms), sums[1] + _weight(objective, block)

        zeros = jnp.float32(0), jnp.float32(0)
        loss, weight = jax.lax.fori_loop(0, objective.num_blocks(batch), add, zeros)
        name = objective.reported_term
        return ({name: Term(loss, None)}, {name: weight}), carry

    return evaluate


def _gather(params: Mapping[str, jax.Array], ids: Rows) -> Rows:
    return {name: params[name][at] for name, at in ids.items()}


def _sum(objective: RowObjective, terms: Mapping[str, Term]) -> jax.Array:
    return terms[objective.reported_term].loss


def _weight(objective: RowObjective, block: Example) -> jax.Array:
    return jnp.sum(block["weights"][objective.reported_term])
