"""Embedding lookup, and the vocabulary head before its product."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from zoo.layers.linear import product


class Embedding(nn.Module):
    """An embedding table: ids_BL -> x_BLD in float32.

    An id outside the table is an error outside jit, where ids have values. In a compiled program it
    gives NaN, never the vector of another id.
    """

    num_embeddings: int
    width: int
    embedding_init: nn.initializers.Initializer

    def setup(self):
        self.embedding = self.param(
            "embedding", self.embedding_init, (self.num_embeddings, self.width)
        )

    def __call__(self, ids_BL: jax.Array) -> jax.Array:
        if not isinstance(ids_BL, jax.core.Tracer):
            _check_ids(np.asarray(ids_BL), self.num_embeddings)
        return lookup(self.embedding, ids_BL)


def _check_ids(ids: np.ndarray, size: int) -> None:
    invalid = ids[(ids < 0) | (ids >= size)]
    if len(invalid):
        raise ValueError(
            f"id {invalid[0]} is outside the embedding table of {size} rows: use the tokenizer of "
            "this model"
        )


@jax.custom_vjp
def lookup(table_VD: jax.Array, ids: jax.Array) -> jax.Array:
    """Return rows of a table in float32; the gradient accumulates in float32 for any dtype."""
    rows = jnp.asarray(table_VD).at[ids].get(mode="fill", wrap_negative_indices=False)
    return rows.astype(jnp.float32)


def _lookup_forward(table_VD, ids):
    return lookup(table_VD, ids), (jnp.empty_like(table_VD, shape=(table_VD.shape[0], 0)), ids)


def _lookup_backward(saved, gradient):
    like, ids = saved
    table_VD = jnp.zeros((like.shape[0], gradient.shape[-1]), jnp.float32)
    return table_VD.at[ids].add(gradient).astype(like.dtype), None


lookup.defvjp(_lookup_forward, _lookup_backward)


class UnprojectedLogits(NamedTuple):
    """The inputs of the vocabulary product, so that a loss can compute it in chunks."""

    x_BLD: jax.Array
    table_VD: jax.Array
    bias_V: jax.Array | float

    def logits(self) -> jax.Array:
        """Return the logits of the whole vocabulary: logits_BLV, float32."""
        return product("BLD,VD->BLV", self.x_BLD, self.table_VD) + self.bias_V


class TiedTable(nn.Module):
    """The table of a vocabulary head that uses the token embedding again: it has no parameters."""

    vocab_size: int
    width: int
    embedding_init: nn.initializers.Initializer

    def __call__(self, embedding_VD: jax.Array) -> jax.Array:
        """Return the token embedding: table_VD."""
        return embedding_VD


class UntiedTable(nn.Module):
    """The table of a vocabulary head that has one of its own."""

    vocab_size: int
    width: int
    embedding_init: nn.initializers.Initializer

    def setup(self):
        self.embedding = self.param("embedding", self.embedding_init, (self.vocab_size, self.width))

    def __call__(self, embedding_VD: jax.Array) -> jax.Array:
        """Return the head's own table, whatever the token embedding is: table_VD."""
        return self.embedding


OUTPUT_TABLES: dict[str, type[TiedTable] | type[UntiedTable]] = {
    "tied": TiedTable,
    "untied": UntiedTable,
}
