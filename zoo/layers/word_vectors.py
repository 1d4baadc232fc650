"""A table of one vector per word, which is all that a static embedding has."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from zoo.layers.embedding import lookup

AXES = ((r"(words|outputs|contexts|rows)$", ("tensor", "fsdp")), (r"bias$", ("tensor", None)))


def centred(key: jax.Array, shape: tuple[int, int], dtype=jnp.float32) -> jax.Array:
    """Draw initial vectors as word2vec and GloVe do: uniform on (-1/2, 1/2), divided by D."""
    return jax.random.uniform(key, shape, dtype, -0.5, 0.5) / shape[-1]


class WordVectors(nn.Module):
    """One vector per word: tokens_BL -> x_BLD."""

    config: Any

    def setup(self):
        c = self.config
        self.words = self.param("words", centred, (c.vocab_size, c.width))

    def __call__(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        return lookup(self.words, tokens_BL)

    def read(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None,
        document_ids_BL: jax.Array | None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Return x_BLD for a task head: the vector of each word, whatever stands beside it."""
        return self(tokens_BL)

    def word_vectors(self, params: Any, words: Sequence[str], ids_N: np.ndarray) -> np.ndarray:
        """Return the vectors of words of the vocabulary, given their ids: x_ND."""
        return np.asarray(params["words"][ids_N])
