"""Attention by buckets of distance, and the blocks around it (Raffel et al. 2019, "T5").

https://arxiv.org/abs/1910.10683, section 2.1. Near distances have a bucket each, far ones share
one, and every bucket adds a number of its own to the scores of each head. Nothing has a bias, and
norms only scale.

B batch  L length  M memory  T target length  D width  H heads  K head width  R buckets
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from zoo.attention import Mix
from zoo.layers import Dropout, Kernel, into_heads, lookup, out_of_heads, product

# A distance is the position of the key less that of the query.


def bucket(distance, num_buckets: int, max_distance: int):
    """The bucket of a distance from 0 on: the first half hold one each, the others ever more.

    All from `max_distance` on are in the last. The logarithms are NumPy's, because powers of two
    begin a bucket and those of an accelerator may miss it.
    """
    exact = num_buckets // 2
    near = np.arange(max_distance + 1)
    share = np.log(np.maximum(near, 1) / exact) / np.log(max_distance / exact)
    wide = np.minimum(exact + (share * (num_buckets - exact)).astype(np.int32), num_buckets - 1)
    return jnp.asarray(np.where(near < exact, near, wide))[jnp.minimum(distance, max_distance)]


def either_side(distance, num_buckets: int, max_distance: int):
    """Half of the buckets are for keys up to the query, half for those behind it: an encoder's."""
    half = num_buckets // 2
    return bucket(jnp.abs(distance), half, max_distance) + jnp.where(distance > 0, half, 0)


def the_past(distance, num_buckets: int, max_distance: int):
    """All buckets are for keys up to the query: a decoder's."""
    return bucket(jnp.maximum(-distance, 0), num_buckets, max_distance)


class DistanceBias(nn.Module):
    """What distance adds to the scores: positions of queries and keys -> bias_HLM.

    `side` finds the bucket of a distance.
    """

    num_heads: int
    num_buckets: int
    max_distance: int
    table_init: Callable
    side: Callable

    @nn.compact
    def __call__(self, queries_L, keys_M):
        table_RH = self.param("table", self.table_init, (self.num_buckets, self.num_heads))
        distance_LM = keys_M - queries_L[:, None]
        bucket_LM = self.side(distance_LM, self.num_buckets, self.max_distance)
        return jnp.moveaxis(lookup(table_RH, bucket_LM), -1, 0)


class UnscaledAttention(nn.Module):
    """Attention without a scale, which the draw of the query kernel makes up for."""

    num_heads: int
    head_width: int
    width: int
    dropout: float

    def setup(self):
        D, H, K, normal = self.width, self.num_heads, self.head_width, nn.initializers.normal
        self.query = Kernel((D, H, K), normal((D * K) ** -0.5))
        self.key = Kernel((D, H, K), normal(D**-0.5))
        self.value = Kernel((D, H, K), normal(D**-0.5))
        self.mix = Mix(self.dropout)
        self.output = Kernel((H, K, D), normal((H * K) ** -0.5))

    def remember(self, memory_BMD):
        """What there is to look at: k_BHMK, v_BHMK."""
        return into_heads(memory_BMD, self.key()), into_heads(memory_BMD, self.value())

    def look(self, x_BLD, k_BHMK, v_BHMK, bias_HLM, mask, *, train: bool = False):
        """What x finds there: x_BLD. The bias may be 0; the mask broadcasts to [B, H, L, M]."""
        q_BHLK = into_heads(x_BLD, self.query())
        score_BHLM = product("BHLK,BHMK->BHLM", q_BHLK, k_BHMK) + bias_HLM
        return out_of_heads(self.mix(score_BHLM, v_BHMK, mask, train=train), self.output())


class RMSNorm(nn.Module):
    """Root mean square normalisation (Zhang and Sennrich 2019): x_BLD -> x_BLD."""

    epsilon: float

    @nn.compact
    def __call__(self, x_BLD):
        scale_D = self.param("scale", nn.initializers.ones, (x_BLD.shape[-1],))
        square_BL1 = jnp.square(x_BLD).mean(-1, keepdims=True)
        return x_BLD * jax.lax.rsqrt(square_BL1 + self.epsilon) * scale_D


