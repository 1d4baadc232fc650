"""Language modelling in both directions (Peters et al. 2018, section 3.1; Akbik et al. 2018).

A forward model predicts each token from those before it, and a backward model from those after it.
Each has a stream of its own, the text and the reversed text, and states that continue from window
to window.

B batch  L length  V vocabulary  C characters of a word
"""

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from train.objectives.causal_stateful import StatefulCausal
from train.objectives.objective import Example, Objective, Term, arrays, dropout_rngs, objective
from train.objectives.sampled_softmax import token_loss
from zoo.params import call


@objective
class BothDirections(Objective):
    """Prediction of the next token of the text and of the reversed text; the loss is their mean.

    `end_of_document` is the id of the token that starts every document. `samples` is the number of
    negatives of a sampled softmax, in training; 0: the full softmax.
    """

    end_of_document: int
    samples: int
    factors = {"token": 1.0}
    reported_term = "token"
    predicts_every_token = True

    def corrupt(self, key: chex.PRNGKey, example: Example) -> Example:
        """Turn a window of L + 1 tokens of each direction into L inputs and L targets."""
        causal = StatefulCausal(self.end_of_document)
        windows = [
            {name: example[prefix + name] for name in ("tokens", "mask", "fresh")}
            for prefix in ("", "backward_")
        ]
        forward, backward = [causal.corrupt(key, window) for window in windows]
        weights_2L = jnp.stack([window["weights"]["token"] for window in (forward, backward)])
        names = "tokens", "documents", "targets"
        return {
            **{name: forward[name] for name in names},
            **{f"backward_{name}": backward[name] for name in names},
            "weights": {"token": weights_2L},
        }

    def initial_carry(self, model: nn.Module, batch_size: int) -> chex.ArrayTree:
        """Return the states of both directions before the first token."""
        return model.initial_states(batch_size)

    def inputs(self, tokens_BL: jax.Array) -> jax.Array:
        """Return what the model reads of tokens."""
        return tokens_BL

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
        """Return the cross-entropy of both directions, and the states after the window."""
        unprojected, carry = call(
            model,
            params,
            self.inputs(batch["tokens"]),
            batch["documents"],
            self.inputs(batch["backward_tokens"]),
            batch["backward_documents"],
            jax.lax.stop_gradient(carry),
            train=train,
            rngs=dropout_rngs(key),
            method="directions",
        )
        targets = batch["targets"], batch["backward_targets"]
        weights_B2L = batch["weights"]["token"]
        samples = self.samples if train else 0
        forward, backward = [
            token_loss(logits, targets[number], weights_B2L[:, number], samples, key)
            for number, logits in enumerate(unprojected)
        ]
        return {"token": jax.tree.map(jnp.add, forward, backward)}, carry


@objective
class BothDirectionsOfWords(BothDirections):
    """The same for a model that reads words by their characters, the rows of `characters_VC`."""

    characters_VC: chex.Array = arrays()

    def inputs(self, tokens_BL: jax.Array) -> jax.Array:
        """Return the characters of words: characters_BLC."""
        return jnp.asarray(self.characters_VC)[tokens_BL]
