"""Transformer blocks: post-norm (Vaswani et al. 2017; BERT) and pre-norm (GPT-2)."""

from collections.abc import Callable

import jax
from flax import linen as nn

from zoo.layers.attention import Attention
from zoo.layers.dropout import Dropout
from zoo.layers.feed_forward import FeedForward
from zoo.layers.norm import Norm


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
