"""word2vec (Mikolov et al. 2013): one vector per word, learned from the words around it.

https://arxiv.org/abs/1301.3781, https://arxiv.org/abs/1310.4546
New against the fixed-window language model: no hidden layer, and no softmax over the vocabulary.
The skip-gram model predicts the words around a word from its vector, and CBOW (continuous bag of
words) predicts a word from the mean of the vectors around it. Training replaces the softmax by
negative sampling, which separates a word from words drawn at random, or by a hierarchical softmax,
in which a word is a path through a binary tree (section 2 of the second paper).

Departures: an input is the vector of the word in the middle, as in the paper; the released program
exchanges the two words of a pair, which gives the same pairs. Negative samples are shared, see
train/objectives/word_vectors.py.

B batch  L length  K outputs  C words of a context  V vocabulary  D width
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers import heads, recurrent, taggers, word_vectors
from zoo.layers.embedding import lookup
from zoo.layers.linear import Dense
from zoo.layers.word_vectors import WordVectors


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config of word vectors; the defaults are those of the vectors of Google News.

    `max_length` is required by the trainer; the model itself works at any length.
    """

    vocab_size: int = 3_000_000
    max_length: int = 1 << 30
    num_layers: int = 0
    width: int = 300
    dropout: float = 0.0
    labels: tuple[str, ...] = heads.LABELS
    tagger_width: int = 256
    tagger_dropout: float = 0.5
    letters: int = 0  # the number of features of letters in a tagger


SIZES = {
    "skip-gram-tiny": Config(vocab_size=20_000, width=100),  # 4,000,000
    "word2vec-tiny": Config(vocab_size=20_000, width=100),  # 4,000,000
    "word2vec-text8": Config(vocab_size=71_291, width=200),  # 28,516,400
    "word2vec-google-news": Config(),  # 1,800,000,000
}


class Word2Vec(WordVectors):
    """The vectors alone, as files have them: tokens_BL -> x_BLD."""


class SkipGram(Word2Vec):
    """The vectors, and those of the words as outputs, or of the inner nodes of the tree.

    A tree of V words has V - 1 inner nodes, so the last output is not used then.
    """

    def setup(self):
        super().setup()
        c = self.config
        self.outputs = self.param("outputs", nn.initializers.zeros, (c.vocab_size, c.width))

    def logits(self, words_B: jax.Array, outputs_BK: jax.Array) -> jax.Array:
        """Return the logits of outputs given a word: logits_BK (second paper, equation 4)."""
        x_BD, y_BKD = lookup(self.words, words_B), lookup(self.outputs, outputs_BK)
        return jnp.einsum("BD,BKD->BK", x_BD, y_BKD)


class CBOW(SkipGram):
    """The same tables; the mean of the vectors of a context predicts the word in its middle."""

    def logits(self, context_BC: jax.Array, outputs_BK: jax.Array) -> jax.Array:
        """Return the logits of outputs given the words of a context: logits_BK."""
        x_BD, y_BKD = lookup(self.words, context_BC).mean(1), lookup(self.outputs, outputs_BK)
        return jnp.einsum("BD,BKD->BK", x_BD, y_BKD)


class Word2VecTagger(taggers.WordTagger):
    """Tagger of words, on their vectors."""

    trunk_class = Word2Vec


class Word2VecClassifier(heads.OnTrunk):
    """Classifier of a text as a bag of vectors: one dense layer on their mean."""

    config: Config
    trunk_class = Word2Vec

    def setup(self):
        super().setup()
        self.classes = Dense(self.num_outputs, heads.INIT)

    def pool(self, x_BLD: jax.Array, document_ids_BL: jax.Array | None) -> jax.Array:
        """Return the mean of the vectors of a text: x_BD."""
        return heads.mean(x_BLD, document_ids_BL)

    def head(self, x_BD: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the logits of the classes: logits_BC."""
        return self.classes(x_BD)


Model = SkipGram
MODELS = (SkipGram, CBOW, Word2Vec)
Word2VecCRFTagger = taggers.crf_tagger(Word2VecTagger)
Word2VecMultiLabel = heads.multi_label(Word2VecClassifier)
TASKS: dict[str, type[nn.Module]] = {
    "classification": Word2VecClassifier,
    "multi-label": Word2VecMultiLabel,
    "tagging": Word2VecTagger,
    "crf-tagging": Word2VecCRFTagger,
}
GROUPS = (r"(?:^|/)words$", "")
AXES = (*word_vectors.AXES, *recurrent.AXES)
