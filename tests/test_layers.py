"""The shared parts against slow and obvious references."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from tests.wide import relative
from zoo import layers

EXACT = 1e-6
DRAWS = 1 << 18


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def kept(key, rate=0.1, shape=(512, 512)):
    return np.asarray(layers.keep(key, rate, shape))


def raw(first: int, second: int):
    return jax.random.wrap_key_data(jnp.array([first, second], jnp.uint32))


def correlation(a, b) -> float:
    """Of two masks, in standard deviations of what chance would give."""
    a, b = (x.ravel().astype(np.float64) for x in (a, b))
    return abs(float(np.corrcoef(a, b)[0, 1])) * len(a) ** 0.5


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5, 0.9])
def test_dropout_keeps_its_rate(rate):
    for seed in range(4):
        mask = kept(jax.random.key(seed), rate)
        deviation = (rate * (1 - rate) / DRAWS) ** 0.5
        assert abs((1 - mask.mean()) - rate) < 4.5 * deviation
        for axis in (0, 1):  # every row and every column too
            assert abs((1 - mask.mean(axis)) - rate).max() < 6 * (rate * (1 - rate) / 512) ** 0.5


def test_dropped_positions_do_not_depend_on_each_other():
    mask = kept(jax.random.key(0), 0.5)
    for shift in (1, 2, 3, 4, 7, 8, 16, 64, 128, 256):
        assert correlation(mask[:, shift:], mask[:, :-shift]) < 4.5
        assert correlation(mask[shift:], mask[:-shift]) < 4.5


def test_keys_do_not_depend_on_each_other():
    folded = [jax.random.fold_in(jax.random.key(0), i) for i in range(6)]
    neighbours = [raw(0, 0), raw(0, 1), raw(1, 0), raw(1, 1), raw(2, 0), raw(0, 2), raw(1 << 31, 0)]
    masks = [kept(key, 0.5) for key in folded + neighbours]
    for i, a in enumerate(masks):
        for b in masks[:i]:
            assert correlation(a, b) < 5
            assert correlation(a[:, 1:], b[:, :-1]) < 5
            assert correlation(a[1:], b[:-1]) < 5


def test_a_mask_is_a_function_of_its_key():
    assert (kept(raw(3, 4)) == kept(raw(3, 4))).all()
    assert (kept(raw(3, 4)) != kept(raw(4, 3))).any()


def test_dropout_scales_what_it_keeps():
    x = jnp.ones((64, 64))
    out = layers.Dropout(0.25).apply({}, x, train=True, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(out)) == {np.float32(0), np.float32(1 / 0.75)}
    assert layers.Dropout(0.25).apply({}, x) is x
    assert layers.Dropout(0.0).apply({}, x, train=True) is x


EQUATIONS = {
    "BLD,VD->BLV": ((2, 5, 4), (7, 4)),
    "BHLK,BHMK->BHLM": ((2, 3, 5, 4), (2, 3, 6, 4)),
    "BHLM,BHMK->BHLK": ((2, 3, 5, 6), (2, 3, 6, 4)),
    "...D,DF->...F": ((2, 5, 4), (4, 7)),
}


@pytest.mark.parametrize("equation", EQUATIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, EXACT), (jnp.bfloat16, 0.03)])
def test_product_and_its_gradients_are_einsum(equation, dtype, tolerance):
    x, y = (draw(*shape, seed=i) for i, shape in enumerate(EQUATIONS[equation]))
    y = y.astype(dtype)
    weight = draw(*jnp.einsum(equation, x, y).shape, seed=2)
    ours = lambda x, y: (layers.product(equation, x, y) * weight).sum()
    expected = lambda x, y: (jnp.einsum(equation, x, y, precision="highest") * weight).sum()
    out = layers.product(equation, x, y)
    assert out.dtype == jnp.float32
    assert relative(out, jnp.einsum(equation, x, y.astype(jnp.float32))) < tolerance
    found = jax.grad(ours, (0, 1))(x, y)
    assert (found[0].dtype, found[1].dtype) == (x.dtype, y.dtype)
    for a, b in zip(found, jax.grad(expected, (0, 1))(x, y.astype(jnp.float32)), strict=True):
        assert relative(a.astype(jnp.float32), b) < tolerance


@pytest.mark.parametrize("shape", [(3, 4), (2, 5, 4), (2, 3, 5, 4)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, EXACT), (jnp.bfloat16, 0.03)])
def test_affine_and_its_gradients_are_a_product(shape, dtype, tolerance):
    x, kernel_DF = draw(*shape), draw(4, 7, seed=1).astype(dtype)
    weight = draw(*shape[:-1], 7, seed=2)
    ours = lambda x, y: (layers.affine(x, y) * weight).sum()
    expected = lambda x, y: ((x @ y) * weight).sum()
    assert layers.affine(x, kernel_DF).dtype == jnp.float32
    exact = (x, kernel_DF.astype(jnp.float32))
    assert relative(ours(x, kernel_DF), expected(*exact)) < 3 * tolerance
    found = jax.grad(ours, (0, 1))(x, kernel_DF)
    assert (found[0].dtype, found[1].dtype) == (x.dtype, kernel_DF.dtype)
    for a, b in zip(found, jax.grad(expected, (0, 1))(*exact), strict=True):
        assert relative(a.astype(jnp.float32), b) < tolerance


def test_lookup_outside_the_table_is_nan():
    table_VD = draw(5, 3)
    rows = np.asarray(layers.lookup(table_VD, jnp.array([[0, 4, 5, 99]])))[0]
    assert (rows[:2] == np.asarray(table_VD)[[0, 4]]).all()
    assert np.isnan(rows[2:]).all()


def test_lookup_adds_up_the_gradients_of_a_row():
    ids_BL, weight_BLD = jnp.array([[0, 2, 2, 4], [2, 0, 0, 1]]), draw(2, 4, 3)
    gradient = jax.grad(lambda t: (layers.lookup(t, ids_BL) * weight_BLD).sum())(draw(5, 3))
    expected = np.zeros((5, 3), np.float32)
    np.add.at(expected, np.asarray(ids_BL), np.asarray(weight_BLD))
    assert relative(gradient, expected) < EXACT


def test_lookup_of_bfloat16_adds_up_in_float32():
    ids = jnp.zeros(1024, jnp.int32)  # in bfloat16, 256 + 1 is 256 again
    gradient = jax.grad(lambda t: layers.lookup(t, ids).sum())(jnp.zeros((2, 3), jnp.bfloat16))
    assert gradient.dtype == jnp.bfloat16
    assert np.asarray(gradient.astype(jnp.float32)).tolist() == [[1024] * 3, [0] * 3]


def test_gelu_is_exact_and_its_tanh_form_is_not():
    x = np.linspace(-6, 6, 4001)
    exact = x * special.ndtr(x)
    assert np.abs(layers.gelu(jnp.float32(x)) - exact).max() < 1e-6
    tanh = 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))
    assert np.abs(layers.gelu_tanh(jnp.float32(x)) - tanh).max() < 1e-6
    assert 3e-4 < np.abs(tanh - exact).max() < 5e-4


def test_positions_count_within_a_document():
    documents_BL = jnp.array([[0, 0, 1, 1, 1, 2, 2], [1, 1, 2, 0, 2, 2, 0], [0] * 7])
    found = np.asarray(layers.positions(documents_BL))
    assert found[0, 2:].tolist() == [0, 1, 2, 0, 1]
    assert found[1, [0, 1, 2, 4, 5]].tolist() == [0, 1, 0, 1, 2]
    assert found.min() == 0
    assert found.dtype == np.int32


def test_a_token_sees_the_real_tokens_of_its_document():
    documents_BL = np.random.default_rng(0).integers(0, 3, (4, 9))
    mask_B1LM = np.asarray(layers.same_document(jnp.asarray(documents_BL)))
    for b, i, j in np.ndindex(4, 9, 9):
        same = documents_BL[b, i] == documents_BL[b, j] != 0
        assert mask_B1LM[b, 0, i, j] == same
    assert layers.causal(3)[0, 0].tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


def attend(score_BHLM, v_BHMK, mask):
    """The softmax of what a row may see, one row at a time."""
    out = np.zeros((*score_BHLM.shape[:3], v_BHMK.shape[-1]))
    for b, h, i in np.ndindex(*score_BHLM.shape[:3]):
        seen = np.flatnonzero(mask[b, 0, i])
        weight = np.exp(score_BHLM[b, h, i, seen] - score_BHLM[b, h, i, seen].max())
        out[b, h, i] = (weight / weight.sum()) @ v_BHMK[b, h, seen]
    return out


def test_mix_is_a_softmax_over_what_is_seen():
    score_BHLM, v_BHMK = np.array(draw(2, 3, 5, 6)) * 5, np.array(draw(2, 3, 6, 4, seed=1))
    mask = np.random.default_rng(0).random((2, 1, 5, 6)) < 0.5
    mask[..., 0] = True
    found, state = layers.Mix(0.0).apply({}, score_BHLM, v_BHMK, mask, mutable="intermediates")
    assert relative(found, attend(score_BHLM, v_BHMK, mask)) < EXACT
    (weight_BHLM,) = state["intermediates"]["attention"]
    assert np.allclose(weight_BHLM.sum(-1), 1, atol=1e-6)
    assert (np.asarray(weight_BHLM)[np.broadcast_to(~mask, weight_BHLM.shape)] == 0).all()


def test_a_row_that_sees_nothing_is_finite_and_so_is_its_gradient():
    score_BHLM, v_BHMK = draw(1, 1, 2, 3), draw(1, 1, 3, 4, seed=1)
    mask = jnp.array([[False] * 3, [True] * 3])[None, None]
    run = lambda s, v: layers.Mix(0.0).apply({}, s, v, mask)
    assert relative(run(score_BHLM, v_BHMK)[0, 0, 0], v_BHMK[0, 0].mean(0)) < EXACT
    for gradient in jax.grad(lambda s, v: run(s, v).sum(), (0, 1))(score_BHLM, v_BHMK):
        assert np.isfinite(gradient).all()


def test_attention_is_equation_1():
    H, K, D = 3, 4, 10
    init = jax.nn.initializers.normal(0.3)
    attention = layers.Attention(H, K, D, 0.0, init, init)
    x_BLD, memory_BMD = draw(2, 5, D), draw(2, 6, D, seed=1)
    mask = np.ones((2, 1, 5, 6), bool)
    params = attention.init(jax.random.key(0), x_BLD, memory_BMD, mask)["params"]
    params = jax.tree.map(lambda p: draw(*p.shape, seed=p.size), params)
    heads = lambda name, x: (
        np.einsum("bld,dhk->bhlk", x, params[name]["kernel"])
        + np.asarray(params[name]["bias"]).reshape(1, H, 1, K)
    )
    q, k, v = heads("query", x_BLD), heads("key", memory_BMD), heads("value", memory_BMD)
    mixed = attend(np.einsum("bhlk,bhmk->bhlm", q, k) / K**0.5, v, mask)
    expected = np.einsum("bhlk,hkd->bld", mixed, params["output"]["kernel"])
    found = attention.apply({"params": params}, x_BLD, memory_BMD, mask)
    assert relative(found, expected + np.asarray(params["output"]["bias"])) < 1e-5


def test_norm_is_exact_far_from_zero():
    x = np.array(draw(4, 64)) * 1e-2 + 1000.0  # a mean of squares loses this variance
    norm = layers.Norm(1e-12)
    exact = x.astype(np.float64)
    exact = (exact - exact.mean(-1, keepdims=True)) / exact.std(-1, keepdims=True)
    params = norm.init(jax.random.key(0), x)
    assert relative(norm.apply(params, x), exact) < 1e-2
