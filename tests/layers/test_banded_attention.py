"""Attention in chunks equals attention with a dense mask, and costs what the band costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.wide import draw, relative
from zoo.layers import banded_attention
from zoo.layers.attention import WeightedSum, attend
from zoo.layers.mask import Mask

EXACT = 1e-6
B, H, K = 3, 2, 8


def documents(length: int):
    """Return rows with padding on the left, between documents and on the right."""
    position_L = np.arange(length)
    left = np.where(position_L < length // 3, 0, 1)
    packed = np.select([position_L < length // 2, position_L == length // 2], [1, 0], 2)
    right = (position_L < 2 * length // 3).astype(int)
    return jnp.asarray(np.stack([left, packed, right]), jnp.int32)


def arrays(length: int):
    return [draw(B, H, length, K, seed=seed) for seed in range(3)]


def in_chunks(q, k, v, mask, **options):
    """Return attention as models compute it, and the weights that it sows."""

    def run(module):
        return attend(module, q, (k, v), mask, scale=K**-0.5, **options)

    return WeightedSum(0.0).apply({}, method=run, mutable="intermediates")


def dense(q, k, v, mask):
    """Return attention with a dense mask, and its weights."""
    score = jnp.einsum("bhlk,bhmk->bhlm", q, k) * K**-0.5
    weight = jax.nn.softmax(jnp.where(mask.dense(q.shape[2], k.shape[2]), score, -1e30))
    return weight @ v, weight


CASES = [(20, 4, True), (21, 4, True), (23, 4, False), (12, 2, True), (9, 2, False), (7, 7, True)]


@pytest.mark.parametrize(("length", "window", "padded"), CASES)
def test_outputs_weights_and_gradients_equal_those_of_a_dense_mask(length, window, padded):
    document_ids_BL = documents(length) if padded else None
    mask = Mask.causal(document_ids_BL, window)
    real_BL = np.ones((B, length), bool) if document_ids_BL is None else document_ids_BL > 0
    inputs = arrays(length)
    output, sown = in_chunks(*inputs, mask)
    (weight_BHLM,) = sown["intermediates"]["attention"]
    expected, expected_weights = dense(*inputs, mask)
    rows = lambda x: np.asarray(x).swapaxes(1, 2)[real_BL]
    assert relative(rows(output), rows(expected)) < EXACT
    assert relative(rows(weight_BHLM), rows(expected_weights)) < EXACT

    def loss(attention):
        return lambda *x: (jnp.sin(attention(*x, mask)[0]) * real_BL[:, None, :, None]).sum()

    gradients = (jax.jit(jax.grad(loss(f), (0, 1, 2)))(*inputs) for f in (in_chunks, dense))
    for ours, theirs in zip(*gradients, strict=True):
        assert relative(ours, theirs) < EXACT


def flops(length: int, window: int | None) -> float:
    """Return the FLOP of compiled attention, forward and backward."""
    inputs = [jax.ShapeDtypeStruct((1, 1, length, 64), jnp.float32)] * 3

    def run(q, k, v):
        mask = Mask.causal(window=window)
        return attend(WeightedSum(0.0, parent=None).bind({}), q, (k, v), mask, scale=1.0).sum()

    return jax.jit(jax.grad(run, (0, 1, 2))).lower(*inputs).compile().cost_analysis()["flops"]


def test_a_band_costs_two_windows_per_query():
    whole = flops(1024, None)
    assert flops(1024, 64) / whole == pytest.approx(2 * 64 / 1024, rel=0.05)
    assert flops(1024, 1024) == pytest.approx(whole, rel=0.05)
    # Three chunks would compute 3 * 400 * 800 scores, more than 1024 * 1024 if not by much.
    assert flops(1024, 512) == pytest.approx(whole, rel=0.05)


@pytest.mark.parametrize("change", ["offset", "bidirectional", "fewer queries"])
def test_other_masks_with_a_window_are_dense(change):
    q, k, v = arrays(20)
    mask = Mask.causal(window=4)
    if change == "offset":
        mask = mask.replace(query_offset=jnp.int32(2))
    elif change == "bidirectional":
        mask = Mask(window=4)
    else:
        q = q[:, :, :3]
    output, _ = in_chunks(q, k, v, mask)
    assert relative(output, dense(q, k, v, mask)[0]) < EXACT


def test_rows_are_joined_from_their_chunks():
    x_BHLK = draw(B, H, 11, K)
    x_NHWK = banded_attention.split(x_BHLK, 4)
    assert x_NHWK.shape == (B * 3, H, 4, K)
    assert (banded_attention.join(x_NHWK, B, 11) == x_BHLK).all()
    with_previous = banded_attention.split_with_previous(x_BHLK, 4)
    assert (with_previous[0::3, :, :4] == 0).all()
    assert (with_previous[1::3] == x_BHLK[:, :, :8]).all()
