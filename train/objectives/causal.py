"""Causal language modelling: predict each token from those before it (Bengio et al. 2003; GPT).

B batch  L length
"""

import jax.numpy as jnp

from train.objectives.cross_entropy import cross_entropy
from train.objectives.objective import objective, rngs


@objective
class Causal:
    """Predicts the next token within its document; `end_of_document` opens every document."""

    end_of_document: int
    factors = {"token": 1.0}

    def corrupt(self, key, example):
        """A window of L + 1 tokens becomes L inputs, their documents and L targets."""
        tokens, mask = example["tokens"], example["mask"]
        # Counted from 1, since a window mostly opens inside a document; 0 is padding.
        document = 1 + jnp.cumsum(tokens[:-1] == self.end_of_document)
        return {
            "tokens": tokens[:-1],
            "documents": jnp.where(mask[:-1], document, 0),
            "targets": tokens[1:],
            "weights": {"token": (mask[:-1] & mask[1:]).astype(jnp.float32)},
        }

    def carry(self, model, batch: int):
        """Windows know nothing of each other."""
        return ()

    def loss(self, model, params, batch, carry, key, *, train: bool):
        """Cross-entropy of the next token: {"token": Term}."""
        scores = model.apply(
            {"params": params},
            batch["tokens"],
            batch["documents"],
            train=train,
            rngs=rngs(key),
            method="scores",
        )
        return {"token": cross_entropy(scores, batch["targets"], batch["weights"]["token"])}, carry
