"""fastText (Bojanowski et al. 2017), "Enriching Word Vectors with Subword Information".

https://arxiv.org/abs/1607.04606; as a classifier, Joulin et al. 2017: https://arxiv.org/abs/1607.01759
New against word2vec: the vector of a word is the mean of a vector for the word and one for each of
its character n-grams, so a word that was never seen has a vector too. N-grams share a fixed number
of rows by their hashes. The classifier is a linear model of the mean of all rows of a text, to
which the n-grams of its words may belong.

Departures: the paper sums the rows, the released program and its files use their mean; the token
between lines is not a word of a context.

B batch  R rows of a word or text, -1 is padding  K outputs  V vocabulary  D width  C classes
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from zoo.layers import word_vectors
from zoo.layers.embedding import lookup
from zoo.tokenizers import subwords

CHUNK = 1 << 14  # words whose vectors are composed at a time


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config of fastText; the defaults are those of the vectors of 157 languages.

    `max_length` is required by the trainer; the model itself works at any length. `buckets` is the
    number of rows of n-grams, `min_n` and `max_n` the number of their characters, and `word_ngrams`
    the most words of an n-gram of words. `labels` are those of a classifier, and `loss` a name in
    LOSSES, which decides how its outputs become probabilities.
    """

    vocab_size: int = 2_000_000
    max_length: int = 1 << 30
    num_layers: int = 0
    width: int = 300
    dropout: float = 0.0
    buckets: int = 2_000_000
    min_n: int = 5
    max_n: int = 5
    word_ngrams: int = 1
    labels: tuple[str, ...] = ()
    loss: str = "negative-sampling"


LOSSES = ("softmax", "negative-sampling", "hierarchical-softmax", "one-vs-all")
SIZES = {
    "fasttext-tiny": Config(  # 9,020,000
        vocab_size=20_000, width=100, buckets=50_000, min_n=3, max_n=6
    ),
    "fasttext-wiki": Config(vocab_size=2_519_370, min_n=3, max_n=6),  # 2,114,141,370
    "fasttext-crawl": Config(),  # 1,802,000,000
}


def within_width(key: jax.Array, shape: tuple[int, int], dtype=jnp.float32) -> jax.Array:
    """Draw initial rows: uniform on (-1/D, 1/D)."""
    return jax.random.uniform(key, shape, dtype, -1, 1) / shape[-1]


class FastText(nn.Module):
    """Rows of words and n-grams, and outputs: the vector of each word, rows_BR -> x_BD.

    `counts` has how often each word occurred in the text, which files store.
    """

    config: Config

    @property
    def num_outputs(self) -> int:
        """The number of words that are predicted."""
        return self.config.vocab_size

    def setup(self):
        c = self.config
        self.rows = self.param("rows", within_width, (c.vocab_size + c.buckets, c.width))
        self.outputs = self.param("outputs", nn.initializers.zeros, (self.num_outputs, c.width))
        zeros = lambda key, shape: jnp.zeros(shape, jnp.int32)
        self.counts = self.param("counts", zeros, (c.vocab_size,))

    def __call__(self, rows_BR: jax.Array) -> jax.Array:
        is_row_BR1 = (rows_BR >= 0)[..., None]
        x_BRD = jnp.where(is_row_BR1, lookup(self.rows, jnp.maximum(rows_BR, 0)), 0)
        return x_BRD.sum(1) / jnp.maximum(is_row_BR1.sum(1), 1)

    def logits(self, rows_BR: jax.Array, outputs_BK: jax.Array) -> jax.Array:
        """Return the logits of words as outputs given a word: logits_BK."""
        return jnp.einsum("BD,BKD->BK", self(rows_BR), lookup(self.outputs, outputs_BK))

    def word_vectors(self, params: Any, words: Sequence[str], ids_N: np.ndarray) -> np.ndarray:
        """Return the vectors of any words, given their ids in the vocabulary, or -1: x_ND.

        A word without a row, which is too short for an n-gram, has the vector 0.
        """
        c, table_RD = self.config, np.asarray(params["rows"])
        x_ND = np.zeros((len(words), c.width), np.float32)
        for start in range(0, len(words), CHUNK):
            part = slice(start, start + CHUNK)
            first, rows = subwords.word_rows(
                words[part], ids_N[part], c.vocab_size, c.buckets, c.min_n, c.max_n
            )
            sizes = np.diff(first)
            some = np.flatnonzero(sizes)
            if len(some):
                sums_ND = np.add.reduceat(table_RD[rows], first[some], axis=0)
                x_ND[start + some] = sums_ND / sizes[some, None]
        return x_ND


class FastTextClassifier(FastText):
    """Classifier of texts, which are the rows of all their words and n-grams.

    `label_counts` has how often each label occurred, by which a hierarchical softmax builds its
    tree.
    """

    @property
    def num_outputs(self) -> int:
        """The number of labels."""
        return len(self.config.labels)

    def setup(self):
        super().setup()
        zeros = lambda key, shape: jnp.zeros(shape, jnp.int32)
        self.label_counts = self.param("label_counts", zeros, (self.num_outputs,))

    def classes(self, rows_BR: jax.Array) -> jax.Array:
        """Return the logits of the labels, or of the inner nodes of the tree: logits_BC."""
        return jnp.einsum("BD,CD->BC", self(rows_BR), self.outputs)


Model = FastText
MODELS = (FastText, FastTextClassifier)
TASKS: dict[str, type[nn.Module]] = {}
GROUPS = ("",)
AXES = word_vectors.AXES
