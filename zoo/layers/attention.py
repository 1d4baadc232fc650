"""Attention and the blocks around it: masks, scores, the mix, post-norm and pre-norm.

Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, and what GPT-2 made of its blocks.

B batch  L length  M memory  D width  H heads  K head width
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers.dropout import Dropout
from zoo.layers.linear import Heads, Merge, product

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
