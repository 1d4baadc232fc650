"""The shared layers against slow and simple references."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from tests.wide import draw, relative
from zoo.layers.dropout import Dropout, keep
from zoo.layers.embedding import lookup
from zoo.layers.feed_forward import gelu, gelu_tanh
from zoo.layers.linear import affine, product
from zoo.layers.norm import Norm

EXACT = 1e-6
DRAWS = 1 << 18


def kept(key, rate=0.1, shape=(512, 512)):
    return np.asarray(keep(key, rate, shape))


def raw_key(first: int, second: int):
    return jax.random.wrap_key_data(jnp.array([first, second], jnp.uint32))


def correlation(a, b) -> float:
    """Return the correlation of two masks, in standard deviations of independent masks."""
    a, b = (x.ravel().astype(np.float64) for x in (a, b))
    return abs(float(np.corrcoef(a, b)[0, 1])) * len(a) ** 0.5


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5, 0.9])
def test_dropout_keeps_its_rate(rate):
    for seed in range(4):
        mask = kept(jax.random.key(seed), rate)
        deviation = (rate * (1 - rate) / DRAWS) ** 0.5
        assert abs((1 - mask.mean()) - rate) < 4.5 * deviation
        for axis in (0, 1):  # in every row and every column too
            assert abs((1 - mask.mean(axis)) - rate).max() < 6 * (rate * (1 - rate) / 512) ** 0.5


def test_dropped_positions_are_independent():
    mask = kept(jax.random.key(0), 0.5)
    for shift in (1, 2, 3, 4, 7, 8, 16, 64, 128, 256):
        assert correlation(mask[:, shift:], mask[:, :-shift]) < 4.5
        assert correlation(mask[shift:], mask[:-shift]) < 4.5


def test_masks_of_different_keys_are_independent():
    folded = [jax.random.fold_in(jax.random.key(0), i) for i in range(6)]
    neighbours = [
        raw_key(0, 0),
        raw_key(0, 1),
        raw_key(1, 0),
        raw_key(1, 1),
        raw_key(2, 0),
        raw_key(0, 2),
        raw_key(1 << 31, 0),
    ]
    masks = [kept(key, 0.5) for key in folded + neighbours]
    for i, a in enumerate(masks):
        for b in masks[:i]:
            assert correlation(a, b) < 5
            assert correlation(a[:, 1:], b[:, :-1]) < 5
            assert correlation(a[1:], b[:-1]) < 5


def test_a_mask_is_a_function_of_its_key():
    assert (kept(raw_key(3, 4)) == kept(raw_key(3, 4))).all()
    assert (kept(raw_key(3, 4)) != kept(raw_key(4, 3))).any()


def test_dropout_scales_the_values_it_keeps():
    x = jnp.ones((64, 64))
    out = Dropout(0.25).apply({}, x, train=True, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(out)) == {np.float32(0), np.float32(1 / 0.75)}
    assert Dropout(0.25).apply({}, x) is x
    assert Dropout(0.0).apply({}, x, train=True) is x


EQUATIONS = {
    "BLD,VD->BLV": ((2, 5, 4), (7, 4)),
    "BHLK,BHMK->BHLM": ((2, 3, 5, 4), (2, 3, 6, 4)),
    "BHLM,BHMK->BHLK": ((2, 3, 5, 6), (2, 3, 6, 4)),
    "...D,DF->...F": ((2, 5, 4), (4, 7)),
}


@pytest.mark.parametrize("equation", EQUATIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, EXACT), (jnp.bfloat16, 0.03)])
def test_product_and_its_gradients_are_those_of_einsum(equation, dtype, tolerance):
    x, y = (draw(*shape, seed=i) for i, shape in enumerate(EQUATIONS[equation]))
    y = y.astype(dtype)
    weight = draw(*jnp.einsum(equation, x, y).shape, seed=2)
    ours = lambda x, y: (product(equation, x, y) * weight).sum()
    expected = lambda x, y: (jnp.einsum(equation, x, y, precision="highest") * weight).sum()
    out = product(equation, x, y)
    assert out.dtype == jnp.float32
    assert relative(out, jnp.einsum(equation, x, y.astype(jnp.float32))) < tolerance
    gradients = jax.grad(ours, (0, 1))(x, y)
    assert (gradients[0].dtype, gradients[1].dtype) == (x.dtype, y.dtype)
    for a, b in zip(gradients, jax.grad(expected, (0, 1))(x, y.astype(jnp.float32)), strict=True):
        assert relative(a.astype(jnp.float32), b) < tolerance


@pytest.mark.parametrize("shape", [(3, 4), (2, 5, 4), (2, 3, 5, 4)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, EXACT), (jnp.bfloat16, 0.03)])
def test_affine_and_its_gradients_are_those_of_a_matrix_product(shape, dtype, tolerance):
    x, kernel_DF = draw(*shape), draw(4, 7, seed=1).astype(dtype)
    weight = draw(*shape[:-1], 7, seed=2)
    ours = lambda x, y: (affine(x, y) * weight).sum()
    expected = lambda x, y: ((x @ y) * weight).sum()
    assert affine(x, kernel_DF).dtype == jnp.float32
    exact = (x, kernel_DF.astype(jnp.float32))
    assert relative(ours(x, kernel_DF), expected(*exact)) < 3 * tolerance
    gradients = jax.grad(ours, (0, 1))(x, kernel_DF)
    assert (gradients[0].dtype, gradients[1].dtype) == (x.dtype, kernel_DF.dtype)
    for a, b in zip(gradients, jax.grad(expected, (0, 1))(*exact), strict=True):
        assert relative(a.astype(jnp.float32), b) < tolerance


def test_lookup_outside_the_table_is_nan():
    table_VD = draw(5, 3)
    rows = np.asarray(lookup(table_VD, jnp.array([[0, 4, 5, 99]])))[0]
    assert (rows[:2] == np.asarray(table_VD)[[0, 4]]).all()
    assert np.isnan(rows[2:]).all()


def test_lookup_sums_the_gradients_of_a_row():
    ids_BL, weight_BLD = jnp.array([[0, 2, 2, 4], [2, 0, 0, 1]]), draw(2, 4, 3)
    gradient = jax.grad(lambda t: (lookup(t, ids_BL) * weight_BLD).sum())(draw(5, 3))
    expected = np.zeros((5, 3), np.float32)
    np.add.at(expected, np.asarray(ids_BL), np.asarray(weight_BLD))
    assert relative(gradient, expected) < EXACT


def test_lookup_of_bfloat16_sums_gradients_in_float32():
    ids = jnp.zeros(1024, jnp.int32)  # in bfloat16, 256 + 1 is 256 again
    gradient = jax.grad(lambda t: lookup(t, ids).sum())(jnp.zeros((2, 3), jnp.bfloat16))
    assert gradient.dtype == jnp.bfloat16
    assert np.asarray(gradient.astype(jnp.float32)).tolist() == [[1024] * 3, [0] * 3]


def test_gelu_is_exact_and_its_tanh_form_is_not():
    x = np.linspace(-6, 6, 4001)
    exact = x * special.ndtr(x)
    assert np.abs(gelu(jnp.float32(x)) - exact).max() < 1e-6
    tanh = 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))
    assert np.abs(gelu_tanh(jnp.float32(x)) - tanh).max() < 1e-6
    assert 3e-4 < np.abs(tanh - exact).max() < 5e-4


def test_norm_is_exact_far_from_zero():
    x = np.array(draw(4, 64)) * 1e-2 + 1000.0  # a mean of squares loses this variance
    norm = Norm(1e-12)
    exact = x.astype(np.float64)
    exact = (exact - exact.mean(-1, keepdims=True)) / exact.std(-1, keepdims=True)
    params = norm.init(jax.random.key(0), x)
    assert relative(norm.apply(params, x), exact) < 1e-2
