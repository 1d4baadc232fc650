"""Teacher forcing: predict each target token from the source and the preceding target tokens.

Sutskever et al. 2014. Optional label smoothing (Szegedy et al. 2015, section 7; Vaswani et al.
2017, section 5.4) makes a fraction of each target distribution uniform over the vocabulary, in
training only. Optional scheduled sampling (Bengio et al. 2015) replaces some decoder inputs by
tokens sampled from the network. They are sampled in a first pass over the true inputs (Mihaylova
and Martins 2019), so it works for recurrent and parallel decoders.

B batch  L length of the source  T length of the target
"""

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from train.objectives.cross_entropy import cross_entropy, smoothed_cross_entropy
from train.objectives.objective import Example, Objective, Term, dropout_rngs, objective
from zoo.layers.embedding import UnprojectedLogits
from zoo.params import call


@objective
class SequenceToSequence(Objective):
    """Prediction of a target text from a source text.

    Attributes:
      start: Id of the first decoder input.
      end: Id of the token that ends sources and targets.
      smoothing: Fraction of label smoothing; 0 disables it.
      sampled: Fraction of decoder inputs replaced by scheduled sampling; 0 disables it.
    """

    start: int
    end: int
    smoothing: float = 0.0
    sampled: float = 0.0
    factors = {"token": 1.0}
    reported_term = "token"

    def corrupt(self, key: chex.PRNGKey, example: Example) -> Example:
        """Append the end token to both sides, and shift the target right for the decoder."""
        source_L, _ = append_end(example["source"], example["source_length"], self.end)
        target_T, real_T = append_end(example["target"], example["target_length"], self.end)
        positions_L = jnp.arange(len(source_L))
        is_pair = example["source_length"] > 0  # a padding row has no tokens
        return {
            "tokens": source_L,
            "documents": (is_pair & (positions_L <= example["source_length"])).astype(jnp.int32),
            "inputs": jnp.roll(target_T, 1).at[0].set(self.start),
            "targets": target_T,
            "weights": {"token": (is_pair & real_T).astype(jnp.float32)},
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
        """Return the cross-entropy of the next token of the target: {"token": Term}."""

        def predict(inputs_BT):
            return call(
                model,
                params,
                batch["tokens"],
                inputs_BT,
                batch["documents"],
                train=train,
                rngs=dropout_rngs(key),
                method="unprojected",
            )

        inputs_BT, weights_BT = batch["inputs"], batch["weights"]["token"]
        if self.sampled and train:
            inputs_BT = self.sample_inputs(key, predict(inputs_BT), inputs_BT)
        unprojected = predict(inputs_BT)
        if self.smoothing and train:
            term = smoothed_cross_entropy(unprojected, batch["targets"], weights_BT, self.smoothing)
        else:
            term = cross_entropy(unprojected, batch["targets"], weights_BT)
        return {"token": term}, carry

    def sample_inputs(
        self, key: chex.PRNGKey, unprojected: UnprojectedLogits, inputs_BT: jax.Array
    ) -> jax.Array:
        """Replace some of the decoder inputs, never the first, by samples from `unprojected`."""
        draw_key, choice_key = jax.random.split(jax.random.fold_in(key, 2))
        drawn_BT = jax.random.categorical(draw_key, jax.lax.stop_gradient(unprojected.logits()))
        drawn_BT = jnp.roll(drawn_BT, 1, axis=1).astype(inputs_BT.dtype)
        chosen_BT = jax.random.bernoulli(choice_key, self.sampled, inputs_BT.shape)
        return jnp.where(chosen_BT.at[:, 0].set(False), drawn_BT, inputs_BT)


def append_end(tokens_L: jax.Array, length: jax.Array, end: int) -> tuple[jax.Array, jax.Array]:
    """Return a padded text with the token `end` appended, and which tokens are real."""
    positions_L = jnp.arange(len(tokens_L))
    return jnp.where(positions_L == length, end, tokens_L), positions_L <= length
