"""Relative attention with a memory (Dai et al. 2019, "Transformer-XL"), as used by XLNet.

https://arxiv.org/abs/1901.02860, sections 3.2 and 3.3.
XLNet adds a score for whether two tokens are in the same segment, and a query stream, whose rows
can be at any positions. Its permutation masks have no structure, so this file uses dense masks.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers.attention import WeightedSum
from zoo.layers.dropout import Dropout
from zoo.layers.feed_forward import Activation
from zoo.layers.linear import Dense, LinearHeadsIn, LinearHeadsOut, product
from zoo.layers.norm import Norm

# The memory


class Memory(NamedTuple):
    """The inputs of each layer for the preceding tokens, [B, M, D], and their document ids.

    A token attends to the memory of its own document; id 0 marks an empty slot.
    """

    inputs: tuple[jax.Array, ...]
    document_ids_BM: jax.Array


def lengthen(memory: Memory, new_memory: Memory, reuse: int, length: int) -> Memory:
    """Return the memory for the next call; no gradient passes through it (section 2.5).

    The first `reuse` new positions are appended to the old ones, and the last `length` positions
    are kept.
    """

    def join(old, new):
        joined = jnp.concatenate([old, new[:, :reuse]], 1)
        return jax.lax.stop_gradient(joined[:, max(0, joined.shape[1] - length) :])

    return jax.tree.map(join, memory, new_memory)


# Masks and distances


class View(NamedTuple):
    """The mask of a stream, which keys are in another segment, and the positions of its rows.

    Without `at_BL` the rows are at positions 0, 1, and so on.
    """

    mask_B1LM: jax.Array
    other_B1LM: jax.Array | None
    at_BL: jax.Array | None


def views(
    segments_BL: jax.Array | None,
    document_ids_BL: jax.Array,
    blocked_BLL: jax.Array | None,
    at_BP: jax.Array | None,
    memory_document_ids: jax.Array,
) -> tuple[View, View | None]:
    """Return the views of the content stream and of the query stream.

    M counts memory and tokens; the memory is in segment 0. Without `at_BP` there is no query
    stream. With it, a row does not attend to the columns where `blocked_BLL` is True; in the
    content stream a token always attends to itself.
    """
    L, memory_length = document_ids_BL.shape[1], memory_document_ids.shape[1]
    document_ids_BM = jnp.concatenate([memory_document_ids, document_ids_BL], 1)
    allowed_BLM = document_ids_BL[:, :, None] == document_ids_BM[:, None]
    allowed_BLM &= (document_ids_BM > 0)[:, None]
    other_B1LM = None
    if segments_BL is not None:
        segments_BM = jnp.pad(segments_BL, ((0, 0), (memory_length, 0)))
        other_B1LM = (segments_BL[:, :, None] != segments_BM[:, None])[:, None]
    if at_BP is None or blocked_BLL is None:
        return View(allowed_BLM[:, None], other_B1LM, None), None
    allowed_BLM &= ~jnp.pad(blocked_BLL, ((0, 0), (0, 0), (memory_length, 0)))
    pick = lambda rows: jnp.take_along_axis(rows, at_BP[:, None, :, None], 2)
    other_B1PM = None if other_B1LM is None else pick(other_B1LM)
    query = View(pick(allowed_BLM[:, None]), other_B1PM, at_BP)
    itself_LM = jnp.eye(L, memory_length + L, memory_length, dtype=bool)
    return View((allowed_BLM | itself_LM)[:, None], other_B1LM, None), query


def distances(L: int, M: int, width: int) -> jax.Array:
    """Return the sinusoidal encoding of distances from M down to 1 - L, sines first: [R, width].

    A distance is the position of the query minus that of the key.
    """
    distance_R = jnp.arange(M, -L, -1, dtype=jnp.float32)
    frequency = 10000.0 ** -(jnp.arange(0, width, 2, dtype=jnp.float32) / width)
    angle = distance_R[:, None] * frequency
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)


def by_key(score_BHLR: jax.Array, at_BL: jax.Array | None, M: int) -> jax.Array:
    """Convert scores by distance into scores by key: score_BHLM.

    For the row at position i, the first key is in column R - M - i; the other keys follow.
    """
    B, H, L, R = score_BHLR.shape
    if at_BL is None:  # each row starts one column earlier: drop the first L, then stride R - 1
        flat = score_BHLR.reshape(B, H, L * R)[:, :, L:]
        return flat.reshape(B, H, L, R - 1)[..., :M]
    window = lambda score_HR, i: jax.lax.dynamic_slice_in_dim(score_HR, R - M - i, M, 1)
    return jax.vmap(jax.vmap(window, (1, 0), 1))(score_BHLR, at_BL)


# Layers


class RelativeAttention(nn.Module):
    """Attention by content, distance and segment (section 2.4; Dai et al. 2019, section 3.3)."""

    num_heads: int
    head_width: int
    width: int
    dropout: float
    kernel_init: nn.initializers.Initializer

    def setup(self):
        H, K = self.num_heads, self.head_width
        self.query = LinearHeadsIn(H, K, self.kernel_init)
        self.key = LinearHeadsIn(H, K, self.kernel_init)
        self.value = LinearHeadsIn(H, K, self.kernel_init)
        self.position = LinearHeadsIn(H, K, self.kernel_init)
        self.output = LinearHeadsOut(self.width, self.kernel_init)
        self.content_bias = self.param("content_bias", self.kernel_init, (H, K))
        self.position_bias = self.param("position_bias", self.kernel_init, (H, K))
        self.segment_bias = self.param("segment_bias", self.kernel_init, (H, K))
        self.segment_embedding = self.param("segment_embedding", self.kernel_init, (2, H, K))
        self.mix = WeightedSum(self.dropout)

    def project_keys_values(
        self, memory_BMD: jax.Array, table_RD: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return keys and values for both streams, k_BHMK and v_BHMK, and distances r_HRK."""
        return self.key(memory_BMD), self.value(memory_BMD), self.position(table_RD[None])[0]

    def attend(
        self,
        x_BLD: jax.Array,
        keys_values: tuple[jax.Array, jax.Array, jax.Array],
        view: View,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Return the attention output for the rows of one stream: x_BLD."""
        k_BHMK, v_BHMK, r_HRK = keys_values
        scale = self.head_width**-0.5
        q_BHLK = self.query(x_BLD)
        biased = lambda bias_HK: (q_BHLK + bias_HK[:, None]) * scale
        score_BHLM = product("BHLK,BHMK->BHLM", biased(self.content_bias), k_BHMK)
        # One copy per row: otherwise XLA on CPU has no bfloat16 product for the gradient.
        r_BHRK = jnp.broadcast_to(r_HRK, (len(x_BLD), *r_HRK.shape))
        score_BHLR = product("BHLK,BHRK->BHLR", biased(self.position_bias), r_BHRK)
        score_BHLM += by_key(score_BHLR, view.at_BL, k_BHMK.shape[2])
        if view.other_B1LM is not None:  # otherwise equal for all keys, without effect
            score_BHL2 = product(
                "BHLK,SHK->BHLS", biased(self.segment_bias), self.segment_embedding
            )
            score_BHLM += jnp.where(view.other_B1LM, score_BHL2[..., 1:], score_BHL2[..., :1])
        x_BHLK = self.mix(score_BHLM, v_BHMK, view.mask_B1LM, train=train)
        return self.output(x_BHLK)


class DroppingFeedForward(nn.Module):
    """Two dense layers with an activation and dropout between them: x_BLD -> x_BLD."""

    mlp_width: int
    width: int
    dropout: float
    activation: Activation
    kernel_init: nn.initializers.Initializer

    def setup(self):
        self.up = Dense(self.mlp_width, self.kernel_init)
        self.inner_dropout = Dropout(self.dropout)
        self.down = Dense(self.width, self.kernel_init)

    def __call__(self, x_BLD: jax.Array, *, train: bool = False) -> jax.Array:
        x_BLF = self.activation(self.up(x_BLD).astype(jnp.float32))
        return self.down(self.inner_dropout(x_BLF, train=train))


class Streams(NamedTuple):
    """The hidden states of the content stream, and of the query stream where there is one."""

    content_BLD: jax.Array
    query_BPD: jax.Array | None


class RelativeBlock(nn.Module):
    """A post-norm block with relative attention; both streams share its weights."""

    num_heads: int
    head_width: int
    width: int
    mlp_width: int
    dropout: float
    activation: Activation
    epsilon: float
    kernel_init: nn.initializers.Initializer

    def setup(self):
        self.attention = RelativeAttention(
            self.num_heads, self.head_width, self.width, self.dropout, self.kernel_init
        )
        self.attention_dropout = Dropout(self.dropout)
        self.attention_norm = Norm(self.epsilon)
        self.mlp = DroppingFeedForward(
            self.mlp_width, self.width, self.dropout, self.activation, self.kernel_init
        )
        self.mlp_dropout = Dropout(self.dropout)
        self.mlp_norm = Norm(self.epsilon)

    def __call__(
        self,
        streams: Streams,
        memory_BMD: jax.Array,
        table_RD: jax.Array,
        content: View,
        query: View | None,
        *,
        train: bool = False,
    ) -> Streams:
        x_BLD, query_BPD = streams
        keys_values = self.attention.project_keys_values(
            jnp.concatenate([memory_BMD, x_BLD], 1), table_RD
        )
        x_BLD = self._stream(x_BLD, keys_values, content, train=train)
        if query is not None:
            query_BPD = self._stream(query_BPD, keys_values, query, train=train)
        return Streams(x_BLD, query_BPD)

    def _stream(self, x_BLD, keys_values, view: View, *, train: bool):
        attended_BLD = self.attention.attend(x_BLD, keys_values, view, train=train)
        x_BLD = self.attention_norm(x_BLD + self.attention_dropout(attended_BLD, train=train))
        return self.mlp_norm(x_BLD + self.mlp_dropout(self.mlp(x_BLD, train=train), train=train))
