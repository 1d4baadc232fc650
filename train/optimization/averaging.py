"""Averaged stochastic gradient descent with a non-monotonic trigger (NT-AvSGD).

Merity et al. 2017, section 3, algorithm 1. The run switches to averaging when the held-out loss is
worse than the best of all evaluations but the last `patience`. From then on, the model that is
evaluated and written is the mean of the weights after every step since the switch; training goes on
from the last weights. The state of the trigger is part of the optimizer's state, so a resumed run
switches where an uninterrupted one does.
"""

from dataclasses import dataclass
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax


class Averaging(NamedTuple):
    """The state of an averaged optimizer.

    Attributes:
      optimizer: The state of the optimizer itself.
      mean: The mean of the parameters since the switch; zeros until then.
      steps: The number of steps since the switch.
      is_on: Whether the run has switched.
      recent: The losses of the last evaluations, the oldest first; infinite at the beginning.
      best: The lowest loss of the evaluations before those.
    """

    optimizer: optax.OptState
    mean: chex.ArrayTree
    steps: jax.Array
    is_on: jax.Array
    recent: jax.Array
    best: jax.Array


@dataclass(frozen=True)
class NonMonotonicAveraging:
    """Averaging of the weights after the held-out loss stops improving.

    `patience` is the non-monotonic interval n of the paper, in evaluations.
    """

    patience: int = 5

    def wrap(self, optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
        """Return the optimizer with the state of `Averaging`; its updates are the same."""

        def init(params):
            return Averaging(
                optimizer.init(params),
                jax.tree.map(jnp.zeros_like, params),
                jnp.int32(0),
                jnp.bool_(False),
                jnp.full(self.patience, jnp.inf, jnp.float32),
                jnp.float32(jnp.inf),
            )

        def update(gradients, state, params=None):
            updates, inner = optimizer.update(gradients, state.optimizer, params)
            steps = state.steps + state.is_on
            share = state.is_on / jnp.maximum(steps, 1)
            after = optax.apply_updates(params, updates)
            mean = jax.tree.map(lambda mean, x: mean + share * (x - mean), state.mean, after)
            return updates, state._replace(optimizer=inner, mean=mean, steps=steps)

        return optax.GradientTransformation(init, update)

    def observe(self, state: Averaging, loss: float) -> Averaging:
        """Return the state after an evaluation, which may switch the averaging on.

        Args:
          state: The state of the optimizer, as in a checkpoint.
          loss: The held-out loss.
        """
        old = state.is_on, state.recent, state.best
        is_on, recent, best = jax.device_get(old)
        is_on = is_on | (np.float32(loss) > best)
        recent = np.append(recent, np.float32(loss))
        best, recent = np.minimum(best, recent[0]), recent[1:]
        new = jax.device_put((is_on, recent, best), tuple(x.sharding for x in old))
        return state._replace(is_on=new[0], recent=new[1], best=new[2])

    def is_on(self, state: Averaging) -> bool:
        """Return whether the run has switched to averaging."""
        return bool(_value(state.is_on))

    def params(self, state: Averaging, params: chex.ArrayTree) -> chex.ArrayTree:
        """Return the parameters to evaluate and to write: the mean, if there is one."""
        return state.mean if _value(state.steps) > 0 else params


def _value(scalar: jax.Array) -> np.ndarray:
    """Return the value of a scalar that is the same on all devices, such as replicas."""
    return np.ravel(scalar.addressable_shards[0].data)[0]
