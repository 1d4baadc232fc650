"""Attention: the weighted sum, dot-product attention, and multi-head attention.

Vaswani et al. 2017, https://arxiv.org/abs/1706.03762. Attention scores how well a query matches
each key, and returns a sum of the values, weighted by the softmax of the scores. Papers differ in
the scores and share the weighted sum. Attention to a window of keys is computed in chunks.

W window  N chunks of all rows (see banded_attention.py)
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers import banded_attention, fused_attention
from zoo.layers.dropout import Dropout
from zoo.layers.linear import HeadsIn, HeadsOut, LinearHeadsIn, product
from zoo.layers.mask import Mask

KeysValues = tuple[jax.Array, jax.Array]  # k_BHMK and v_BHMK


class WeightedSum(nn.Module):
    """The weighted sum of attention: score_BHLM, v_BHMK -> x_BHLK.

    It masks the scores, applies a float32 softmax and dropout, and sums the values. The weights are
    sown as "attention" into the collection "intermediates", if it is collected. A fully masked row
    attends uniformly, so the output stays finite; it should be ignored.
    """

    dropout: float

    def setup(self):
        self.drop = Dropout(self.dropout)

    def __call__(
        self,
        score_BHLM: jax.Array,
        v_BHMK: jax.Array,
        mask: jax.Array | None,
        *,
        layout: Callable[[jax.Array], jax.Array] = lambda weights: weights,
        train: bool = False,
    ) -> jax.Array:
        """Return x_BHLK; `layout` changes the shape of the weights that are sown."""
        if mask is not None:
            score_BHLM = jnp.where(mask, score_BHLM, -1e30)
        weight_BHLM = jax.nn.softmax(score_BHLM)
        if self.is_mutable_collection("intermediates"):
            self.sow("intermediates", "attention", layout(weight_BHLM))
        weight_BHLM = self.drop(weight_BHLM, train=train)
        return product("BHLM,BHMK->BHLK", weight_BHLM, v_BHMK)


def attend(
    weighted_sum: WeightedSum,
    q_BHLK: jax.Array,
    keys_values: KeysValues,
    mask: Mask,
    *,
    scale: float,
    bias_HLM: jax.Array | None = None,
    train: bool = False,
) -> jax.Array:
    """Return dot-product attention: x_BHLK (Vaswani et al. 2017, equation 1).

    All dot-product attention passes through here. How it is computed is decided by platform, shapes
    and mask: by a kernel that never writes the scores to memory, where the platform has one; for a
    window of keys in chunks, where that takes fewer products; else as written in the paper. No
    kernel is used where the weights are collected. The result is the same, and so are the weights
    that are sown: [B, H, L, M], zero outside of the window. `weighted_sum` has no parameters; it
    has the dropout rate, and its module path names the weights that it sows.

    Args:
      weighted_sum: Turns the scores into weights and sums the values.
      q_BHLK: The queries.
      keys_values: k_BHMK and v_BHMK.
      mask: Which keys each query attends to.
      scale: Factor of the queries, usually 1 / sqrt(head width).
      bias_HLM: Added to the scores, such as the relative position bias of T5.
      train: Whether to apply dropout to the weights.
    """
    k_BHMK, v_BHMK = keys_values
    L, M = q_BHLK.shape[2], k_BHMK.shape[2]
    if not weighted_sum.is_mutable_collection("intermediates"):
        drop = weighted_sum.drop if train and weighted_sum.dropout else None
        inputs = fused_attention.Inputs(q_BHLK * scale, k_BHMK, v_BHMK, bias_HLM)
        x_BHLK = fused_attention.attend(inputs, mask, drop)
        if x_BHLK is not None:
            return x_BHLK
    if bias_HLM is None and _takes_fewer_products_in_chunks(mask, L, M):
        return _attend_in_chunks(weighted_sum, q_BHLK * scale, keys_values, mask, train=train)
    score_BHLM = product("BHLK,BHMK->BHLM", q_BHLK * scale, k_BHMK)
    if bias_HLM is not None:
        score_BHLM = score_BHLM + bias_HLM
    return weighted_sum(score_BHLM, v_BHMK, mask.dense(L, M), train=train)


def _takes_fewer_products_in_chunks(mask: Mask, num_queries: int, num_keys: int) -> bool:
    """Return whether a mask is a causal band of a whole sequence that is long enough."""
    if mask.window is None or mask.direction != "causal" or num_queries != num_keys:
        return False
    if not isinstance(mask.query_offset, int) or mask.query_offset:  # after a cache
        return False
    padded_length = -(-num_queries // mask.window) * mask.window
    return padded_length * 2 * mask.window < num_queries * num_keys


def _attend_in_chunks(
    weighted_sum: WeightedSum,
    q_BHLK: jax.Array,
    keys_values: KeysValues,
    mask: Mask,
    *,
    train: bool,
) -> jax.Array:
    """Return the attention of scaled queries to a window of keys, by chunks: x_BHLK."""
    (B, _, L, _), window = q_BHLK.shape, mask.window
    assert window is not None
    q_NHWK = banded_attention.split(q_BHLK, window)
    k_NHMK, v_NHMK = (banded_attention.split_with_previous(x, window) for x in keys_values)
    score_NHWM = product("NHWK,NHMK->NHWM", q_NHWK, k_NHMK)
    allowed = _mask_of_chunks(mask, B, L, window).dense(window, 2 * window)
    layout = partial(banded_attention.join_weights, num_rows=B, length=L)
    x_NHWK = weighted_sum(score_NHWM, v_NHMK, allowed, layout=layout, train=train)
    return banded_attention.join(x_NHWK, B, L)


def _mask_of_chunks(mask: Mask, num_rows: int, length: int, window: int) -> Mask:
    """Return the mask of queries in a chunk, for the keys of the chunk before it and its own."""
    column = lambda ids_BL: jnp.broadcast_to(ids_BL, (num_rows, length))[:, None, :, None]
    # The zeros before the first chunk and after the last are padding.
    key_ids_BL = jnp.int32([[1]]) if mask.key_document_ids_BM is None else mask.key_document_ids_BM
    key_ids_NM = banded_attention.split_with_previous(column(key_ids_BL), window)[:, 0, :, 0]
    query_ids_NW = None
    if mask.query_document_ids_BL is not None:
        query_ids = column(mask.query_document_ids_BL)
        query_ids_NW = banded_attention.split(query_ids, window)[:, 0, :, 0]
    return Mask(query_ids_NW, key_ids_NM, window, direction="causal", window=window)


def append(cached: KeysValues, new: KeysValues, position: int | jax.Array) -> KeysValues:
    """Return cached keys and values with new ones written in from `position` on."""
    write = lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new, position, 2)
    return jax.tree.map(write, cached, new)


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2): x attends to a memory, or to x.

    A subclass may have another `projection` of queries, keys and values.
    """

    projection: ClassVar[type[HeadsIn] | type[LinearHeadsIn]] = HeadsIn
    num_heads: int
    head_width: int
    width: int
    dropout: float
    kernel_init: nn.initializers.Initializer
    output_init: nn.initializers.Initializer

    def setup(self):
        self.query = self.projection(self.num_heads, self.head_width, self.kernel_init)
        self.key = self.projection(self.num_heads, self.head_width, self.kernel_init)
        self.value = self.projection(self.num_heads, self.head_width, self.kernel_init)
        self.mix = WeightedSum(self.dropout)
        self.output = HeadsOut(self.width, self.output_init)

    def project_keys_values(self, memory_BMD: jax.Array) -> KeysValues:
        """Return the keys and values of a memory: k_BHMK, v_BHMK."""
        return self.key(memory_BMD), self.value(memory_BMD)

    def attend(
        self, x_BLD: jax.Array, keys_values: KeysValues, mask: Mask, *, train: bool = False
    ) -> jax.Array:
        """Return the attention output for x: x_BLD."""
        scale = self.head_width**-0.5
        x_BHLK = attend(self.mix, self.query(x_BLD), keys_values, mask, scale=scale, train=train)
        return self.output(x_BHLK)

    def __call__(
        self, x_BLD: jax.Array, memory_BMD: jax.Array, mask: Mask, *, train: bool = False
    ) -> jax.Array:
        return self.attend(x_BLD, self.project_keys_values(memory_BMD), mask, train=train)
