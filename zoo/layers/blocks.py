"""Transformer blocks, post-norm and pre-norm, and the functions that run a trunk's blocks."""

from collections.abc import Sequence
from typing import ClassVar

import chex
import jax
from flax import linen as nn

from zoo.layers import stack
from zoo.layers.attention import Attention, KeysValues, append
from zoo.layers.dropout import Dropout
from zoo.layers.feed_forward import Activation, FeedForward
from zoo.layers.mask import Mask
from zoo.layers.norm import Norm

# Running blocks


def run_blocks(
    trunk: nn.Module,
    blocks: Sequence[nn.Module],
    x: chex.ArrayTree,
    *inputs: chex.ArrayTree,
    per_block: Sequence[chex.ArrayTree] | None = None,
    name: str = "hidden_states",
    train: bool = False,
) -> tuple[chex.ArrayTree, ...]:
    """Return the hidden states of a trunk's blocks, each run on the output of the one before.

    Every trunk runs its blocks through here or through `extend_blocks`. Whether they are a loop in
    the compiled program, and what the backward pass computes again, is decided by their number and
    by the current `execution`; the parameters are those of single blocks in any case.

    Args:
      trunk: The module that has the blocks. The hidden states are sown into its "intermediates",
        which costs nothing unless that collection is mutable.
      blocks: Called as block(x, *inputs, train=train); a block may occur more than once.
      x: The input of the first block, an array or a pytree.
      inputs: Further inputs, the same for every block.
      per_block: One further input for each block, passed between x and the others.
      name: The name the hidden states are sown under, for a trunk with two stacks of blocks.
      train: Passed to the blocks.

    Returns:
      x itself, then the output of each block; the last is the output of the stack.
    """
    own = [()] * len(blocks) if per_block is None else [(one,) for one in per_block]
    if trunk.is_initializing() or trunk.is_mutable_collection("intermediates"):
        hidden_states = [x]  # blocks that write variables are called as they are
        for block, mine in zip(blocks, own, strict=True):
            hidden_states.append(block(hidden_states[-1], *mine, *inputs, train=train))
    else:
        hidden_states = stack.run(blocks, x, own, inputs, train=train)
    for state in hidden_states:
        trunk.sow("intermediates", name, state)
    return tuple(hidden_states)


def extend_blocks(
    blocks: Sequence[nn.Module],
    x: chex.ArrayTree,
    caches: Sequence[chex.ArrayTree],
    *inputs: chex.ArrayTree,
    per_block: Sequence[chex.ArrayTree] | None = None,
) -> tuple[chex.ArrayTree, tuple[chex.ArrayTree, ...]]:
    """Return the output of blocks for tokens after their caches, and the new caches.

    The counterpart of `run_blocks` for decoding. It calls block.extend(x, cache, *inputs), which
    returns x and the cache extended by the new tokens. `per_block` has one further input for each
    block, passed between the cache and the others.
    """
    after = []
    for number, (block, cache) in enumerate(zip(blocks, caches, strict=True)):
        own = () if per_block is None else (per_block[number],)
        x, cache = block.extend(x, cache, *own, *inputs)
        after.append(cache)
    return x, tuple(after)


# Blocks


class PostNormBlock(nn.Module):
    """A post-norm block: attend, add, normalize; feed forward, add, normalize (BERT)."""

    num_heads: int
    head_width: int
    width: int
    mlp_width: int
    dropout: float
    activation: Activation
    epsilon: float
    kernel_init: nn.initializers.Initializer

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

    def __call__(self, x_BLD: jax.Array, mask: Mask, *, train: bool = False) -> jax.Array:
        attended_BLD = self.attention(x_BLD, x_BLD, mask, train=train)
        return self._feed_forward(x_BLD, attended_BLD, train=train)

    def extend(
        self, x_BLD: jax.Array, cached: KeysValues, mask: Mask
    ) -> tuple[jax.Array, KeysValues]:
        """Return x_BLD for tokens after a cache, and the cache extended at the mask's offset."""
        new = self.attention.project_keys_values(x_BLD)
        cached = append(cached, new, mask.query_offset)
        attended_BLD = self.attention.attend(x_BLD, cached, mask)
        return self._feed_forward(x_BLD, attended_BLD, train=False), cached

    def _feed_forward(self, x_BLD, attended_BLD, *, train: bool):
        x_BLD = self.attention_norm(x_BLD + self.attention_dropout(attended_BLD, train=train))
        return self.mlp_norm(x_BLD + self.mlp_dropout(self.mlp(x_BLD), train=train))


class PreNormBlock(nn.Module):
    """A pre-norm block: normalize, attend, add; normalize, feed forward, add (GPT-2).

    `output_init` initializes the two layers that write to the residual stream. A subclass may have
    another `attention_class` with the same fields.
    """

    attention_class: ClassVar[type[Attention]] = Attention
    num_heads: int
    head_width: int
    width: int
    mlp_width: int
    dropout: float
    activation: Activation
    epsilon: float
    kernel_init: nn.initializers.Initializer
    output_init: nn.initializers.Initializer

    def setup(self):
        self.attention_norm = Norm(self.epsilon)
        self.attention = self.attention_class(
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

    def __call__(self, x_BLD: jax.Array, mask: Mask, *, train: bool = False) -> jax.Array:
        normed_BLD = self.attention_norm(x_BLD)
        attended_BLD = self.attention(normed_BLD, normed_BLD, mask, train=train)
        return self._feed_forward(x_BLD, attended_BLD, train=train)

    def extend(
        self, x_BLD: jax.Array, cached: KeysValues, mask: Mask
    ) -> tuple[jax.Array, KeysValues]:
        """Return x_BLD for tokens after a cache, and the cache extended at the mask's offset."""
        normed_BLD = self.attention_norm(x_BLD)
        new = self.attention.project_keys_values(normed_BLD)
        cached = append(cached, new, mask.query_offset)
        attended_BLD = self.attention.attend(normed_BLD, cached, mask)
        return self._feed_forward(x_BLD, attended_BLD, train=False), cached

    def _feed_forward(self, x_BLD, attended_BLD, *, train: bool):
        x_BLD = x_BLD + self.attention_dropout(attended_BLD, train=train)
        return x_BLD + self.mlp_dropout(self.mlp(self.mlp_norm(x_BLD)), train=train)
