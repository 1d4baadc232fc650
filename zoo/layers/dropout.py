"""Dropout with a cheap mask, and its forms that share a mask between time steps or words.

B batch  L length  D width
"""

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
    place = jnp.zeros(shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(len(shape))):
        place += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride % 2**32)
        stride *= shape[axis]
    return keep_at(place, rate, seeds(key))


def seeds(key: chex.PRNGKey) -> tuple[jax.Array, jax.Array]:
    """Return the two words that the hash takes from a key: uint32."""
    words = jax.random.key_data(key).astype(jnp.uint32).reshape(-1)
    first = _scramble(words[0] ^ jnp.uint32(0x9E3779B9))
    return first, _scramble(words[1] + first)


def keep_at(place: jax.Array, rate: float, seeds: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Return the values of the mask of `keep` at some places, counted over the flattened array."""
    first, second = (x.astype(jnp.uint32) for x in seeds)
    x = place.astype(jnp.uint32) + first
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

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        if not train or self.rate == 0:
            return x
        kept = keep(self.key(), self.rate, x.shape)
        return jnp.where(kept, x / (1 - self.rate), 0)

    def key(self) -> chex.PRNGKey:
        """Return the key of the mask, for a kernel that makes the mask itself."""
        return self.make_rng("dropout")


class LockedDropout(nn.Module):
    """Dropout with one mask for all time steps of a row: x_BLD -> x_BLD.

    Gal and Ghahramani 2016, https://arxiv.org/abs/1512.05287, there called variational dropout.
    """

    rate: float

    @nn.compact
    def __call__(self, x_BLD: jax.Array, *, train: bool = False) -> jax.Array:
        if not train or self.rate == 0:
            return x_BLD
        B, _, D = x_BLD.shape
        kept_B1D = keep(self.make_rng("dropout"), self.rate, (B, 1, D))
        return jnp.where(kept_B1D, x_BLD / (1 - self.rate), 0)


class WordDropout(nn.Module):
    """Dropout of whole words: x_BLD -> x_BLD.

    The mask is over the rows of the embedding table, so a word is dropped or kept wherever it
    occurs in the batch (Gal and Ghahramani 2016, section 4.2).
    """

    rate: float
    vocab_size: int

    @nn.compact
    def __call__(self, x_BLD: jax.Array, tokens_BL: jax.Array, *, train: bool = False) -> jax.Array:
        if not train or self.rate == 0:
            return x_BLD
        kept_V = keep(self.make_rng("dropout"), self.rate, (self.vocab_size,))
        return jnp.where(kept_V[tokens_BL][..., None], x_BLD / (1 - self.rate), 0)
