"""Causal language modelling with a recurrent state that is passed from window to window.

Truncated back-propagation through time (Mikolov et al. 2010; Zaremba et al. 2014): the gradient
stops at the start of the window; the state continues across windows.

B batch  L length
"""

import chex
import jax
from flax import linen as nn

from train.objectives.causal import Causal
from train.objectives.objective import Example, Term, dropout_rngs, objective
from zoo.params import call


@objective
class StatefulCausal(Causal):
    """Prediction of the next token; the state continues in the next window of the row."""

    def corrupt(self, key: chex.PRNGKey, example: Example) -> Example:
        """Prepare a window as `Causal` does; a row that starts a stream starts a new document."""
        inputs = super().corrupt(key, example)
        real = inputs["documents"] > 0
        return inputs | {"documents": inputs["documents"] + (real & example["fresh"])}

    def initial_carry(self, model: nn.Module, batch_size: int) -> chex.ArrayTree:
        """Return the states before the first token."""
        return model.initial_states(batch_size)

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
        """Return the cross-entropy of the next token, and the states after the window."""
        unprojected, carry = call(
            model,
            params,
            batch["tokens"],
            batch["documents"],
            jax.lax.stop_gradient(carry),
            train=train,
            rngs=dropout_rngs(key),
            method="unprojected",
        )
        return {"token": self.token_term(unprojected, batch, key, train=train)}, carry
