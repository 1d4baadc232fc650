"""What comes after pretraining: the class of a text, the tag of a token, the span of an answer.

A trunk offers `read(tokens_BL, segments_BL, documents_BL)`. A paper's own way to the class of a
text stands in the paper's file; tags and spans are one map everywhere (Devlin et al. 2018, section
4, https://arxiv.org/abs/1810.04805), so here they are. `Config.labels` names the classes; one label
alone is a number to predict.

B batch  L length  D width  C classes
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from zoo.layers.dropout import Dropout
from zoo.layers.linear import Dense

INIT = nn.initializers.truncated_normal(0.02)
LABELS = ("LABEL_0", "LABEL_1")  # as published folders call those that nobody named


# What stands for a whole text: its first or last token, or all of them: x_BLD -> x_BD.


def first(x_BLD, documents_BL=None):
    """The first real token, where BERT has [CLS]."""
    return x_BLD[:, 0] if documents_BL is None else _pick(x_BLD, (documents_BL > 0).argmax(1))


def last(x_BLD, documents_BL=None):
    """The last real token, which alone has seen all of a text that is read from left to right."""
    if documents_BL is None:
        return x_BLD[:, -1]
    return _pick(x_BLD, x_BLD.shape[1] - 1 - (documents_BL[:, ::-1] > 0).argmax(1))


def mean(x_BLD, documents_BL=None):
    """The mean of the real tokens."""
    if documents_BL is None:
        return x_BLD.mean(1)
    real_BL1 = (documents_BL > 0)[..., None]
    return (x_BLD * real_BL1).sum(1) / jnp.maximum(real_BL1.sum(1), 1)


def largest(x_BLD, documents_BL=None):
    """The largest value of each feature over the real tokens."""
    if documents_BL is not None:
        x_BLD = jnp.where((documents_BL > 0)[..., None], x_BLD, -1e30)
    return x_BLD.max(1)


def concatenation(x_BLD, documents_BL=None):
    """Last, largest and mean side by side, [B, 3 D] (Howard and Ruder 2018, section 3.3)."""
    pools = (last, largest, mean)
    return jnp.concatenate([pool(x_BLD, documents_BL) for pool in pools], -1)


POOLS = {"last": last, "mean": mean, "max": largest, "concatenation": concatenation}


def _pick(x_BLD, at_B):
    return jnp.take_along_axis(x_BLD, at_B[:, None, None], 1)[:, 0]


# Models


class OnTrunk(nn.Module):
    """A trunk and a head, in two steps: features that a frozen trunk computes once, and the head.

    Whoever inherits says `trunk_class`, `head`, and how to `pool` the tokens of a text.
    """

    config: Any

    def setup(self):
        self.trunk = self.trunk_class(self.config)

    def __call__(self, tokens_BL, segments_BL=None, documents_BL=None, *, train: bool = False):
        """What the head says of each text or token; `documents_BL` is 0 for padding."""
        features = self.features(tokens_BL, segments_BL, documents_BL, train=train)
        return self.head(features, train=train)

    def features(self, tokens_BL, segments_BL=None, documents_BL=None, *, train: bool = False):
        """What the head reads: x_BLD, or x_BD where a text has one vector."""
        x_BLD = self.trunk.read(tokens_BL, segments_BL, documents_BL, train=train)
        return self.pool(x_BLD, documents_BL)

    def pool(self, x_BLD, documents_BL):
        """Every token for itself, unless whoever inherits says otherwise."""
        return x_BLD


def tagger(trunk_class):
    """The model on this trunk that tells the class of every token."""
    return _family(trunk_class, Tagger)


def question(trunk_class):
    """The model on this trunk that finds the answer to a question."""
    return _family(trunk_class, Question)


def _family(trunk_class, cls):
    members = {
        "trunk_class": trunk_class,
        "__doc__": cls.__doc__,
        "__module__": trunk_class.__module__,
    }
    return type(trunk_class.__name__ + cls.__name__, (cls,), members)


class Tagger(OnTrunk):
    """A trunk, and the class of every token."""

    def setup(self):
        super().setup()
        self.dropout = Dropout(self.config.dropout)
        self.classes = Dense(len(self.config.labels), INIT)

    def head(self, x_BLD, *, train: bool = False):
        """The scores of the classes: logits_BLC."""
        return self.classes(self.dropout(x_BLD, train=train))


class Question(OnTrunk):
    """A trunk, and where in a text the answer to a question is."""

    def setup(self):
        super().setup()
        self.span = Dense(2, INIT)

    def head(self, x_BLD, *, train: bool = False):
        """How well the answer starts at each token, and ends there: logits_BL2."""
        return self.span(x_BLD)


class TwoLayers(OnTrunk):
    """A trunk, and the classes of a text through two layers, as RoBERTa and ELECTRA have them.

    Whoever inherits says the `activation` between the two.
    """

    pool = staticmethod(first)

    def setup(self):
        super().setup()
        c = self.config
        self.dense, self.projection = Dense(c.width, INIT), Dense(len(c.labels), INIT)
        self.dense_dropout, self.projection_dropout = Dropout(c.dropout), Dropout(c.dropout)

    def head(self, x_BD, *, train: bool = False):
        """The scores of the classes: logits_BC."""
        x_BD = self.activation(self.dense(self.dense_dropout(x_BD, train=train)))
        return self.projection(self.projection_dropout(x_BD, train=train))
