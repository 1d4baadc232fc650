"""Dropout whose mask is shared between time steps, between occurrences of a word, or by a pass."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.wide import draw, relative
from zoo.layers.dropout import LockedDropout, WordDropout
from zoo.layers.recurrent import Layer, WeightDroppedLayer

RNGS = {"dropout": jax.random.key(0)}
B, L, D, V = 6, 7, 40, 50


def test_locked_dropout_has_one_mask_for_all_steps_of_a_row():
    x_BLD = np.asarray(LockedDropout(0.4).apply({}, jnp.ones((B, L, D)), train=True, rngs=RNGS))
    assert (x_BLD == x_BLD[:, :1]).all()
    assert not (x_BLD[0] == x_BLD[1]).all()
    assert set(np.unique(x_BLD)) == {0, np.float32(1 / 0.6)}
    assert abs((x_BLD == 0).mean() - 0.4) < 0.1


def test_a_dropped_word_is_dropped_wherever_it_occurs():
    tokens_BL = np.random.default_rng(0).integers(0, V, (40, L))
    dropped = WordDropout(0.4, V).apply({}, jnp.ones((40, L, D)), tokens_BL, train=True, rngs=RNGS)
    x_BL = np.asarray(dropped)[..., 0]
    assert (np.asarray(dropped) == x_BL[..., None]).all()
    for word in range(V):
        assert len(set(x_BL[tokens_BL == word])) == 1, word
    assert set(np.unique(x_BL)) == {0, np.float32(1 / 0.6)}


def test_one_mask_of_the_recurrent_kernel_serves_all_rows_and_steps_of_a_pass():
    layer, x_BLE = WeightDroppedLayer("lstm", 8, 0.5), draw(B, L, 5)
    params = layer.init(jax.random.key(0), x_BLE)["params"]
    x_BLD, _ = layer.apply({"params": params}, x_BLE, train=True, rngs=RNGS)
    # Recovered from another pass with the same key, which has the same mask.
    ones = jax.tree.map(jnp.ones_like, params["recurrent"])
    mask = _dropped_kernel(layer, params | {"recurrent": ones}, x_BLE)
    assert set(np.unique(mask)) == {0, 2}
    kernel = params["recurrent"] | {"kernel": params["recurrent"]["kernel"] * mask}
    expected_BLD, _ = Layer("lstm", 8).apply({"params": params | {"recurrent": kernel}}, x_BLE)
    assert relative(x_BLD, expected_BLD) < 1e-6
    other = {"dropout": jax.random.key(1)}
    x_of_other_BLD, _ = layer.apply({"params": params}, x_BLE, train=True, rngs=other)
    assert relative(x_of_other_BLD, x_BLD) > 1e-3


def _dropped_kernel(layer, params, x_BLE):
    """Return the recurrent kernel of a pass."""

    def kernel(layer):
        layer.recurrent(layer.width)
        return layer.weight_drop(layer.recurrent(layer.width)[0], train=True)

    return np.asarray(layer.apply({"params": params}, method=kernel, rngs=RNGS))


def test_without_training_nothing_is_dropped():
    x_BLD, tokens_BL = draw(B, L, D), np.zeros((B, L), np.int32)
    assert (LockedDropout(0.4).apply({}, x_BLD) == x_BLD).all()
    assert (WordDropout(0.4, V).apply({}, x_BLD, tokens_BL) == x_BLD).all()
    dropped, plain = WeightDroppedLayer("lstm", 8, 0.5), Layer("lstm", 8)
    params = plain.init(jax.random.key(0), x_BLD)
    assert (dropped.apply(params, x_BLD)[0] == plain.apply(params, x_BLD)[0]).all()
