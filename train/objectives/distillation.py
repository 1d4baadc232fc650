"""Distillation: a student learns what a teacher makes of a text (Hinton et al. 2015; Sanh et al.
2019, "DistilBERT", section 3).

Teacher and student see the same text with hidden words. `Distilled` is DistilBERT's loss: the
teacher's distribution over the vocabulary at a temperature, for every real token; the hidden words
themselves; the direction of the last states. `LogitsMatched` is the plain square error on logits.

Any two models will do that have a `trunk` and `masked_scores` and share a vocabulary. Departure:
the released code hides rare words more often; here all are hidden alike.

B batch  L length  D width
"""

from typing import Any

import jax
import jax.numpy as jnp

from train.objectives.cross_entropy import cross_entropy, divergence, squared_error
from train.objectives.masked import Masked, at
from train.objectives.objective import Term, arrays, objective, rngs


@objective
class Distilled:
    """Soft targets, hidden words and last states; a factor of 0 leaves a term out.

    The factors are those of the released recipe. Where the widths of teacher and student differ,
    `states` has to be 0.
    """

    masked: Masked
    teacher: Any
    teacher_params: Any = arrays()
    temperature: float = 2.0
    soft: float = 5.0
    hard: float = 2.0
    states: float = 1.0

    @property
    def factors(self):
        """What each term counts."""
        return {"soft": self.soft, "masked": self.hard, "states": self.states}

    def corrupt(self, key, example):
        """Hides words, and weighs every real token."""
        return _corrupt(self.masked, key, example)

    def carry(self, model, batch: int):
        """Rows know nothing of each other."""
        return ()

    def loss(self, model, params, batch, carry, key, *, train: bool):
        """{"soft": Term, "masked": Term, "states": Term}; "states" is one minus the cosine."""
        x_BLD, scores = _look(model, params, batch, train=train, rngs=rngs(key))
        teacher_x_BLD, teacher_scores = _look(self.teacher, self.teacher_params, batch)
        weights = batch["weights"]
        terms = {
            "soft": divergence(scores, teacher_scores, weights["soft"], self.temperature),
            "masked": _hidden_words(scores, batch),
        }
        if self.states:
            terms["states"] = direction(x_BLD, teacher_x_BLD, weights["states"])
        return terms, carry


@objective
class LogitsMatched:
    """The square error on the logits of every real token, beside the hidden words."""

    masked: Masked
    teacher: Any
    teacher_params: Any = arrays()
    factors = {"soft": 1.0, "masked": 1.0}

    def corrupt(self, key, example):
        """Hides words, and weighs every real token."""
        return _corrupt(self.masked, key, example)

    def carry(self, model, batch: int):
        """Rows know nothing of each other."""
        return ()

    def loss(self, model, params, batch, carry, key, *, train: bool):
        """{"soft": Term, "masked": Term}."""
        _, scores = _look(model, params, batch, train=train, rngs=rngs(key))
        _, teacher_scores = _look(self.teacher, self.teacher_params, batch)
        return {
            "soft": squared_error(scores, teacher_scores, batch["weights"]["soft"]),
            "masked": _hidden_words(scores, batch),
        }, carry


def direction(x_BLD, teacher_BLD, weights_BL) -> Term:
    """Sums weight times one minus the cosine of the states of student and teacher."""
    teacher_BLD = jax.lax.stop_gradient(teacher_BLD)
    norm = lambda x_BLD: jnp.sqrt(jnp.square(x_BLD).sum(-1))
    cosine_BL = (x_BLD * teacher_BLD).sum(-1) / (norm(x_BLD) * norm(teacher_BLD))
    return Term((weights_BL * (1 - cosine_BL)).sum(), None)


def _corrupt(masked: Masked, key, example):
    batch = masked.corrupt(key, example)
    real_L = example["mask"].astype(jnp.float32)
    return batch | {"weights": batch["weights"] | {"soft": real_L, "states": real_L}}


def _look(model, params, batch, *, train: bool = False, rngs=None):
    """The last states of a model, and what it believes of every token."""

    def look(model, tokens_BL, documents_BL):
        x_BLD = model.trunk(tokens_BL, documents_BL=documents_BL, train=train)
        return x_BLD, model.masked_scores(x_BLD)

    inputs = batch["tokens"], batch["documents"]
    return model.apply({"params": params}, *inputs, rngs=rngs, method=look)


def _hidden_words(scores, batch) -> Term:
    scores = scores._replace(x_BLD=at(scores.x_BLD, batch["predictions"]))
    return cross_entropy(scores, batch["targets"], batch["weights"]["masked"])
