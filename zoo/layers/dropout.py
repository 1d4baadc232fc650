"""Dropout with a cheap mask."""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn


def keep(key: chex.PRNGKey, rate: float, shape: Sequence[int]) -> jax.Array:
    """Return a mask, True with probability 1 - rate, from a hash of (key, position).

    Much cheaper than threefry on a CPU, and random enough for dropout: tests check its rate and its
    independence between positions, rows and keys.
    """
    words = jax.random.key_data(key).astype(jnp.uint32).reshape(-1)
    first = _scramble(words[0] ^ jnp.uint32(0x9E3779B9))
    second = _scramble(words[1] + first)
    x = jnp.zeros(shape, jnp.uint32) + first
    stride = 1
    for axis in reversed(range(len(shape))):
        x += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride % 2**32)
        stride *= shape[axis]
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D) + second
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    x = (x ^ (x >> 16)) * jnp.uint32(0x9E3779B1)
    return x >= jnp.uint32(round(rate * 2**32))


def _scramble(x):
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


class Dropout(nn.Module):
    """Dropout: in training, zeroes a fraction `rate` of the values and scales up the rest.

    The random stream is "dropout".
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        if not train or self.rate == 0:
            return x
        kept = keep(self.make_rng("dropout"), self.rate, x.shape)
        return jnp.where(kept, x / (1 - self.rate), 0)
