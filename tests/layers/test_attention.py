"""Masks, the weighted sum and attention against slow and simple references."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.wide import draw, relative
from zoo.layers import attention, mask
from zoo.layers.attention import WeightedSum
from zoo.layers.mask import Mask

EXACT = 1e-6


def test_positions_count_within_a_document():
    document_ids_BL = jnp.array([[0, 0, 1, 1, 1, 2, 2], [1, 1, 2, 0, 2, 2, 0], [0] * 7])
    positions = np.asarray(mask.positions(document_ids_BL))
    assert positions[0, 2:].tolist() == [0, 1, 2, 0, 1]
    assert positions[1, [0, 1, 2, 4, 5]].tolist() == [0, 1, 0, 1, 2]
    assert positions.min() == 0
    assert positions.dtype == np.int32


B, L, M, OFFSET = 4, 5, 9, 3
KEYS = np.random.default_rng(0).integers(0, 3, (B, M))  # documents, 0 for padding
MASKS = {
    "nothing": Mask.bidirectional(),
    "bidirectional": Mask.bidirectional(KEYS),
    "causal": Mask.causal(),
    "causal documents": Mask.causal(KEYS),
    "window": Mask.causal(window=3),
    "window of documents": Mask.causal(KEYS, window=2),
    "cache": Mask.cached(OFFSET),
    "padded cache": Mask.cached(OFFSET, KEYS),
    "source": Mask.source(KEYS),
    "bidirectional window": Mask(None, KEYS, OFFSET, window=3),
}


def is_visible(mask: Mask, b: int, query: int, key: int) -> bool:
    """Apply the rules of a mask to one query and one key."""
    position, key_documents, same_document = (
        mask.query_offset + query,
        mask.key_document_ids_BM,
        True,
    )
    if mask.query_document_ids_BL is not None:
        same_document = mask.query_document_ids_BL[b, query] == key_documents[b, key]
    return bool(
        same_document
        and (key_documents is None or key_documents[b, key] > 0)
        and (mask.direction == "bidirectional" or key <= position)
        and (mask.window is None or key > position - mask.window)
    )


@pytest.mark.parametrize("name", MASKS)
def test_a_dense_mask_agrees_with_its_rules(name):
    mask = MASKS[name]
    queries = L if mask.query_document_ids_BL is None else M
    expected = np.array(
        [
            [[is_visible(mask, b, query, key) for key in range(M)] for query in range(queries)]
            for b in range(B)
        ]
    )
    eager, jitted = mask.dense(queries, M), jax.jit(lambda mask: mask.dense(queries, M))(mask)
    if name == "nothing":
        assert eager is jitted is None
    else:
        assert expected.any()
        assert not expected.all()
        for dense in (eager, jitted):
            assert dense.dtype == bool
            assert (np.broadcast_to(dense, (B, 1, queries, M))[:, 0] == expected).all()


def test_a_mask_compiles_once_for_all_its_offsets_and_documents():
    compiled = []

    @jax.jit
    def dense(mask):
        compiled.append(mask.direction)
        return mask.dense(1, M)

    for offset in range(3):
        dense(Mask.cached(jnp.int32(offset), jnp.asarray(KEYS)))
    assert compiled == ["causal"]
    dense(Mask.source(jnp.asarray(KEYS)))
    assert compiled == ["causal", "bidirectional"]


def softmax_over_visible(score_BHLM, v_BHMK, mask):
    """Return the weighted sum of the values that a query may attend to, one query at a time."""
    out = np.zeros((*score_BHLM.shape[:3], v_BHMK.shape[-1]))
    for b, h, i in np.ndindex(*score_BHLM.shape[:3]):
        visible = np.flatnonzero(mask[b, 0, i])
        weight = np.exp(score_BHLM[b, h, i, visible] - score_BHLM[b, h, i, visible].max())
        out[b, h, i] = (weight / weight.sum()) @ v_BHMK[b, h, visible]
    return out


def test_weighted_sum_is_a_softmax_over_visible_keys():
    score_BHLM, v_BHMK = np.array(draw(2, 3, 5, 6)) * 5, np.array(draw(2, 3, 6, 4, seed=1))
    mask = np.random.default_rng(0).random((2, 1, 5, 6)) < 0.5
    mask[..., 0] = True
    output, state = WeightedSum(0.0).apply({}, score_BHLM, v_BHMK, mask, mutable="intermediates")
    assert relative(output, softmax_over_visible(score_BHLM, v_BHMK, mask)) < EXACT
    (weight_BHLM,) = state["intermediates"]["attention"]
    assert np.allclose(weight_BHLM.sum(-1), 1, atol=1e-6)
    assert (np.asarray(weight_BHLM)[np.broadcast_to(~mask, weight_BHLM.shape)] == 0).all()


def test_a_fully_masked_row_is_finite_and_so_is_its_gradient():
    score_BHLM, v_BHMK = draw(1, 1, 2, 3), draw(1, 1, 3, 4, seed=1)
    mask = jnp.array([[False] * 3, [True] * 3])[None, None]
    run = lambda s, v: WeightedSum(0.0).apply({}, s, v, mask)
    assert relative(run(score_BHLM, v_BHMK)[0, 0, 0], v_BHMK[0, 0].mean(0)) < EXACT
    for gradient in jax.grad(lambda s, v: run(s, v).sum(), (0, 1))(score_BHLM, v_BHMK):
        assert np.isfinite(gradient).all()


def test_attention_is_equation_1():
    H, K, D = 3, 4, 10
    init = jax.nn.initializers.normal(0.3)
    module = attention.Attention(H, K, D, 0.0, init, init)
    x_BLD, memory_BMD = draw(2, 5, D), draw(2, 6, D, seed=1)
    mask = Mask.source(np.array([[1] * 6, [0, 1, 1, 0, 1, 2]]))
    params = module.init(jax.random.key(0), x_BLD, memory_BMD, mask)["params"]
    params = jax.tree.map(lambda p: draw(*p.shape, seed=p.size), params)
    heads = lambda name, x: (
        np.einsum("bld,dhk->bhlk", x, params[name]["kernel"])
        + np.asarray(params[name]["bias"]).reshape(1, H, 1, K)
    )
    q, k, v = heads("query", x_BLD), heads("key", memory_BMD), heads("value", memory_BMD)
    visible = np.broadcast_to(mask.dense(5, 6), (2, 1, 5, 6))
    attended = softmax_over_visible(np.einsum("bhlk,bhmk->bhlm", q, k) / K**0.5, v, visible)
    expected = np.einsum("bhlk,hkd->bld", attended, params["output"]["kernel"])
    output = module.apply({"params": params}, x_BLD, memory_BMD, mask)
    assert relative(output, expected + np.asarray(params["output"]["bias"])) < 1e-5


def test_a_bias_is_added_to_the_logits_and_the_scale_multiplies_the_queries():
    q, k, v, bias = draw(2, 3, 5, 4), draw(2, 3, 6, 4), draw(2, 3, 6, 4, seed=1), draw(3, 5, 6)
    output = attention.attend(
        WeightedSum(0.0, parent=None).bind({}), q, (k, v), Mask.source(), scale=0.3, bias_HLM=bias
    )
    score = np.einsum("bhlk,bhmk->bhlm", q, k) * 0.3 + np.asarray(bias)
    assert relative(output, softmax_over_visible(score, v, np.ones((2, 1, 5, 6), bool))) < 1e-5


def test_new_keys_and_values_are_written_after_those_in_a_cache():
    cached, new = (draw(2, 3, 6, 4),) * 2, (draw(2, 3, 2, 4, seed=1), draw(2, 3, 2, 4, seed=2))
    for old, added, both in zip(cached, new, attention.append(cached, new, 3), strict=True):
        assert (both[:, :, 3:5] == added).all()
        assert (both[:, :, :3] == old[:, :, :3]).all()
        assert (both[:, :, 5:] == old[:, :, 5:]).all()
