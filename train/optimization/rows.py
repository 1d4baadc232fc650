"""Optimizers that change only the rows of tables that a block has read.

The gradients of a row that is read twice add up, as if it had been changed twice.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from train.objectives.row_objective import Rows

Tables = Mapping[str, jax.Array]
GLOVE_CLIP = 100.0  # the largest component of a gradient


class RowUpdate(Protocol):
    """The change of tables by the gradients of some of their rows."""

    def __call__(
        self,
        tables: Tables,
        opt_state: Any,
        ids: Rows,
        gradient: Rows,
        learning_rate: jax.typing.ArrayLike,
        /,
    ) -> tuple[dict[str, jax.Array], Any]:
        """Return the changed tables, and the new state.

        Args:
          tables: The tables by name.
          opt_state: The state of the optimizer.
          ids: The ids of the rows of each table that has a gradient.
          gradient: The gradients of these rows: [*ids, D].
          learning_rate: The learning rate.
        """
        ...


class RowOptimizer(NamedTuple):
    """An optimizer of rows, in the form of an optax.GradientTransformation."""

    init: Callable[[Tables], Any]
    update: RowUpdate


def sgd(schedule: optax.Schedule, decay_mask: Any = None) -> RowOptimizer:
    """Return stochastic gradient descent: a row changes by its gradient times the learning rate."""

    def update(tables, opt_state, ids, gradient, learning_rate):
        changed = {
            name: tables[name].at[at].add(-learning_rate * gradient[name])
            for name, at in ids.items()
        }
        return changed, opt_state

    return RowOptimizer(lambda tables: (), update)


def damped_sgd(
    schedule: optax.Schedule, decay_mask: Any = None, most_reads: int = 4
) -> RowOptimizer:
    """Return SGD for tables with rows that most blocks read many times.

    The n-grams of frequent endings and the root of a tree are such rows. The sum of all their
    gradients would overshoot, where the original programs change them in between. So a row that a
    block reads more than `most_reads` times changes by the mean of its gradients that many times.

    The state is an array of zeros, in which a block counts its reads.
    """

    def init(tables):
        return {name: jnp.zeros(len(x), jnp.float32) for name, x in tables.items() if x.ndim == 2}

    def update(tables, opt_state, ids, gradient, learning_rate):
        changed, state = {}, dict(opt_state)
        for name, at in ids.items():
            reads = state[name].at[at].add(1)
            scale = learning_rate * jnp.minimum(1, most_reads / reads[at])[..., None]
            changed[name] = tables[name].at[at].add(-scale * gradient[name])
            state[name] = reads.at[at].set(0)
        return changed, state

    return RowOptimizer(init, update)


def glove_adagrad(schedule: optax.Schedule, decay_mask: Any = None) -> RowOptimizer:
    """Return AdaGrad as in the released program of GloVe; its state is a sum for each parameter.

    The sums begin at 1. The components of a gradient are clipped, then multiplied by the learning
    rate, and these products are what is squared and added to the sums after the row has changed.
    A bias is changed by its gradient itself, neither clipped nor multiplied by the learning rate.

    Departure: a row that a block reads repeatedly changes by its sums of before the block.
    """

    def init(tables):
        return {name: jnp.ones_like(table) for name, table in tables.items()}

    def update(tables, opt_state, ids, gradient, learning_rate):
        changed, sums = {}, {}
        for name, at in ids.items():
            scaled = gradient[name]
            if not name.endswith("bias"):
                scaled = learning_rate * jnp.clip(scaled, -GLOVE_CLIP, GLOVE_CLIP)
            before = opt_state[name][at]
            change = -scaled * jax.lax.rsqrt(before)
            changed[name] = tables[name].at[at].add(change)
            # By adding 0 times the rows, they must be read before the table of sums changes in
            # place: otherwise XLA copies all of it.
            sums[name] = opt_state[name].at[at].add(scaled**2 + 0 * before)
        return changed, {**opt_state, **sums}

    return RowOptimizer(init, update)
