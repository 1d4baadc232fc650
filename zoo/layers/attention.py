"""Attention: the structured mask, the weighted sum, and multi-head attention.

Vaswani et al. 2017, https://arxiv.org/abs/1706.03762. Attention scores how well a query matches
each key, and returns a sum of the values, weighted by the softmax of the scores. Papers differ in
the scores and share the weighted sum. Attention to a window of keys is computed in chunks.

W window  N chunks of all rows (see banded_attention.py)
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from zoo.layers import banded_attention
from zoo.layers.dropout import Dropout
from zoo.layers.linear import HeadsIn, HeadsOut, LinearHeadsIn, product

KeysValues = tuple[jax.Array, jax.Array]  # k_BHMK and v_BHMK

# Masks and positions


@struct.dataclass
class Mask:
    """An attention mask, as rules instead of an array.

    A fused kernel must see that a mask is causal and where documents end, and cannot infer that
    from an array. Document ids count from 1; 0 is padding. A query attends to the keys that every
    rule allows.

    Attributes:
      query_document_ids_BL: A query attends to keys of its own document only; None: of any.
        Requires the document ids of the keys.
      key_document_ids_BM: Keys with id 0 are padding and are masked; None: no padding.
      query_offset: The position of the first query among the keys.
      direction: "causal": a query attends to keys up to its own position only.
      window: A query attends to the last `window` keys up to and including its own position;
        None: to all keys.
    """

    query_document_ids_BL: jax.Array | None = None
    key_document_ids_BM: jax.Array | None = None
    query_offset: int | jax.Array = 0
    direction: Literal["bidirectional", "causal"] = struct.field(
        pytree_node=False, default="bidirectional"
    )
    window: int | None = struct.field(pytree_node=False, default=None)

    @classmethod
    def bidirectional(cls, document_ids_BL: jax.Array | None = None) -> "Mask":
        """Return the mask of an encoder: every token attends to its own document."""
        return cls(document_ids_BL, document_ids_BL)

    @classmethod
    def causal(cls, document_ids_BL: jax.Array | None = None, window: int | None = None) -> "Mask":
        """Return the mask of a decoder: every token attends to its own document up to itself."""
        return cls(document_ids_BL, document_ids_BL, direction="causal", window=window)

    @classmethod
    def cached(cls, length: int | jax.Array, document_ids_BM: jax.Array | None = None) -> "Mask":
        """Return the causal mask of new tokens after the first `length` slots of a cache.

        The keys are those of the whole cache; all real ones belong to one document.
        """
        return cls(None, document_ids_BM, length, direction="causal")

    @classmethod
    def source(cls, document_ids_BM: jax.Array | None = None) -> "Mask":
        """Return the mask of cross-attention: every token attends to all real source tokens."""
        return cls(None, document_ids_BM)

    def dense(self, num_queries: int, num_keys: int) -> jax.Array | None:
        """Return the mask as a boolean array, for attention without a fused kernel.

        Returns:
          True where a query attends to a key; broadcasts to [B, H, L, M]. None if nothing is
          masked.
        """
        rules = []
        query_L1 = self.query_offset + jnp.arange(num_queries)[:, None]
        key_M = jnp.arange(num_keys)
        if self.direction == "causal":
            rules.append((key_M <= query_L1)[None, None])
        if self.window is not None:
            rules.append((query_L1 - key_M < self.window)[None, None])
        if self.key_document_ids_BM is not None:
            rules.append((self.key_document_ids_BM > 0)[:, None, None])
            if self.query_document_ids_BL is not None:
                query_BL1 = self.query_document_ids_BL[:, :, None]
                rules.append((query_BL1 == self.key_document_ids_BM[:, None])[:, None])
        return reduce(jnp.logical_and, rules) if rules else None


def positions(document_ids_BL: jax.Array) -> jax.Array:
    """Return the position of each token in its own document, from 0: int32 [B, L].

    Padding is not counted.
    """
    L = document_ids_BL.shape[1]
    return positions_among_keys(Mask.causal(document_ids_BL), L, L)


def learned_positions(
    tokens_BL: jax.Array, document_ids_BL: jax.Array | None, max_length: int
) -> jax.Array:
    """Return the position of each token, for a table of `max_length` rows: int32 [B, L] or [1, L].

    Raises:
      ValueError: If the row is longer than the table.
    """
    L = tokens_BL.shape[1]
    if max_length < L:
        raise ValueError(
            f"a row of {L} tokens is longer than the {max_length} positions of the model: truncate "
            "or split the text"
        )
    return jnp.arange(L)[None] if document_ids_BL is None else positions(document_ids_BL)


def positions_among_keys(mask: Mask, num_queries: int, num_keys: int) -> jax.Array:
    """Return the position of each query among the keys it attends to, from 0: int32 [B, L].

    The mask must be causal, so that the query itself is the last of them.
    """
    allowed = mask.dense(num_queries, num_keys)
    if allowed is None:
        raise ValueError(
            "positions need a causal mask, got one that masks nothing; use Mask.causal or "
            "Mask.cached"
        )
    return jnp.maximum(allowed[:, 0].sum(-1, dtype=jnp.int32) - 1, 0)


# Scores and the weighted sum


class WeightedSum(nn.Module):
    """The weighted sum of attention: score_BHLM, v_BHMK -> x_BHLK.

    It masks the scores, applies a float32 softmax and dropout, and sums the values. The weights are
    sown as "attention" into the collection "intermediates", if it is collected. A fully masked row
    attends uniformly, so the output stays finite; it should be ignored.
    """

    dropout: float

    @nn.compact
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
        weight_BHLM = Dropout(self.dropout)(weight_BHLM, train=train)
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

    All dot-product attention passes through here, so this is where a fused kernel may be chosen
    later, by platform, shapes and mask. Today a mask with a window is computed in chunks where that
    takes fewer products. The result is the same, and so are the weights that are sown:
    [B, H, L, M], zero outside of the window. `weighted_sum` has no parameters; it has the dropout
    rate, and its module path names the weights that it sows.

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
