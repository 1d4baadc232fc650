"""Dilated convolutions against XLA's own, and step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.wide import draw
from zoo.layers.dilated_convolution import DilatedConvolution, both_sides, past

B, L, I, O = 2, 11, 3, 4
X = np.random.default_rng(0).normal(size=(B, L, I)).astype(np.float32)


def _layer(offsets):
    layer = DilatedConvolution(I, O, offsets, jax.nn.initializers.normal(0.3))
    return layer, {"kernel": draw(len(offsets), I, O), "bias": draw(O, seed=1)}


@pytest.mark.parametrize(("width", "dilation"), [(2, 1), (3, 2), (2, 8), (3, 16)])
def test_a_causal_filter_equals_xlas_convolution_padded_on_the_left(width, dilation):
    layer, params = _layer(past(width, dilation))
    expected = jax.lax.conv_general_dilated(
        X,
        params["kernel"],
        (1,),
        [(dilation * (width - 1), 0)],
        rhs_dilation=(dilation,),
        dimension_numbers=("NWC", "WIO", "NWC"),
    )
    np.testing.assert_allclose(
        layer.apply({"params": params}, X), expected + params["bias"], atol=1e-5
    )


def test_a_filter_of_both_sides_equals_xlas_convolution_padded_on_both():
    layer, params = _layer(both_sides(5, 2))
    expected = jax.lax.conv_general_dilated(
        X,
        params["kernel"],
        (1,),
        [(4, 4)],
        rhs_dilation=(2,),
        dimension_numbers=("NWC", "WIO", "NWC"),
    )
    np.testing.assert_allclose(
        layer.apply({"params": params}, X), expected + params["bias"], atol=1e-5
    )


def test_documents_do_not_see_each_other_or_padding():
    layer, params = _layer(both_sides(3, 2))
    ids = np.array([[1, 1, 1, 1, 1, 2, 2, 2, 2, 0, 0]] * B)
    packed = layer.apply({"params": params}, X, ids)
    for start, stop in ((0, 5), (5, 9)):
        alone = layer.apply({"params": params}, X[:, start:stop])
        np.testing.assert_allclose(packed[:, start:stop], alone, atol=1e-6)


@pytest.mark.parametrize("prompt", [1, 3, 7])
def test_steps_equal_one_pass(prompt):
    layer, params = _layer(past(3, 2))
    whole = layer.apply({"params": params}, X)
    ids = jnp.ones((B, prompt), jnp.int32)
    buffer = layer.apply({"params": params}, X[:, :prompt], ids, method="buffer")
    for step in range(L - prompt):
        x, buffer = layer.apply(
            {"params": params}, X[:, prompt + step], buffer, jnp.int32(step), method="step"
        )
        np.testing.assert_allclose(x, whole[:, prompt + step], atol=1e-5)
