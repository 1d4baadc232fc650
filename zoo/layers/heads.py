"""Heads for tasks: the class of a text, the class of a token, the span of an answer.

A trunk provides `read(tokens_BL, segments_BL, document_ids_BL)`. How a paper classifies a text is
in the file of its model; tagging and question answering use one dense layer everywhere (Devlin et
al. 2018, section 4, https://arxiv.org/abs/1810.04805), so they are here. `Config.labels` names the
classes; a single label means regression.
"""

from collections.abc import Callable
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.contracts import Encoder
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import UnprojectedLogits
from zoo.layers.linear import Dense

INIT = nn.initializers.truncated_normal(0.02)
LABELS = ("LABEL_0", "LABEL_1")  # the default names in published folders


class Config(Protocol):
    """The fields of a model's config that a head uses."""

    @property
    def width(self) -> int:
        """The width of the hidden states."""

    @property
    def dropout(self) -> float:
        """The dropout rate."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes."""


# Pooling: one vector for a whole text, x_BLD -> x_BD; 0 in document_ids_BL is padding

Pool = Callable[[jax.Array, jax.Array | None], jax.Array]


def first_token(x_BLD: jax.Array, document_ids_BL: jax.Array | None = None) -> jax.Array:
    """Return the first real token, where BERT has [CLS]."""
    return x_BLD[:, 0] if document_ids_BL is None else _pick(x_BLD, (document_ids_BL > 0).argmax(1))


def last_token(x_BLD: jax.Array, document_ids_BL: jax.Array | None = None) -> jax.Array:
    """Return the last real token, the only one that attends to a whole text in a causal model."""
    if document_ids_BL is None:
        return x_BLD[:, -1]
    return _pick(x_BLD, x_BLD.shape[1] - 1 - (document_ids_BL[:, ::-1] > 0).argmax(1))


def mean(x_BLD: jax.Array, document_ids_BL: jax.Array | None = None) -> jax.Array:
    """Return the mean of the real tokens."""
    if document_ids_BL is None:
        return x_BLD.mean(1)
    real_BL1 = (document_ids_BL > 0)[..., None]
    return (x_BLD * real_BL1).sum(1) / jnp.maximum(real_BL1.sum(1), 1)


def max_pool(x_BLD: jax.Array, document_ids_BL: jax.Array | None = None) -> jax.Array:
    """Return the maximum of each feature over the real tokens."""
    if document_ids_BL is not None:
        x_BLD = jnp.where((document_ids_BL > 0)[..., None], x_BLD, -1e30)
    return x_BLD.max(1)


def concatenation(x_BLD: jax.Array, document_ids_BL: jax.Array | None = None) -> jax.Array:
    """Return the last, max and mean pools concatenated: [B, 3 D] (Howard and Ruder 2018)."""
    pools = (last_token, max_pool, mean)
    return jnp.concatenate([pool(x_BLD, document_ids_BL) for pool in pools], -1)


POOLS: dict[str, Pool] = {
    "last": last_token,
    "mean": mean,
    "max": max_pool,
    "concatenation": concatenation,
}


def _pick(x_BLD, at_B):
    return jnp.take_along_axis(x_BLD, at_B[:, None, None], 1)[:, 0]


# Models: a trunk and a head


