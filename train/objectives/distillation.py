"""Distillation: a student learns from the predictions of a teacher (Hinton et al. 2015).

Teacher and student see the same text with masked tokens. `Distillation` is DistilBERT's loss (Sanh
et al. 2019, section 3), with three terms: the divergence from the teacher's distribution at a
temperature, for every real token; the cross-entropy of the masked tokens; the cosine distance of
the last hidden states. `LogitMatching` uses the squared error of the logits instead.

Any two masked language models with the same vocabulary can be combined. Departure: the released
code masks rare words more often; here all words are masked with equal probability.

B batch  L length  D width
"""

from collections.abc import Mapping

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from train.objectives.cross_entropy import cross_entropy, divergence, squared_error
from train.objectives.masked import MaskedLanguageModeling, gather
from train.objectives.objective import Example, Objective, Term, arrays, dropout_rngs, objective
from zoo.layers.embedding import UnprojectedLogits
from zoo.params import call


@objective
class LogitMatching(Objective):
    """Squared error of the logits of every real token, plus the loss of the masked tokens.

    Attributes:
      masked: The masking of tokens.
      teacher: The teacher network.
      teacher_params: The parameters of the teacher.
    """

    masked: MaskedLanguageModeling
    teacher: nn.Module
    teacher_params: chex.ArrayTree = arrays()
    reported_term = "masked"

    @property
    def factors(self) -> Mapping[str, float]:
        """The factor of each term."""
        return {"soft": 1.0, "masked": 1.0}

    def corrupt(self, key: chex.PRNGKey, example: Example) -> Example:
        """Mask tokens, and give every real token a weight of 1."""
        batch = self.masked.corrupt(key, example)
        real_L = example["mask"].astype(jnp.float32)
        return batch | {"weights": batch["weights"] | {"soft": real_L, "states": real_L}}

    def loss(
        self,
        model: nn.Module,
        params: chex.ArrayTree,
        batch: Example,
        carry: chex.ArrayTree,
        key: chex.PRNGKey,
        *,
        train: bool,
    ) -> tuple[dict[str, Term], chex.ArrayTree]:
        """Return the losses of the logits and the masked tokens: {"soft": Term, "masked": Term}."""
        _, unprojected = _run(model, params, batch, train=train, rngs=dropout_rngs(key))
        _, teacher_unprojected = _run(self.teacher, self.teacher_params, batch)
        return {
            "soft": squared_error(unprojected, teacher_unprojected, batch["weights"]["soft"]),
            "masked": _masked_term(unprojected, batch),
        }, carry


@objective
class Distillation(LogitMatching):
    """Soft targets, masked tokens and last hidden states.

    The default factors are those of the released recipe. If the widths of teacher and student
    differ, `states` must be 0.

    Attributes:
      temperature: Temperature at which the distributions are compared.
      soft: Factor of the divergence from the teacher's distribution.
      hard: Factor of the cross-entropy of the masked tokens.
      states: Factor of the cosine distance of the hidden states; 0 disables the term.
    """

    temperature: float = 2.0
    soft: float = 5.0
    hard: float = 2.0
    states: float = 1.0

    @property
    def factors(self) -> Mapping[str, float]:
        """The factor of each term."""
        return {"soft": self.soft, "masked": self.hard, "states": self.states}

    def loss(
        self,
        model: nn.Module,
        params: chex.ArrayTree,
        batch: Example,
        carry: chex.ArrayTree,
        key: chex.PRNGKey,
        *,
        train: bool,
    ) -> tuple[dict[str, Term], chex.ArrayTree]:
        """Return {"soft": Term, "masked": Term, "states": Term}."""
        x_BLD, unprojected = _run(model, params, batch, train=train, rngs=dropout_rngs(key))
        teacher_x_BLD, teacher_unprojected = _run(self.teacher, self.teacher_params, batch)
        weights = batch["weights"]
        terms = {
            "soft": divergence(unprojected, teacher_unprojected, weights["soft"], self.temperature),
            "masked": _masked_term(unprojected, batch),
        }
        if self.states:
            terms["states"] = direction(x_BLD, teacher_x_BLD, weights["states"])
        return terms, carry


def direction(x_BLD: jax.Array, teacher_BLD: jax.Array, weights_BL: jax.Array) -> Term:
    """Return the weighted sum of 1 - cosine(student state, teacher state)."""
    teacher_BLD = jax.lax.stop_gradient(teacher_BLD)
    norm = lambda x_BLD: jnp.sqrt(jnp.square(x_BLD).sum(-1))
    cosine_BL = (x_BLD * teacher_BLD).sum(-1) / (norm(x_BLD) * norm(teacher_BLD))
    return Term((weights_BL * (1 - cosine_BL)).sum(), None)


def _run(
    model, params, batch, *, train: bool = False, rngs=None
) -> tuple[jax.Array, UnprojectedLogits]:
    """Return the last hidden states of a model and its predictions for every token."""

    def run(model, tokens_BL, document_ids_BL):
        x_BLD = model.trunk(tokens_BL, document_ids_BL=document_ids_BL, train=train)
        return x_BLD, model.masked_unprojected(x_BLD)

    inputs = batch["tokens"], batch["documents"]
    return call(model, params, *inputs, rngs=rngs, method=run)


def _masked_term(unprojected: UnprojectedLogits, batch: Example) -> Term:
    unprojected = unprojected._replace(x_BLD=gather(unprojected.x_BLD, batch["predictions"]))
    return cross_entropy(unprojected, batch["targets"], batch["weights"]["masked"])
