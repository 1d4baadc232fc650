"""GloVe (Pennington et al. 2014), "Global Vectors for Word Representation".

https://nlp.stanford.edu/pubs/glove.pdf
New against word2vec: the text is counted first. Two words that occur near each other X times, each
time weighted by one over their distance, have vectors whose dot product, with a bias for each,
approximates ln X (equation 7). The vectors of a word as the first and as the second of a pair play
the same role, so their sum is the vector of the word (section 4.2).

B batch  L length  N pairs  V vocabulary  D width
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from zoo.layers import word_vectors
from zoo.layers.embedding import lookup
from zoo.layers.word_vectors import WordVectors, centred


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config of GloVe; the defaults are those of the vectors of 6 billion words.

    `max_length` is required by the trainer; the model itself works at any length.
    """

    vocab_size: int = 400_000
    max_length: int = 1 << 30
    num_layers: int = 0
    width: int = 300
    dropout: float = 0.0


SIZES = {
    "glove-tiny": Config(vocab_size=20_000, width=100),  # 4,040,000
    "glove-6b-50": Config(width=50),  # 40,800,000
    "glove-6b-100": Config(width=100),  # 80,800,000
    "glove-6b-200": Config(width=200),  # 160,800,000
    "glove-6b-300": Config(),  # 240,800,000
    "glove-42b-300": Config(vocab_size=1_917_494),  # 1,154,331,388
    "glove-840b-300": Config(vocab_size=2_196_017),  # 1,322,002,234
}


class GloVe(WordVectors):
    """The vectors alone, as files have them: tokens_BL -> x_BLD."""


class GloVePretraining(GloVe):
    """A vector and a bias for each word as the first, and as the second of a pair."""

    def setup(self):
        super().setup()
        V, D = self.config.vocab_size, self.config.width
        self.contexts = self.param("contexts", centred, (V, D))
        # One column, for the bias of a row; drawn as if it were a component of the vector.
        bias = lambda key, shape: centred(key, (V, D))[:, :1]
        self.word_bias = self.param("word_bias", bias, (V, 1))
        self.context_bias = self.param("context_bias", bias, (V, 1))

    def __call__(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        return lookup(self.words, tokens_BL) + lookup(self.contexts, tokens_BL)

    def log_counts(self, words_N: jax.Array, contexts_N: jax.Array) -> jax.Array:
        """Return the approximation of ln X of pairs (equation 7): x_N."""
        x_ND, y_ND = lookup(self.words, words_N), lookup(self.contexts, contexts_N)
        biases_N1 = lookup(self.word_bias, words_N) + lookup(self.context_bias, contexts_N)
        return (x_ND * y_ND).sum(-1) + biases_N1[:, 0]

    def word_vectors(self, params: Any, words: Sequence[str], ids_N: np.ndarray) -> np.ndarray:
        """Return the vectors of words of the vocabulary, the sums of both: x_ND."""
        return np.asarray(params["words"][ids_N]) + np.asarray(params["contexts"][ids_N])


Model = GloVePretraining
MODELS = (GloVePretraining, GloVe)
TASKS: dict[str, type[nn.Module]] = {}
GROUPS = ("",)
AXES = word_vectors.AXES
