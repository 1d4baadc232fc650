"""Taggers of words on frozen vectors: a bidirectional LSTM over the vectors, and a head.

Huang et al. 2015, https://arxiv.org/abs/1508.01991, for vectors of words; Peters et al. 2018 for
the states of ELMo, and Akbik et al. 2018 for those of Flair. The vectors of a pretrained trunk may
have static word vectors beside them, which also stay frozen.

B batch  L length  F width of the features  W words, or the width of their vectors
C classes, or a word's row and its letters
"""

from collections.abc import Sequence
from typing import Any, Protocol, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from zoo.layers import heads
from zoo.layers.convolution import Letters
from zoo.layers.crf import CRF
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import lookup
from zoo.layers.linear import Dense
from zoo.layers.recurrent import Bidirectional
from zoo.tokenizers import known_id, unknown_id, word_bytes


class Config(heads.Config, Protocol):
    """The fields of a model's config that a tagger uses."""

    @property
    def tagger_width(self) -> int:
        """The width of each direction of the LSTM."""

    @property
    def tagger_dropout(self) -> float:
        """The dropout rate before and after the LSTM."""


class RecurrentTagger(heads.OnTrunk):
    """A trunk, a bidirectional LSTM over its vectors of words, and the class of every word.

    The last feature is 1 for a word and 0 for other tokens, which the LSTM skips.
    """

    config: Any

    def setup(self):
        super().setup()
        c = cast(Config, self.config)
        self.input_dropout = Dropout(c.tagger_dropout)
        self.lstm = Bidirectional(1, "lstm", c.tagger_width, 0.0)
        self.output_dropout = Dropout(c.tagger_dropout)
        self.classes = Dense(len(c.labels), heads.INIT)

    def features(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None = None,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Return the vectors of the tokens, and which of them are words: x_BLF."""
        if document_ids_BL is None:
            document_ids_BL = jnp.ones(tokens_BL.shape[:2], jnp.int32)
        x_BLF = self.vectors_of(tokens_BL, segments_BL, document_ids_BL, train=train)
        words_BL = self.is_word(tokens_BL, document_ids_BL).astype(jnp.float32)
        return jnp.concatenate([x_BLF, words_BL[..., None]], -1)

    def vectors_of(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None,
        document_ids_BL: jax.Array,
        *,
        train: bool,
    ) -> jax.Array:
        """Return the vectors of the trunk, x_BLF; subclasses may return those of more layers."""
        return self.trunk.read(tokens_BL, None, document_ids_BL, train=train)

    def is_word(self, tokens_BL: jax.Array, document_ids_BL: jax.Array) -> jax.Array:
        """Return which tokens stand for words; subclasses may exclude some: bool [B, L]."""
        return document_ids_BL > 0

    def combine(self, x_BLF: jax.Array) -> jax.Array:
        """Return the input of the LSTM; subclasses may mix layers."""
        return x_BLF

    def head(self, x_BLF: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the logits of the classes: logits_BLC."""
        words_BL = (x_BLF[..., -1] > 0).astype(jnp.int32)
        y_BLF = self.input_dropout(self.combine(x_BLF[..., :-1]), train=train)
        x_BLD, _ = self.lstm(y_BLF, words_BL)
        return self.classes(self.output_dropout(x_BLD, train=train))


class WordTagger(RecurrentTagger):
    """A tagger on static word vectors, which may have features of the letters beside them.

    `Config.letters` is their number; 0: none. A token is the row of its word, and its letters.
    """

    def setup(self):
        super().setup()
        if self.config.letters:
            self.letters = Letters(self.config.letters)

    def vectors_of(
        self,
        tokens_BLC: jax.Array,
        segments_BL: jax.Array | None,
        document_ids_BL: jax.Array,
        *,
        train: bool,
    ) -> jax.Array:
        """Return the vectors of the words, then their letters, which are no features yet: x_BLF."""
        x_BLD = self.read(tokens_BLC, None, document_ids_BL, train=train)
        return jnp.concatenate([x_BLD, tokens_BLC[..., 1:].astype(jnp.float32)], -1)

    def read(
        self,
        tokens_BLC: jax.Array,
        segments_BL: jax.Array | None,
        document_ids_BL: jax.Array | None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Return the vectors of the words: x_BLD."""
        return self.trunk.read(tokens_BLC[..., 0], segments_BL, document_ids_BL, train=train)

    def combine(self, x_BLF: jax.Array) -> jax.Array:
        """Return the vectors of the words, then the features of their letters."""
        x_BLD, letters_BLC = jnp.split(x_BLF, [self.config.width], -1)
        if not self.config.letters:
            return x_BLD
        return jnp.concatenate([x_BLD, self.letters(letters_BLC.astype(jnp.int32))], -1)

    @nn.nowrap
    def init(self, rngs: Any, *_: Any, **options: Any) -> Any:
        """Initialize the parameters; the tokens are not used, since no shape depends on them."""
        tokens_BLC = jnp.zeros((1, 2, 1 + word_bytes.LENGTH), jnp.int32)
        return nn.Module.init(self, rngs, tokens_BLC, **options)

    @nn.nowrap
    def spell(self, tokenizer: Any, words: Sequence[str]) -> tuple[np.ndarray, list[int]]:
        """Return the rows and the letters of words, int32 [W, 1 + C], and the position of each.

        A word that the vocabulary has in lower case only is that; others are unknown.
        """
        ids, unknown = [known_id(tokenizer, word) for word in words], unknown_id(tokenizer)
        rows_W1 = np.array([[unknown if id is None else id] for id in ids], np.int32)
        return np.concatenate([rows_W1, word_bytes.spell(words)], 1), list(range(len(words)))


class StackedTagger(RecurrentTagger):
    """A tagger that may have static word vectors beside the vectors of its trunk.

    `Config.stacked` is their number and their width; (0, 0): none. The segment of a token is the
    row of its word, from 1; 0 is none.
    """

    def setup(self):
        super().setup()
        rows, width = self.config.stacked
        if rows:
            self.vectors = self.param("vectors", nn.initializers.zeros, (rows, width))

    def vectors_of(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None,
        document_ids_BL: jax.Array,
        *,
        train: bool,
    ) -> jax.Array:
        """Return the vectors of the trunk, then those of the words: x_BLF."""
        x_BLD = self.vectors_of_trunk(tokens_BL, document_ids_BL, train=train)
        if not self.config.stacked[0]:
            return x_BLD
        rows_BL = jnp.zeros_like(document_ids_BL) if segments_BL is None else segments_BL
        x_BLW = lookup(self.vectors, jnp.maximum(rows_BL - 1, 0))
        return jnp.concatenate([x_BLD, jnp.where((rows_BL > 0)[..., None], x_BLW, 0)], -1)

    def vectors_of_trunk(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array, *, train: bool
    ) -> jax.Array:
        """Return the vectors of the trunk: x_BLD."""
        return self.trunk.read(tokens_BL, None, document_ids_BL, train=train)


class CRFTagger(RecurrentTagger):
    """The tagger with a conditional random field: it predicts the tags of a sentence at once."""

    def setup(self):
        super().setup()
        self.crf = CRF(len(self.config.labels))

    def head(self, x_BLF: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the potentials of the tags: [B, L, C, C]."""
        return self.crf(super().head(x_BLF, train=train), x_BLF[..., -1] > 0)


class ScalarMix(nn.Module):
    """The mix of layers that a task learns (Peters et al. 2018, equation 1): x_BLF -> x_BLD.

    The features are N layers of the same width, one after another. The weights start equal.
    """

    num_layers: int

    @nn.compact
    def __call__(self, x_BLF: jax.Array) -> jax.Array:
        weights_N = self.param("weights", nn.initializers.zeros, (self.num_layers,))
        scale = self.param("scale", nn.initializers.ones, ())
        layers = jnp.split(x_BLF, self.num_layers, -1)
        shares_N = nn.softmax(weights_N.astype(jnp.float32))
        return scale * sum(share * x for share, x in zip(shares_N, layers, strict=True))


def crf_tagger(tagger_class: type[RecurrentTagger]) -> type[RecurrentTagger]:
    """Return a model class like this tagger, with a conditional random field on its logits."""
    name = tagger_class.__name__.removesuffix("Tagger") + "CRFTagger"
    members = {"__doc__": CRFTagger.__doc__, "__module__": tagger_class.__module__}
    return type(name, (CRFTagger, tagger_class), members)
