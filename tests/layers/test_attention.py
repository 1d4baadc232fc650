"""Masks, the mix and attention against slow and obvious references."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.wide import draw, relative
from zoo.layers import attention

EXACT = 1e-6


def test_positions_count_within_a_document():
    documents_BL = jnp.array([[0, 0, 1, 1, 1, 2, 2], [1, 1, 2, 0, 2, 2, 0], [0] * 7])
    found = np.asarray(attention.positions(documents_BL))
    assert found[0, 2:].tolist() == [0, 1, 2, 0, 1]
    assert found[1, [0, 1, 2, 4, 5]].tolist() == [0, 1, 0, 1, 2]
    assert found.min() == 0
    assert found.dtype == np.int32


def test_a_token_sees_the_real_tokens_of_its_document():
    documents_BL = np.random.default_rng(0).integers(0, 3, (4, 9))
    mask_B1LM = np.asarray(attention.same_document(jnp.asarray(documents_BL)))
    for b, i, j in np.ndindex(4, 9, 9):
        same = documents_BL[b, i] == documents_BL[b, j] != 0
        assert mask_B1LM[b, 0, i, j] == same
    assert attention.causal(3)[0, 0].tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


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
    found, state = attention.Mix(0.0).apply({}, score_BHLM, v_BHMK, mask, mutable="intermediates")
    assert relative(found, attend(score_BHLM, v_BHMK, mask)) < EXACT
    (weight_BHLM,) = state["intermediates"]["attention"]
    assert np.allclose(weight_BHLM.sum(-1), 1, atol=1e-6)
    assert (np.asarray(weight_BHLM)[np.broadcast_to(~mask, weight_BHLM.shape)] == 0).all()


def test_a_row_that_sees_nothing_is_finite_and_so_is_its_gradient():
    score_BHLM, v_BHMK = draw(1, 1, 2, 3), draw(1, 1, 3, 4, seed=1)
    mask = jnp.array([[False] * 3, [True] * 3])[None, None]
    run = lambda s, v: attention.Mix(0.0).apply({}, s, v, mask)
    assert relative(run(score_BHLM, v_BHMK)[0, 0, 0], v_BHMK[0, 0].mean(0)) < EXACT
    for gradient in jax.grad(lambda s, v: run(s, v).sum(), (0, 1))(score_BHLM, v_BHMK):
        assert np.isfinite(gradient).all()


def test_attention_is_equation_1():
    H, K, D = 3, 4, 10
    init = jax.nn.initializers.normal(0.3)
    module = attention.Attention(H, K, D, 0.0, init, init)
    x_BLD, memory_BMD = draw(2, 5, D), draw(2, 6, D, seed=1)
    mask = np.ones((2, 1, 5, 6), bool)
    params = module.init(jax.random.key(0), x_BLD, memory_BMD, mask)["params"]
    params = jax.tree.map(lambda p: draw(*p.shape, seed=p.size), params)
    heads = lambda name, x: (
        np.einsum("bld,dhk->bhlk", x, params[name]["kernel"])
        + np.asarray(params[name]["bias"]).reshape(1, H, 1, K)
    )
    q, k, v = heads("query", x_BLD), heads("key", memory_BMD), heads("value", memory_BMD)
    mixed = attend(np.einsum("bhlk,bhmk->bhlm", q, k) / K**0.5, v, mask)
    expected = np.einsum("bhlk,hkd->bld", mixed, params["output"]["kernel"])
    found = module.apply({"params": params}, x_BLD, memory_BMD, mask)
    assert relative(found, expected + np.asarray(params["output"]["bias"])) < 1e-5
