"""Recurrent cells over time against single steps and plain loops, without PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.wide import draw, relative
from zoo.layers import recurrent

B, L, E, D = 3, 9, 5, 6
every_cell = pytest.mark.parametrize("cell", recurrent.CELLS)


def layer_and_params(cell):
    layer = recurrent.Layer(cell, D)
    return layer, layer.init(jax.random.key(0), draw(B, L, E))


@every_cell
def test_single_steps_equal_the_scan(cell):
    layer, params = layer_and_params(cell)
    x_BLE = draw(B, L, E)
    scanned_BLD, end = layer.apply(params, x_BLE)
    state = recurrent.zeros(cell, D, B)
    for time in range(L):
        state = layer.apply(params, x_BLE[:, time], state, method="step")
        assert relative(state[0], scanned_BLD[:, time]) < 1e-6
    for ours, last in zip(state, end, strict=True):
        assert relative(ours, last) < 1e-6


@every_cell
def test_two_windows_with_the_state_between_them_equal_one(cell):
    layer, params = layer_and_params(cell)
    x_BLE = draw(B, L, E)
    document_ids_BL = np.ones((B, L), np.int32)
    one_window_BLD, end = layer.apply(params, x_BLE, document_ids_BL)
    first_BLD, state = layer.apply(params, x_BLE[:, :4], document_ids_BL[:, :4])
    second_BLD, state = layer.apply(params, x_BLE[:, 4:], document_ids_BL[:, 4:], state)
    assert relative(jnp.concatenate([first_BLD, second_BLD], 1), one_window_BLD) < 1e-6
    assert relative(state[0], end[0]) < 1e-6
    again_BLD, _ = layer.apply(params, x_BLE[:, 4:], document_ids_BL[:, 4:] + 1, state)
    fresh_BLD, _ = layer.apply(params, x_BLE[:, 4:])
    assert relative(again_BLD, fresh_BLD) < 1e-6  # the state belongs to document 1 only


@every_cell
@pytest.mark.parametrize("documents", [None, [[0, 1, 1, 0, 1, 2, 2, 3, 0], [1] * 9, [0] * 9]])
def test_the_backward_pass_is_that_of_a_plain_loop(cell, documents):
    layer, params = layer_and_params(cell)
    x_BLE, document_ids_BL = draw(B, L, E), None if documents is None else np.array(documents)

    def scanned(params, x_BLE, state):
        x_BLD, end = layer.apply(params, x_BLE, document_ids_BL, state)
        return jnp.sin(3 * x_BLD).sum() + sum(jnp.square(x).sum() for x in end)

    def looped(params, x_BLE, state):
        before_B, outputs = np.ones(B, int), []
        for time in range(L):
            number_B = np.ones(B, int) if documents is None else document_ids_BL[:, time]
            fresh_B1 = ((number_B > 0) & (number_B != before_B))[:, None]
            reset = tuple(jnp.where(fresh_B1, 0, x) for x in state)
            after = layer.apply(params, x_BLE[:, time], reset, method="step")
            real_B1 = number_B[:, None] > 0
            state = tuple(jnp.where(real_B1, a, b) for a, b in zip(after, reset, strict=True))
            before_B = np.where(number_B > 0, number_B, before_B)
            outputs.append(state[0])
        return jnp.sin(3 * jnp.stack(outputs)).sum() + sum(jnp.square(x).sum() for x in state)

    state = tuple(draw(B, D, seed=p) for p in range(recurrent.CELLS[cell].parts))
    value, gradients = jax.value_and_grad(scanned, (0, 1, 2))(params, x_BLE, state)
    expected_value, expected_gradients = jax.value_and_grad(looped, (0, 1, 2))(params, x_BLE, state)
    assert relative(value, expected_value) < 1e-6
    for ours, theirs in zip(
        jax.tree.leaves(gradients), jax.tree.leaves(expected_gradients), strict=True
    ):
        assert np.abs(np.asarray(ours - theirs)).max() < 1e-4


def test_bfloat16_parameters_run_in_bfloat16_and_stay_close():
    layer, params = layer_and_params("lstm")
    bfloat16_params = jax.tree.map(lambda x: x.astype(jnp.bfloat16) if x.ndim > 2 else x, params)
    exact_BLD, _ = layer.apply(params, draw(B, L, E))
    bfloat16_BLD, _ = layer.apply(bfloat16_params, draw(B, L, E))
    assert bfloat16_BLD.dtype == jnp.float32
    assert 0 < relative(bfloat16_BLD, exact_BLD) < 0.03
