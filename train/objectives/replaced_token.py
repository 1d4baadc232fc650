"""Replaced-token detection (Clark et al. 2020, "ELECTRA", section 3).

Some tokens are hidden; a small generator guesses what they were; a word is drawn from each guess
and put into the text; the discriminator tells of every token whether it is the original. A drawn
word that happens to be right counts as the original. No gradient passes through the draw, so the
generator learns to guess and not to deceive.

As released: 85 % of the chosen tokens become [MASK] and the rest stay; the loss of the
discriminator, over all real tokens, counts fifty times. Departure: the released code chooses
positions with replacement, and where one is chosen twice with two different draws it writes the
mean of their ids; here no position is chosen twice.

B batch  L length  P predictions  V vocabulary
"""

import jax
import jax.numpy as jnp

from train.objectives.cross_entropy import cross_entropy
from train.objectives.masked import choose, hideable, write
from train.objectives.objective import Term, objective, rngs

MASKED_RATE = 0.85


@objective
class Replaced:
    """Hides single tokens for the generator; fields as those of Masked."""

    vocab_size: int
    mask: int
    specials: tuple[int, ...]
    num_predictions: int
    rate: float = 0.15
    factors = {"masked": 1.0, "replaced": 50.0, "original": 0.0}

    def corrupt(self, key, example):
        """Hides some tokens; the original stays beside them, for the discriminator."""
        choice_key, mask_key = jax.random.split(key)
        tokens_L, P = example["tokens"], self.num_predictions
        candidates_L, budget = hideable(self, example)
        chosen_L = choose(choice_key, candidates_L, jnp.arange(len(tokens_L)), budget)
        predictions_P = jnp.nonzero(chosen_L, size=P, fill_value=0)[0].astype(jnp.int32)
        used_P = jnp.arange(P) < chosen_L.sum()
        targets_P = tokens_L[predictions_P]
        masked_P = jax.random.uniform(mask_key, (P,)) < MASKED_RATE
        hidden_P = jnp.where(masked_P, self.mask, targets_P)
        return {
            "tokens": tokens_L,
            "hidden": write(tokens_L, predictions_P, used_P, hidden_P),
            "segments": example["segments"],
            "documents": example["mask"].astype(jnp.int32),
            "predictions": predictions_P,
            "targets": targets_P,
            "weights": {
                "masked": used_P.astype(jnp.float32),
                "replaced": example["mask"].astype(jnp.float32),
                "original": example["mask"].astype(jnp.float32),
            },
        }

    def carry(self, model, batch: int):
        """Rows know nothing of each other."""
        return ()

    def loss(self, model, params, batch, carry, key, *, train: bool):
        """Cross-entropy of generator and discriminator: {"masked": Term, "replaced": Term}.

        And "original", which costs nothing: how often that answer would be right.
        """
        variables, weights = {"params": params}, batch["weights"]
        generator_key, draw_key, discriminator_key = jax.random.split(key, 3)
        scores = model.apply(
            variables,
            batch["hidden"],
            batch["segments"],
            batch["documents"],
            batch["predictions"],
            train=train,
            rngs=rngs(generator_key),
            method="guess",
        )
        drawn_BP = jax.random.categorical(draw_key, jax.lax.stop_gradient(scores.logits()))
        tokens_BL = jax.vmap(write)(
            batch["tokens"], batch["predictions"], weights["masked"] > 0, drawn_BP
        )
        logits_BL = model.apply(
            variables,
            tokens_BL,
            batch["segments"],
            batch["documents"],
            train=train,
            rngs=rngs(discriminator_key),
            method="detect",
        )
        replaced_BL = tokens_BL != batch["tokens"]
        return {
            "masked": cross_entropy(scores, batch["targets"], weights["masked"]),
            "replaced": detection(logits_BL, replaced_BL, weights["replaced"]),
            "original": Term(jnp.float32(0), (weights["original"] * ~replaced_BL).sum()),
        }, carry


def detection(logits_BL, replaced_BL, weights_BL) -> Term:
    """Binary cross-entropy of "this token was replaced", summed with the weights."""
    losses_BL = jax.nn.softplus(jnp.where(replaced_BL, -logits_BL, logits_BL))
    right_BL = (logits_BL > 0) == replaced_BL
    return Term((weights_BL * losses_BL).sum(), (weights_BL * right_BL).sum())
