"""Averaged stochastic gradient descent, and what switches it on."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train.optimization import optimizers
from train.optimization.averaging import NonMonotonicAveraging

RATE, LOSSES = 0.3, [5.0, 4.0, 3.0, 3.5, 2.9, 3.2, 3.1, 3.05, 2.95, 2.0]


def trained(patience, losses, steps_between=3):
    """Run the optimizer, and return each step's parameters and the mean after each evaluation."""
    averaging = NonMonotonicAveraging(patience)
    optimizer = averaging.wrap(optax.sgd(RATE))
    params = {"x": jnp.array([1.0, -2.0])}
    state = jax.jit(optimizer.init)(params)
    update = jax.jit(optimizer.update)
    after, evaluated, switches = [], [], []
    for number, loss in enumerate(losses):
        for step in range(steps_between):
            gradient = {"x": jnp.sin(params["x"] + number + step)}
            updates, state = update(gradient, state, params)
            params = optax.apply_updates(params, updates)
            after.append(np.asarray(params["x"], np.float64))
        evaluated.append(np.asarray(averaging.params(state, params)["x"]))
        state = averaging.observe(state, loss)
        switches.append(averaging.is_on(state))
    return after, evaluated, switches


def switch(patience, losses):
    """Return the evaluation at which the released code switches, with its list of losses."""
    logs = []
    for number, loss in enumerate(losses):
        if len(logs) > patience and loss > min(logs[:-patience] if patience else logs):
            return number
        logs.append(loss)
    return None


@pytest.mark.parametrize("patience", [1, 2, 3, 5])
def test_the_mean_of_the_weights_since_the_switch_is_evaluated(patience):
    after, evaluated, switches = trained(patience, LOSSES)
    first = switch(patience, LOSSES)
    expected = len(LOSSES) if first is None else first
    assert switches == [number >= expected for number in range(len(LOSSES))]
    for number, x in enumerate(evaluated):
        end = 3 * (number + 1)
        since = after[3 * (expected + 1) : end] or after[end - 1 : end]
        np.testing.assert_allclose(x, np.mean(since, 0), rtol=1e-6)


def test_steps_are_those_of_the_optimizer_itself():
    averaged, _, switches = trained(2, LOSSES)
    plain, _, never = trained(100, LOSSES)
    assert any(switches)
    assert not any(never)
    np.testing.assert_array_equal(averaged, plain)


def test_any_optimizer_can_be_averaged():
    factory = partial(optimizers.adamw, decay=0.1)
    optimizer = NonMonotonicAveraging().wrap(factory(optax.constant_schedule(0.1)))
    params = {"x": jnp.ones(3)}
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    assert (updates["x"] < 0).all()
