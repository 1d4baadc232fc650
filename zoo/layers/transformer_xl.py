"""Attention by distance, behind a memory (Dai et al. 2019, "Transformer-XL"), as XLNet has it.

https://arxiv.org/abs/1901.02860, sections 3.2 and 3.3. XLNet adds a score for whether two tokens
are of one segment, and rows that may stand anywhere, for its query stream.

B batch  L length  M memory and length  D width  H heads  K head width  R distances  P predictions
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers.attention import Mix
from zoo.layers.dropout import Dropout
from zoo.layers.feed_forward import gelu
from zoo.layers.linear import Dense, Kernel, into_heads, out_of_heads, product
from zoo.layers.norm import Norm


class Memory(NamedTuple):
    """What stands before the tokens: the input of each layer there, [B, M, D], and its
    documents_BM.

    A token sees the memory of its own document; 0 marks room that holds nothing.
    """

    inputs: tuple[jax.Array, ...]
    documents_BM: jax.Array


def lengthen(memory: Memory, read: Memory, reuse: int, length: int) -> Memory:
    """The memory of the next call: the first `reuse` positions just read join it, the last `length`
    stay.

    No gradient passes through it (section 2.5).
    """

    def join(old, new):
        both = jnp.concatenate([old, new[:, :reuse]], 1)
        return jax.lax.stop_gradient(both[:, max(0, both.shape[1] - length) :])

    return jax.tree.map(join, memory, read)


class View(NamedTuple):
    """What the rows of a stream may see, what of it is of another segment, and where they stand.

    No `at_BL` means that the first row stands at 0, the next at 1, and so on.
    """

    mask_B1LM: jax.Array
    other_B1LM: jax.Array | None
    at_BL: jax.Array | None


def views(segments_BL, documents_BL, blocked_BLL, at_BP, remembered):
    """What the content stream and the query stream may see.

    `remembered` holds the documents of the memory, which is of segment 0; M is memory and length.
    """
    L, behind = documents_BL.shape[1], remembered.shape[1]
    documents_BM = jnp.concatenate([remembered, documents_BL], 1)
    see_BLM = documents_BL[:, :, None] == documents_BM[:, None]
    see_BLM &= (documents_BM > 0)[:, None]
    other_B1LM = None
    if segments_BL is not None:
        segments_BM = jnp.pad(segments_BL, ((0, 0), (behind, 0)))
        other_B1LM = (segments_BL[:, :, None] != segments_BM[:, None])[:, None]
    if at_BP is None:
        return View(see_BLM[:, None], other_B1LM, None), None
    see_BLM &= ~jnp.pad(blocked_BLL, ((0, 0), (0, 0), (behind, 0)))
    pick = lambda rows: jnp.take_along_axis(rows, at_BP[:, None, :, None], 2)
    other_B1PM = None if other_B1LM is None else pick(other_B1LM)
    query = View(pick(see_BLM[:, None]), other_B1PM, at_BP)
    itself_LM = jnp.eye(L, behind + L, behind, dtype=bool)
    return View((see_BLM | itself_LM)[:, None], other_B1LM, None), query


def distances(L: int, M: int, width: int):
    """Sines, then cosines, of how far a key lies behind a query, from M down to 1 - L."""
    distance_R = jnp.arange(M, -L, -1, dtype=jnp.float32)
    rate = 10000.0 ** -(jnp.arange(0, width, 2, dtype=jnp.float32) / width)
    angle = distance_R[:, None] * rate
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)


def by_key(score_BHLR, at_BL, M: int):
    """Turns a score for every distance into one for every key: score_BHLM.

    The row at position i finds its first key at column R - M - i and the others behind it.
    """
    B, H, L, R = score_BHLR.shape
    if at_BL is None:  # every row starts one column earlier: without its first L, stride R - 1
        flat = score_BHLR.reshape(B, H, L * R)[:, :, L:]
        return flat.reshape(B, H, L, R - 1)[..., :M]
    window = lambda score_HR, i: jax.lax.dynamic_slice_in_dim(score_HR, R - M - i, M, 1)
    return jax.vmap(jax.vmap(window, (1, 0), 1))(score_BHLR, at_BL)


class RelativeAttention(nn.Module):
    """Attention by content, distance and segment (section 2.4; Dai et al. 2019, section 3.3)."""

    num_heads: int
    head_width: int
    width: int
    dropout: float
    kernel_init: Callable

    def setup(self):
        D, H, K = self.width, self.num_heads, self.head_width
        self.query = Kernel((D, H, K), self.kernel_init)
        self.key = Kernel((D, H, K), self.kernel_init)
        self.value = Kernel((D, H, K), self.kernel_init)
        self.position = Kernel((D, H, K), self.kernel_init)
        self.output = Kernel((H, K, D), self.kernel_init)
        self.content_bias = self.param("content_bias", self.kernel_init, (H, K))
        self.position_bias = self.param("position_bias", self.kernel_init, (H, K))
        self.segment_bias = self.param("segment_bias", self.kernel_init, (H, K))
        self.segment_embedding = self.param("segment_embedding", self.kernel_init, (2, H, K))
        self.mix = Mix(self.dropout)

    def remember(self, memory_BMD, table_RD):
        """What both streams look at: k_BHMK, v_BHMK, and r_HRK of the distances."""
        k_BHMK = into_heads(memory_BMD, self.key())
        v_BHMK = into_heads(memory_BMD, self.value())
        return k_BHMK, v_BHMK, into_heads(table_RD[None], self.position())[0]

    def look(self, x_BLD, k_BHMK, v_BHMK, r_HRK, view: View, *, train: bool = False):
        """What x finds there: x_BLD."""
        scale = self.head_width**-0.5
        q_BHLK = into_heads(x_BLD, self.query())
        biased = lambda bias_HK: (q_BHLK + bias_HK[:, None]) * scale
        score_BHLM = product("BHLK,BHMK->BHLM", biased(self.content_bias), k_BHMK)
        # One copy a row: without it XLA on CPU has no bfloat16 product for the gradient.
        r_BHRK = jnp.broadcast_to(r_HRK, (len(x_BLD), *r_HRK.shape))
        score_BHLR = product("BHLK,BHRK->BHLR", biased(self.position_bias), r_BHRK)
        score_BHLM += by_key(score_BHLR, view.at_BL, k_BHMK.shape[2])
        if view.other_B1LM is not None:  # else the same for every key: the softmax drops it
            score_BHL2 = product(
                "BHLK,SHK->BHLS", biased(self.segment_bias), self.segment_embedding
            )
            score_BHLM += jnp.where(view.other_B1LM, score_BHL2[..., 1:], score_BHL2[..., :1])
        x_BHLK = self.mix(score_BHLM, v_BHMK, view.mask_B1LM, train=train)
        return out_of_heads(x_BHLK, self.output())


class DroppingFeedForward(nn.Module):
    """Two maps, and dropout behind the bend between them too: x_BLD -> x_BLD."""

    mlp_width: int
    width: int
    dropout: float
    kernel_init: Callable

    def setup(self):
        self.up = Dense(self.mlp_width, self.kernel_init)
        self.inner_dropout = Dropout(self.dropout)
        self.down = Dense(self.width, self.kernel_init)

    def __call__(self, x_BLD, *, train: bool = False):
        return self.down(self.inner_dropout(gelu(self.up(x_BLD)), train=train))


class RelativeBlock(nn.Module):
    """Attend, add, normalise; feed forward, add, normalise: one set of weights for both streams."""

    num_heads: int
    head_width: int
    width: int
    mlp_width: int
    dropout: float
    epsilon: float
    kernel_init: Callable

    def setup(self):
        self.attention = RelativeAttention(
            self.num_heads, self.head_width, self.width, self.dropout, self.kernel_init
        )
        self.attention_dropout = Dropout(self.dropout)
        self.attention_norm = Norm(self.epsilon)
        self.mlp = DroppingFeedForward(self.mlp_width, self.width, self.dropout, self.kernel_init)
        self.mlp_dropout = Dropout(self.dropout)
        self.mlp_norm = Norm(self.epsilon)

    def remember(self, memory_BMD, table_RD):
        """What both streams look at."""
        return self.attention.remember(memory_BMD, table_RD)

    def __call__(self, x_BLD, remembered, view: View, *, train: bool = False):
        attended_BLD = self.attention.look(x_BLD, *remembered, view, train=train)
        x_BLD = self.attention_norm(x_BLD + self.attention_dropout(attended_BLD, train=train))
        return self.mlp_norm(x_BLD + self.mlp_dropout(self.mlp(x_BLD, train=train), train=train))
