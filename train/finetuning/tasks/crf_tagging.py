"""Tagging with a conditional random field: the tags of a sentence are predicted at once.

B batch  L length
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from train.finetuning.tasks.tagging import TaggedTask
from train.finetuning.tasks.task import IGNORED
from train.objectives.objective import Term
from zoo.layers import crf


@dataclass(frozen=True)
class CRFTagging(TaggedTask):
    """Tagging of the words of a sentence as a chain; a prediction is a list of tags."""

    head: str = "crf-tagging"
    metric: str = "f1"

    def weights(self, row: Mapping[str, jax.Array]) -> jax.Array:
        return jnp.float32(row["targets"] != IGNORED)

    def loss(self, output: jax.Array, batch: Mapping[str, jax.Array], weights: jax.Array) -> Term:
        """Return the negative log-likelihood of the tags, from the potentials [B, L, C, C].

        Its mean is per word, so that long sentences count as much as with single tags.
        """
        tags_BL = jnp.maximum(batch["targets"], 0)
        losses_B = crf.negative_log_likelihood(output, tags_BL, weights > 0)
        return Term(losses_B.sum(), None)
