"""Tables of vectors: embedding lookup, and the vocabulary head before its product."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers.linear import product


class Embedding(nn.Module):
    """A table of vectors: ids_BL -> x_BLD in float32.

    An id outside the table gives NaN, never a neighbour.
    """

    num_embeddings: int
    width: int
    embedding_init: Callable

    def setup(self):
        self.embedding = self.param(
            "embedding", self.embedding_init, (self.num_embeddings, self.width)
        )

    def __call__(self, ids_BL):
        return lookup(self.embedding, ids_BL)


@jax.custom_vjp
def lookup(table_VD, ids):
    """Rows of a table in float32, whose gradient adds up in float32 whatever the table's type."""
    return jnp.take(table_VD, ids, axis=0, mode="fill").astype(jnp.float32)


def _lookup_forward(table_VD, ids):
    return lookup(table_VD, ids), (jnp.empty_like(table_VD, shape=(table_VD.shape[0], 0)), ids)


def _lookup_backward(saved, gradient):
    like, ids = saved
    table_VD = jnp.zeros((like.shape[0], gradient.shape[-1]), jnp.float32)
    return table_VD.at[ids].add(gradient).astype(like.dtype), None


lookup.defvjp(_lookup_forward, _lookup_backward)


class Scores(NamedTuple):
    """A vocabulary head before its product, so that a loss may take it in chunks."""

    x_BLD: jax.Array
    table_VD: jax.Array
    bias_V: jax.Array | float

    def logits(self):
        """The scores of every word of the vocabulary: logits_BLV, float32."""
        return product("BLD,VD->BLV", self.x_BLD, self.table_VD) + self.bias_V