class OnTrunk(nn.Module):
    """A trunk and a head, as two steps: features that a frozen trunk computes once, and the head.

    Subclasses define `trunk_class`, `head`, and `pool`, which reduces the tokens of a text to one
    vector.
    """

    trunk_class: ClassVar[type[nn.Module]]
    config: Config

    @property
    def num_outputs(self) -> int:
        """The number of logits of a text."""
        return len(self.config.labels)

    def setup(self):
        self.trunk = self.trunk_class(self.config)

    def __call__(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None = None,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Return the head's output for each text or token; 0 in `document_ids_BL` is padding."""
        features = self.features(tokens_BL, segments_BL, document_ids_BL, train=train)
        return self.head(features, train=train)

    def features(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None = None,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Return the input of the head: x_BLD, or x_BD where a text has one vector."""
        x_BLD = self.trunk.read(tokens_BL, segments_BL, document_ids_BL, train=train)
        return self.pool(x_BLD, document_ids_BL)

    def pool(self, x_BLD: jax.Array, document_ids_BL: jax.Array | None) -> jax.Array:
        """Return the hidden states of all tokens; subclasses may pool them."""
        return x_BLD

    def read_each(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array,
        document_ids_BL: jax.Array,
        texts_BN: jax.Array,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Return the head's output for each of the texts that a row is packed with: [B, N, C].

        For models that pool the hidden states of a text; `texts_BN` are its document ids.
        """
        x_BLD = self.trunk.read(tokens_BL, segments_BL, document_ids_BL, train=train)
        pool = lambda text_B: self.pool(
            x_BLD, (document_ids_BL == text_B[:, None]).astype(jnp.int32)
        )
        return self.head(jax.vmap(pool, 1, 1)(texts_BN), train=train)


def alone(trunk_class: type[Encoder]) -> type["Trunk"]:
    """Return a model class of this trunk alone, with the parameter paths of those with a head."""
    return _family(trunk_class, Trunk)


def tagger(trunk_class: type[Encoder]) -> type["Tagger"]:
    """Return a model class for this trunk that predicts the class of every token."""
    return _family(trunk_class, Tagger)


def question(trunk_class: type[Encoder]) -> type["Question"]:
    """Return a model class for this trunk that predicts the span of an answer."""
    return _family(trunk_class, Question)


def multi_label(classifier: type["OnTrunk"]) -> type["OnTrunk"]:
    """Return a model class like this classifier, whose classes are independent of each other.

    The parameters and the logits are the same, but their sigmoid gives the probabilities.
    """
    name = classifier.__name__.removesuffix("Classifier") + "MultiLabel"
    doc = "Classifier of a text or a pair of texts that may have any number of labels."
    members = {"__doc__": doc, "__module__": classifier.__module__}
    return type(name, (classifier,), members)


def multiple_choice(classifier: type["OnTrunk"]) -> type["OnTrunk"]:
    """Return a model class like this classifier, with one logit per choice."""
    name = classifier.trunk_class.__name__ + "MultipleChoice"
    doc = "A trunk and a head for multiple choice: one logit per choice."
    members = {"__doc__": doc, "__module__": classifier.__module__}
    return type(name, (Choices, classifier), members)


def _family(trunk_class, cls):
    members = {
        "trunk_class": trunk_class,
        "__doc__": cls.__doc__,
        "__module__": trunk_class.__module__,
    }
    return type(trunk_class.__name__ + cls.__name__, (cls,), members)


class Choices(OnTrunk):
    """Multiple choice, mixed into a classifier of texts: one logit per choice.

    The axes before the last one, such as those of texts and their choices, are kept.
    """

    @property
    def num_outputs(self) -> int:
        """One, whatever the classes are called."""
        return 1

    def features(
        self,
        tokens_BCL: jax.Array,
        segments_BCL: jax.Array | None = None,
        document_ids_BCL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Return the input of the head for every choice: x_BCD."""
        rows = lambda x: x.reshape(-1, x.shape[-1])
        segments_NL = None if segments_BCL is None else rows(segments_BCL)
        document_ids_NL = None if document_ids_BCL is None else rows(document_ids_BCL)
        x_ND = super().features(rows(tokens_BCL), segments_NL, document_ids_NL, train=train)
        return x_ND.reshape(*tokens_BCL.shape[:-1], x_ND.shape[-1])

    def head(self, x_BCD: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the logit of every choice: logits_BC."""
        x_ND = x_BCD.reshape(-1, x_BCD.shape[-1])
        logits_N1 = super().head(x_ND, train=train)  # type: ignore[misc]  # of the classifier
        return logits_N1.reshape(x_BCD.shape[:-1])


class Trunk(OnTrunk):
    """A trunk without a head: one vector per token, x_BLD."""

    def head(self, x_BLD: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the hidden states as they are."""
        return x_BLD


class Tagger(OnTrunk):
    """A trunk and a head for the class of every token."""

    def setup(self):
        super().setup()
        self.dropout = Dropout(self.config.dropout)
        self.classes = Dense(len(self.config.labels), INIT)

    def head(self, x_BLD: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the logits of the classes: logits_BLC."""
        return self.classes(self.dropout(x_BLD, train=train))


class Question(OnTrunk):
    """A trunk and a head for extractive question answering: the span of the answer.

    `Config.null_threshold` is for questions that may have no answer: they have none if the score of
    the null position exceeds that of the best span by more. None: every question has an answer.
    """

    def setup(self):
        super().setup()
        self.span = Dense(2, INIT)

    def head(self, x_BLD: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the logits of the answer's first and last token: logits_BL2."""
        return self.span(x_BLD)


class LastToken(OnTrunk):
    """A left-to-right trunk whose last token a head reads, and which still predicts next tokens.

    Tokens have any axes before the last one, such as those of texts and their choices; the head
    gets the last hidden state of each row, [..., D].
    """

    pool = staticmethod(last_token)

    def features(
        self,
        tokens: jax.Array,
        segments: jax.Array | None = None,
        document_ids: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Return the hidden state of the last token of each row, [..., D]; segments are ignored."""
        return self._read(tokens, document_ids, train=train)[1]

    def with_words(
        self,
        tokens: jax.Array,
        segments: jax.Array | None,
        document_ids: jax.Array | None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, UnprojectedLogits]:
        """Return the output of the head, and the unprojected next-token logits of all N rows.

        The latter are for GPT's auxiliary loss (Radford et al. 2018, equation 5).
        """
        x_NLD, last = self._read(tokens, document_ids, train=train)
        words = UnprojectedLogits(x_NLD, self.trunk.token_embedding.embedding, 0.0)
        return self.head(last, train=train), words

    def _read(self, tokens, document_ids, *, train):
        rows = lambda x: None if x is None else x.reshape(-1, x.shape[-1])
        x_NLD = self.trunk(rows(tokens), rows(document_ids), train=train)
        x_ND = self.pool(x_NLD, rows(document_ids))
        return x_NLD, x_ND.reshape(*tokens.shape[:-1], x_ND.shape[-1])


class TwoLayers(OnTrunk):
    """A trunk and a two-layer head for the class of a text, as in RoBERTa and ELECTRA.

    Subclasses define the `activation` between the two layers.
    """

    pool = staticmethod(first_token)

    def setup(self):
        super().setup()
        c = self.config
        self.dense, self.projection = Dense(c.width, INIT), Dense(self.num_outputs, INIT)
        self.dense_dropout, self.projection_dropout = Dropout(c.dropout), Dropout(c.dropout)

    def head(self, x_BD: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the logits of the classes: logits_BC."""
        x_BD = self.activation(self.dense(self.dense_dropout(x_BD, train=train)))
        return self.projection(self.projection_dropout(x_BD, train=train))
