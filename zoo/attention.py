"""Attention and the blocks around it: masks, scores, the mix, post-norm and pre-norm.

Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, and what GPT-2 made of its blocks.

B batch  L length  M memory  D width  H heads  K head width
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers import Dropout, FeedForward, Heads, Merge, Norm, product

# Masks and positions. True means "may look". `documents` numbers the document of each token from 1;
# 0 is padding.


def causal(length: int):
    """No position sees a later one: mask_11LM."""
    return jnp.tri(length, dtype=bool)[None, None]


def same_document(documents_BL):
    """A token sees the real tokens of its own document: mask_B1LM."""
    same_BLM = documents_BL[:, :, None] == documents_BL[:, None, :]
    return (same_BLM & (documents_BL > 0)[:, None, :])[:, None]


def positions(documents_BL):
    """The place of each token in its own document, from 0, padding not counted: int32 [B, L]."""
    before_B1LM = same_document(documents_BL) & causal(documents_BL.shape[1])
    return jnp.maximum(before_B1LM[:, 0].sum(-1, dtype=jnp.int32) - 1, 0)


# Attention is a score (how well does a query fit a key) and a mix (mask, softmax, weighted sum).
# Papers differ in the score and share the mix.


def scaled_dot(q_BHLK, k_BHMK):
    """Query times key over the root of the head width (Vaswani et al. 2017, equation 1)."""
    return product("BHLK,BHMK->BHLM", q_BHLK * q_BHLK.shape[-1] ** -0.5, k_BHMK)


class Mix(nn.Module):
    """Mask, softmax in float32, dropout, weighted sum: score_BHLM, v_BHMK -> x_BHLK.

    The weights are sown as "attention" for whoever collects "intermediates". A row that may look
    nowhere looks everywhere, evenly: finite, and of no use to anyone.
    """

    dropout: float

    @nn.compact
    def __call__(self, score_BHLM, v_BHMK, mask, *, train: bool = False):
        if mask is not None:
            score_BHLM = jnp.where(mask, score_BHLM, -1e30)
        weight_BHLM = jax.nn.softmax(score_BHLM)
        self.sow("intermediates", "attention", weight_BHLM)
        weight_BHLM = Dropout(self.dropout)(weight_BHLM, train=train)
        return product("BHLM,BHMK->BHLK", weight_BHLM, v_BHMK)


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2): x looks at the memory it may see."""

    num_heads: int
    head_width: int
    width: int
    dropout: float
    kernel_init: Callable
    output_init: Callable

    def setup(self):
        self.query = Heads(self.num_heads, self.head_width, self.kernel_init)
        self.key = Heads(self.num_heads, self.head_width, self.kernel_init)
        self.value = Heads(self.num_heads, self.head_width, self.kernel_init)
        self.mix = Mix(self.dropout)
        self.output = Merge(self.width, self.output_init)

    def remember(self, memory_BMD):
        """What there is to look at: k_BHMK, v_BHMK."""
        return self.key(memory_BMD), self.value(memory_BMD)

    def look(self, x_BLD, k_BHMK, v_BHMK, mask, *, train: bool = False):
        """What x finds there: x_BLD. The mask broadcasts to [B, H, L, M]."""
        score_BHLM = scaled_dot(self.query(x_BLD), k_BHMK)
        return self.output(self.mix(score_BHLM, v_BHMK, mask, train=train))

    def __call__(self, x_BLD, memory_BMD, mask, *, train: bool = False):
        return self.look(x_BLD, *self.remember(memory_BMD), mask, train=train)


# Blocks


class PostNormBlock(nn.Module):
    """Attend, add, normalise; feed forward, add, normalise (Vaswani et al. 2017; BERT)."""

    num_heads: int
    head_width: int
    width: int
    mlp_width: int
    dropout: float
    activation: Callable
    epsilon: float
    kernel_init: Callable

    def setup(self):
        self.attention = Attention(
            self.num_heads,
            self.head_width,
            self.width,
            self.dropout,
            self.kernel_init,
            self.kernel_init,
        )
        self.attention_dropout = Dropout(self.dropout)
        self.attention_norm = Norm(self.epsilon)
        self.mlp = FeedForward(
            self.mlp_width, self.width, self.activation, self.kernel_init, self.kernel_init
        )
        self.mlp_dropout = Dropout(self.dropout)
        self.mlp_norm = Norm(self.epsilon)

    def __call__(self, x_BLD, mask, *, train: bool = False):
        attended_BLD = self.attention(x_BLD, x_BLD, mask, train=train)
        x_BLD = self.attention_norm(x_BLD + self.attention_dropout(attended_BLD, train=train))
        return self.mlp_norm(x_BLD + self.mlp_dropout(self.mlp(x_BLD), train=train))


class PreNormBlock(nn.Module):
    """Normalise, attend, add; normalise, feed forward, add (GPT-2).

    `output_init` draws the two maps that write into the residual stream.
    """

    num_heads: int
    head_width: int
    width: int
    mlp_width: int
    dropout: float
    activation: Callable
    epsilon: float
    kernel_init: Callable
    output_init: Callable

    def setup(self):
        self.attention_norm = Norm(self.epsilon)
        self.attention = Attention(
            self.num_heads,
            self.head_width,
            self.width,
            self.dropout,
            self.kernel_init,
            self.output_init,
        )
        self.attention_dropout = Dropout(self.dropout)
        self.mlp_norm = Norm(self.epsilon)
        self.mlp = FeedForward(
            self.mlp_width, self.width, self.activation, self.kernel_init, self.output_init
        )
        self.mlp_dropout = Dropout(self.dropout)

    def __call__(self, x_BLD, mask, *, train: bool = False):
        normed_BLD = self.attention_norm(x_BLD)
        attended_BLD = self.attention(normed_BLD, normed_BLD, mask, train=train)
        return self._feed_forward(x_BLD, attended_BLD, train=train)

    def extend(self, x_BLD, k_BHMK, v_BHMK, at, mask):
        """The same for tokens behind a memory: x_BLD, and the memory with them from `at` on."""
        normed_BLD = self.attention_norm(x_BLD)
        k_BHLK, v_BHLK = self.attention.remember(normed_BLD)
        k_BHMK = jax.lax.dynamic_update_slice_in_dim(k_BHMK, k_BHLK, at, 2)
        v_BHMK = jax.lax.dynamic_update_slice_in_dim(v_BHMK, v_BHLK, at, 2)
        attended_BLD = self.attention.look(normed_BLD, k_BHMK, v_BHMK, mask)
        return self._feed_forward(x_BLD, attended_BLD, train=False), k_BHMK, v_BHMK

    def _feed_forward(self, x_BLD, attended_BLD, *, train: bool):
        x_BLD = x_BLD + self.attention_dropout(attended_BLD, train=train)
        return x_BLD + self.mlp_dropout(self.mlp(self.mlp_norm(x_BLD)), train=train)