class EncoderBlock(nn.Module):
    """Normalise, attend, add; normalise, feed forward, add.

    `feed_forward` makes the part of that name from the numbers mlp_width, width and dropout.
    """

    num_heads: int
    head_width: int
    width: int
    mlp_width: int
    dropout: float
    epsilon: float
    feed_forward: Callable

    def setup(self):
        attention = (self.num_heads, self.head_width, self.width, self.dropout)
        self.attention_norm = RMSNorm(self.epsilon)
        self.attention = UnscaledAttention(*attention)
        self.attention_dropout = Dropout(self.dropout)
        self.mlp_norm = RMSNorm(self.epsilon)
        self.mlp = self.feed_forward(self.mlp_width, self.width, self.dropout)
        self.mlp_dropout = Dropout(self.dropout)

    def __call__(self, x_BLD, bias_HLL, mask, *, train: bool = False):
        normed_BLD = self.attention_norm(x_BLD)
        remembered = self.attention.remember(normed_BLD)
        attended_BLD = self.attention.look(normed_BLD, *remembered, bias_HLL, mask, train=train)
        x_BLD = x_BLD + self.attention_dropout(attended_BLD, train=train)
        return x_BLD + self.mlp_dropout(self.mlp(self.mlp_norm(x_BLD), train=train), train=train)


class DecoderBlock(nn.Module):
    """The same, and a look at a source between the two."""

    num_heads: int
    head_width: int
    width: int
    mlp_width: int
    dropout: float
    epsilon: float
    feed_forward: Callable

    def setup(self):
        attention = (self.num_heads, self.head_width, self.width, self.dropout)
        self.attention_norm = RMSNorm(self.epsilon)
        self.attention = UnscaledAttention(*attention)
        self.attention_dropout = Dropout(self.dropout)
        self.source_norm = RMSNorm(self.epsilon)
        self.source_attention = UnscaledAttention(*attention)
        self.source_dropout = Dropout(self.dropout)
        self.mlp_norm = RMSNorm(self.epsilon)
        self.mlp = self.feed_forward(self.mlp_width, self.width, self.dropout)
        self.mlp_dropout = Dropout(self.dropout)

    def remember(self, source_BLD):
        """What there is to look at in the source: its keys and values."""
        return self.source_attention.remember(source_BLD)

    def __call__(self, x_BTD, source, bias_HTT, mask, source_mask, *, train: bool = False):
        normed_BTD = self.attention_norm(x_BTD)
        remembered = self.attention.remember(normed_BTD)
        attended_BTD = self.attention.look(normed_BTD, *remembered, bias_HTT, mask, train=train)
        return self._after(x_BTD, attended_BTD, source, source_mask, train=train)

    def extend(self, x_B1D, k_BHMK, v_BHMK, at, source, bias_H1M, mask, source_mask):
        """The same for one token behind a memory: x_B1D, and the memory with it at `at`."""
        normed_B1D = self.attention_norm(x_B1D)
        k_BH1K, v_BH1K = self.attention.remember(normed_B1D)
        k_BHMK = jax.lax.dynamic_update_slice_in_dim(k_BHMK, k_BH1K, at, 2)
        v_BHMK = jax.lax.dynamic_update_slice_in_dim(v_BHMK, v_BH1K, at, 2)
        attended_B1D = self.attention.look(normed_B1D, k_BHMK, v_BHMK, bias_H1M, mask)
        return self._after(x_B1D, attended_B1D, source, source_mask, train=False), k_BHMK, v_BHMK

    def _after(self, x_BTD, attended_BTD, source, source_mask, *, train: bool):
        x_BTD = x_BTD + self.attention_dropout(attended_BTD, train=train)
        normed_BTD = self.source_norm(x_BTD)
        found_BTD = self.source_attention.look(normed_BTD, *source, 0.0, source_mask, train=train)
        x_BTD = x_BTD + self.source_dropout(found_BTD, train=train)
        return x_BTD + self.mlp_dropout(self.mlp(self.mlp_norm(x_BTD), train=train), train=train)
