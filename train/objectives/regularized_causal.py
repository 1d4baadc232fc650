"""Causal language modelling with penalties on the outputs of a recurrent network.

Merity et al. 2017, section 4.6, equations 11 and 12: activation regularization (AR) is the mean of
the squared outputs, with dropout; temporal activation regularization (TAR) is the mean of their
squared changes from one token to the next, without dropout. Both are means over all elements, as in
the released code, where the paper has norms. A change counts within a document only: between two
documents the network is reset.

B batch  L length  D width
"""

from collections.abc import Mapping

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from train.objectives.causal_stateful import StatefulCausal
from train.objectives.objective import Example, Term, dropout_rngs, objective
from zoo.params import call


@objective
class RegularizedCausal(StatefulCausal):
    """Prediction of the next token, plus penalties on the last layer's outputs.

    `activation` and `temporal` are the factors alpha and beta of the paper. They do not change the
    reported loss, which is that of the tokens.
    """

    activation: float = 2.0
    temporal: float = 1.0

    @property
    def factors(self) -> Mapping[str, float]:
        """The factor of each term."""
        return {"token": 1.0, "activation": self.activation, "temporal": self.temporal}

    def corrupt(self, key: chex.PRNGKey, example: Example) -> Example:
        """Prepare a window as `StatefulCausal` does, with weights for the penalties."""
        inputs = super().corrupt(key, example)
        documents = inputs["documents"]
        real = documents > 0
        continues = real[1:] & (documents[1:] == documents[:-1])
        penalties = {
            "activation": real.astype(jnp.float32),
            "temporal": jnp.pad(continues, (1, 0)).astype(jnp.float32),
        }
        return inputs | {"weights": inputs["weights"] | penalties}

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
        """Return the cross-entropy and both penalties, and the states after the window."""
        unprojected, undropped_BLD, carry = call(
            model,
            params,
            batch["tokens"],
            batch["documents"],
            jax.lax.stop_gradient(carry),
            train=train,
            rngs=dropout_rngs(key),
            method="outputs",
        )
        weights = batch["weights"]
        squared_BL = jnp.square(unprojected.x_BLD).mean(-1)
        changes_BL = jnp.square(jnp.diff(undropped_BLD, axis=1)).mean(-1)
        changes_BL = jnp.pad(changes_BL, ((0, 0), (1, 0)))  # the first token changes nothing
        return {
            "token": self.token_term(unprojected, batch, key, train=train),
            "activation": Term((weights["activation"] * squared_BL).sum(), None),
            "temporal": Term((weights["temporal"] * changes_BL).sum(), None),
        }, carry
