"""Dilated convolutions over time (van den Oord et al. 2016, https://arxiv.org/abs/1609.03499).

A filter of width K and dilation S reads K positions that are S apart: the last of them is its own
position if the convolution is causal, the middle one if it reads both directions. Positions before
or after a document, and padding, are zeros. Filters are stored as in PyTorch, the earliest position
first. Each filter position is one matrix product, which is faster on a CPU than a dilated
convolution of XLA, and can leave out other documents.

I width of the input  O width of the output  K width of a filter  C inputs of one output, K times I
S dilation  M length of a buffer
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers.linear import affine


def shifted(x_BLI: jax.Array, document_ids_BL: jax.Array | None, offset: int) -> jax.Array:
    """Return at each position the input `offset` positions later, zero outside of its document."""
    L = x_BLI.shape[1]
    if abs(offset) >= L:
        return jnp.zeros_like(x_BLI)
    move = lambda x: jnp.roll(x, -offset, 1)
    inside_L = (jnp.arange(L) + offset >= 0) & (jnp.arange(L) + offset < L)
    if document_ids_BL is None:
        return jnp.where(inside_L[:, None], move(x_BLI), 0)
    same_BL = (move(document_ids_BL) == document_ids_BL) & (document_ids_BL > 0)
    return jnp.where((inside_L & same_BL)[:, :, None], move(x_BLI), 0)


def past(width: int, dilation: int) -> tuple[int, ...]:
    """Return the offsets of a causal filter: its last position is the current one."""
    return tuple(range(-dilation * (width - 1), 1, dilation))


def both_sides(width: int, dilation: int) -> tuple[int, ...]:
    """Return the offsets of a filter of odd width whose middle is the current position."""
    side = dilation * (width // 2)
    return tuple(range(-side, side + 1, dilation))


class DilatedConvolution(nn.Module):
    """A dilated convolution, x_BLI -> x_BLO, with one filter position for each of `offsets`.

    A causal one also runs step by step: its buffer keeps the inputs that later steps read.
    """

    input_width: int
    width: int
    offsets: tuple[int, ...]
    kernel_init: nn.initializers.Initializer

    def setup(self):
        shape = (len(self.offsets), self.input_width, self.width)
        self.kernel = self.param("kernel", self.kernel_init, shape)
        self.bias = self.param("bias", nn.initializers.zeros, (self.width,))

    def __call__(self, x_BLI: jax.Array, document_ids_BL: jax.Array | None = None) -> jax.Array:
        shifts = [shifted(x_BLI, document_ids_BL, offset) for offset in self.offsets]
        return self._combine(jnp.concatenate(shifts, -1))

    def buffer(self, x_BLI: jax.Array, document_ids_BL: jax.Array) -> jax.Array:
        """Return the last inputs of a prompt, zeros for padding and before it: x_BMI."""
        x_BLI = jnp.where(document_ids_BL[:, :, None] > 0, x_BLI, 0)
        M, L = -self.offsets[0], x_BLI.shape[1]
        return jnp.pad(x_BLI, ((0, 0), (max(M - L, 0), 0), (0, 0)))[:, max(L - M, 0) :]

    def step(
        self, x_BI: jax.Array, buffer_BMI: jax.Array, steps: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Return the output for one more input, x_BO, and the updated buffer.

        The buffer is a ring: the input replaces the oldest one.

        Args:
          x_BI: The input.
          buffer_BMI: The inputs before it.
          steps: The number of steps since `buffer`.
        """
        M = buffer_BMI.shape[1]
        earlier = [
            jax.lax.dynamic_index_in_dim(buffer_BMI, (steps + offset) % M, 1, keepdims=False)
            for offset in self.offsets[:-1]
        ]
        x_BO = self._combine(jnp.concatenate([*earlier, x_BI], -1))
        return x_BO, jax.lax.dynamic_update_index_in_dim(buffer_BMI, x_BI, steps % M, 1)

    def _combine(self, x: jax.Array) -> jax.Array:
        """Return the output for the inputs at all filter positions, side by side: [..., C]."""
        return affine(x, self.kernel.reshape(-1, self.width)) + self.bias
