"""Causal language modelling: predict each token from the preceding ones (Bengio et al. 2003; GPT).

B batch  L length
"""

from collections.abc import Mapping
from dataclasses import field

import chex
import jax.numpy as jnp
from flax import linen as nn

from train.objectives.objective import Example, Objective, Term, dropout_rngs, objective
from train.objectives.sampled_softmax import token_loss
from zoo.layers.embedding import UnprojectedLogits
from zoo.params import call


@objective
class Causal(Objective):
    """Prediction of the next token within its document.

    `end_of_document` is the id of the token that starts every document. `samples` is the number of
    negatives of a sampled softmax, in training; 0: the full softmax.
    """

    end_of_document: int
    samples: int = field(default=0, kw_only=True)
    reported_term = "token"
    predicts_every_token = True

    @property
    def factors(self) -> Mapping[str, float]:
        """The factor of each term."""
        return {"token": 1.0}

    def corrupt(self, key: chex.PRNGKey, example: Example) -> Example:
        """Turn a window of L + 1 tokens into L inputs, their document ids and L targets."""
        tokens, mask = example["tokens"], example["mask"]
        # Counted from 1, since most windows start inside a document; 0 marks padding.
        document = 1 + jnp.cumsum(tokens[:-1] == self.end_of_document)
        return {
            "tokens": tokens[:-1],
            "documents": jnp.where(mask[:-1], document, 0),
            "targets": tokens[1:],
            "weights": {"token": (mask[:-1] & mask[1:]).astype(jnp.float32)},
        }

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
        """Return the cross-entropy of the next token: {"token": Term}."""
        unprojected = call(
            model,
            params,
            batch["tokens"],
            batch["documents"],
            train=train,
            rngs=dropout_rngs(key),
            method="unprojected",
        )
        return {"token": self.token_term(unprojected, batch, key, train=train)}, carry

    def token_term(
        self, unprojected: UnprojectedLogits, batch: Example, key: chex.PRNGKey, *, train: bool
    ) -> Term:
        """Return the cross-entropy of the targets, in training by the samples if there are any."""
        targets_BL, weights_BL = batch["targets"], batch["weights"]["token"]
        samples = self.samples if train else 0
        return token_loss(unprojected, targets_BL, weights_BL, samples, key)


@objective
class SlidingCausal(Causal):
    """Prediction of the next token in overlapping windows, of which only `scored` tokens count."""

    def corrupt(self, key: chex.PRNGKey, example: Example) -> Example:
        """Prepare a window as `Causal` does; a prediction that is not scored weighs nothing."""
        inputs = super().corrupt(key, example)
        weights = inputs["weights"]["token"] * example["scored"][1:]
        return inputs | {"weights": {"token": weights}}


@objective
class PackedCausal(Causal):
    """Prediction of the next token in rows of packed documents, which have their targets."""

    def corrupt(self, key: chex.PRNGKey, example: Example) -> Example:
        """Return the row with the weights of its predictions; nothing in it is drawn."""
        inputs = {name: example[name] for name in ("tokens", "documents", "targets")}
        return inputs | {"weights": {"token": example["mask"].astype(jnp.float32)}}
