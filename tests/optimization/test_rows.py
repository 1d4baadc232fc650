"""Optimizers of rows against the original programs, in NumPy and float64."""

import jax.numpy as jnp
import numpy as np
import optax

from train.optimization import rows

V, D = 6, 3
IDS = {"words": np.array([[1, 4], [5, 0]]), "word_bias": np.array([[2, 1], [3, 5]])}


def tables():
    draw = np.random.default_rng(0)
    arrays = {"words": draw.normal(0, 1, (V, D)), "word_bias": draw.normal(0, 1, (V, 1))}
    return {name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()}


def gradients(seed):
    draw = np.random.default_rng(seed)
    return {
        name: jnp.asarray(draw.normal(0, 80, (*ids.shape, width)), jnp.float32)
        for (name, ids), width in zip(IDS.items(), (D, 1), strict=True)
    }


def test_adagrad_of_glove_is_that_of_the_released_program():
    optimizer = rows.glove_adagrad(optax.constant_schedule(0.05))
    actual = tables()
    state = optimizer.init(actual)
    w = {name: np.float64(table) for name, table in actual.items()}
    squares = {name: np.ones_like(table) for name, table in w.items()}
    for step in range(3):
        gradient = gradients(step)
        assert abs(gradient["words"]).max() > 100
        actual, state = optimizer.update(actual, state, IDS, gradient, 0.05)
        for name, ids in IDS.items():
            for row, g in zip(
                ids.ravel(), np.float64(gradient[name]).reshape(ids.size, -1), strict=True
            ):
                for column in range(len(g)):
                    scaled = g[column]
                    if name == "words":
                        scaled = 0.05 * min(max(scaled, -100), 100)
                    w[name][row, column] -= scaled / np.sqrt(squares[name][row, column])
                    squares[name][row, column] += scaled**2
    for name in w:
        np.testing.assert_allclose(actual[name], w[name], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(state[name], squares[name], rtol=1e-5)


def test_the_gradients_of_a_row_that_is_read_twice_add_up():
    before, ids = tables(), {"words": np.array([2, 2])}
    gradient = {"words": jnp.array([[1.0, 2, 3], [10, 20, -30]])}
    for optimizer, scale in ((rows.sgd, 0.1), (rows.glove_adagrad, 0.1)):
        optimizer = optimizer(optax.constant_schedule(0.1))
        after, _ = optimizer.update(before, optimizer.init(before), ids, gradient, 0.1)
        change = np.float64(after["words"]) - np.float64(before["words"])
        np.testing.assert_allclose(change[2], -scale * np.array([11, 22, -27]), rtol=1e-5)
        assert (change[[0, 1, 3, 4, 5]] == 0).all()
