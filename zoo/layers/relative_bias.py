"""Relative position bias: attention scores shifted by buckets of distance (T5).

Raffel et al. 2019, https://arxiv.org/abs/1910.10683, section 2.1. Each short distance has its
own bucket, longer distances share buckets, and each bucket adds a learned number to the scores of
each head. The distance is the position of the key minus that of the query.

R buckets
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from zoo.layers.embedding import lookup

Bucket = Callable[[jax.Array, int, int], jax.Array]  # such as `either_side`


def bucket(distance: jax.Array, num_buckets: int, max_distance: int) -> jax.Array:
    """Return the bucket of a distance >= 0: one distance per bucket in the first half, then ranges.

    All distances from `max_distance` on are in the last bucket. The logarithms are computed with
    NumPy, because powers of two are bucket boundaries, and an accelerator's rounding may miss them.
    """
    exact = num_buckets // 2
    distances = np.arange(max_distance + 1)
    fraction = np.log(np.maximum(distances, 1) / exact) / np.log(max_distance / exact)
    range_bucket = np.minimum(
        exact + (fraction * (num_buckets - exact)).astype(np.int32), num_buckets - 1
    )
    return jnp.asarray(np.where(distances < exact, distances, range_bucket))[
        jnp.minimum(distance, max_distance)
    ]


def either_side(distance: jax.Array, num_buckets: int, max_distance: int) -> jax.Array:
    """Return the bucket for an encoder: half for keys up to the query, half for later keys."""
    half = num_buckets // 2
    return bucket(jnp.abs(distance), half, max_distance) + jnp.where(distance > 0, half, 0)


def the_past(distance: jax.Array, num_buckets: int, max_distance: int) -> jax.Array:
    """Return the bucket for a decoder: all are for keys up to the query."""
    return bucket(jnp.maximum(-distance, 0), num_buckets, max_distance)


class DistanceBias(nn.Module):
    """The relative position bias: positions of queries and keys -> bias_HLM.

    `side` returns the bucket of a distance.
    """

    num_heads: int
    num_buckets: int
    max_distance: int
    table_init: nn.initializers.Initializer
    side: Bucket

    @nn.compact
    def __call__(self, queries_L: jax.Array, keys_M: jax.Array) -> jax.Array:
        table_RH = self.param("table", self.table_init, (self.num_buckets, self.num_heads))
        distance_LM = keys_M - queries_L[:, None]
        bucket_LM = self.side(distance_LM, self.num_buckets, self.max_distance)
        return jnp.moveaxis(lookup(table_RH, bucket_LM), -1, 0)
