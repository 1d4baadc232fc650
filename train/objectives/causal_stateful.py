"""Causal language modelling with a state that goes on from window to window.

Truncated back-propagation (Mikolov et al. 2010; Zaremba et al. 2014): the gradient ends where the
window begins, what was read before does not.

B batch  L length
"""

import jax

from train.objectives.causal import Causal
from train.objectives.cross_entropy import cross_entropy
from train.objectives.objective import objective, rngs
from zoo.layers import recurrent


@objective
class Carried(Causal):
    """Predicts the next token; the state of a document goes on in the next window of its row."""

    def corrupt(self, key, example):
        """As Causal; a row that begins anew has no token of the document that was open."""
        found = super().corrupt(key, example)
        real = found["documents"] > 0
        return found | {"documents": found["documents"] + (real & example["fresh"])}

    def carry(self, model, batch: int):
        """States of zeros."""
        c = model.config
        return (recurrent.zeros(c.cell, c.width, batch),) * c.num_layers

    def loss(self, model, params, batch, carry, key, *, train: bool):
        """Cross-entropy of the next token: {"token": Term}, and the states after the window."""
        scores, carry = model.apply(
            {"params": params},
            batch["tokens"],
            batch["documents"],
            jax.lax.stop_gradient(carry),
            train=train,
            rngs=rngs(key),
            method="scores",
        )
        return {"token": cross_entropy(scores, batch["targets"], batch["weights"]["token"])}, carry
