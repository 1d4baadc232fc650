"""Replaced-token detection (Clark et al. 2020, "ELECTRA", section 3).

Some tokens are masked, and a small generator predicts the original ones. A token is sampled from
each of its distributions and written into the text. The discriminator predicts for every token
whether it was replaced. A sampled token that equals the original counts as original. No gradient
flows through the sampling, so the generator is trained by its own loss only.

As in the released code, 85 % of the chosen tokens become [MASK] and the rest stay unchanged, and
the loss of the discriminator, over all real tokens, has a factor of 50. Departure: the released
code chooses positions with replacement, and writes the mean of two ids if a position is chosen
twice; here no position is chosen twice.

B batch  L length  P predictions  V vocabulary
"""

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from train.objectives.cross_entropy import cross_entropy
from train.objectives.masked import MaskedLanguageModeling, choose_words, maskable, write
from train.objectives.objective import Example, Term, document_ids, dropout_rngs, objective
from zoo.params import call

MASKED_RATE = 0.85


@objective
class ReplacedToken(MaskedLanguageModeling):
    """Masked tokens for the generator, replaced-token detection for the discriminator."""

    factors = {"masked": 1.0, "replaced": 50.0, "original": 0.0}

    def corrupt(self, key: chex.PRNGKey, example: Example) -> Example:
        """Mask some tokens, and keep the original tokens for the discriminator."""
        choice_key, mask_key = jax.random.split(key)
        tokens_L, P = example["tokens"], self.num_predictions
        candidates_L, budget = maskable(self, example)
        chosen_L = choose_words(choice_key, candidates_L, jnp.arange(len(tokens_L)), budget)
        predictions_P = jnp.nonzero(chosen_L, size=P, fill_value=0)[0].astype(jnp.int32)
        used_P = jnp.arange(P) < chosen_L.sum()
        targets_P = tokens_L[predictions_P]
        is_mask_P = jax.random.uniform(mask_key, (P,)) < MASKED_RATE
        masked_P = jnp.where(is_mask_P, self.mask, targets_P)
        return {
            "tokens": tokens_L,
            "hidden": write(tokens_L, predictions_P, used_P, masked_P),
            "segments": example["segments"],
            "documents": document_ids(example),
            "predictions": predictions_P,
            "targets": targets_P,
            "weights": {
                "masked": used_P.astype(jnp.float32),
                "replaced": example["mask"].astype(jnp.float32),
                "original": example["mask"].astype(jnp.float32),
            },
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
        """Return the losses of generator and discriminator: {"masked", "replaced", "original"}.

        "original" has no loss; its accuracy is the baseline of always predicting "original".
        """
        weights = batch["weights"]
        generator_key, draw_key, discriminator_key = jax.random.split(key, 3)
        unprojected = call(
            model,
            params,
            batch["hidden"],
            batch["segments"],
            batch["documents"],
            batch["predictions"],
            train=train,
            rngs=dropout_rngs(generator_key),
            method="generator_unprojected",
        )
        drawn_BP = jax.random.categorical(draw_key, jax.lax.stop_gradient(unprojected.logits()))
        tokens_BL = jax.vmap(write)(
            batch["tokens"], batch["predictions"], weights["masked"] > 0, drawn_BP
        )
        logits_BL = call(
            model,
            params,
            tokens_BL,
            batch["segments"],
            batch["documents"],
            train=train,
            rngs=dropout_rngs(discriminator_key),
            method="detect",
        )
        replaced_BL = tokens_BL != batch["tokens"]
        return {
            "masked": cross_entropy(unprojected, batch["targets"], weights["masked"]),
            "replaced": detection(logits_BL, replaced_BL, weights["replaced"]),
            "original": Term(jnp.float32(0), (weights["original"] * ~replaced_BL).sum()),
        }, carry


def detection(logits_BL: jax.Array, replaced_BL: jax.Array, weights_BL: jax.Array) -> Term:
    """Return the weighted sum of the binary cross-entropy of "this token was replaced"."""
    losses_BL = jax.nn.softplus(jnp.where(replaced_BL, -logits_BL, logits_BL))
    right_BL = (logits_BL > 0) == replaced_BL
    return Term((weights_BL * losses_BL).sum(), (weights_BL * right_BL).sum())
