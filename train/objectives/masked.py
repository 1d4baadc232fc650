"""Masked language modelling (Devlin et al. 2018, section 3.1), without pairs (Liu et al. 2019).

A fraction of the tokens is masked: 80 % of these become [MASK], 10 % a random token, 10 % stay
unchanged. The network predicts the original tokens. The masks are new in every epoch (RoBERTa's
dynamic masking), whereas the first release of BERT wrote ten fixed copies.

Departures: `fairseq` may also mask <s> and </s>, and rounds 15 % of a row up or down at random;
here special tokens are never masked, and 15 % is rounded as in BERT.

B batch  L length  D width  P predictions  W words
"""

import math
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from train.objectives.cross_entropy import cross_entropy
from train.objectives.objective import (
    Example,
    Objective,
    Term,
    document_ids,
    dropout_rngs,
    objective,
)
from zoo.layers.execution import split_rows
from zoo.params import call


@objective
class MaskedLanguageModeling(Objective):
    """Prediction of single masked tokens, drawn uniformly from the text.

    Attributes:
      vocab_size: Size of the vocabulary.
      mask: Id of [MASK].
      specials: Ids of [CLS] and [SEP], which are never masked.
      num_predictions: Maximum number of predictions per row.
      rate: Fraction of the tokens that is masked.
    """

    vocab_size: int
    mask: int
    specials: tuple[int, ...]
    num_predictions: int
    rate: float = 0.15
    factors = {"masked": 1.0}
    reported_term = "masked"

    def corrupt(self, key: chex.PRNGKey, example: Example) -> Example:
        """Mask some tokens of a row."""
        masked, used_P = mask_tokens(self, key, example, jnp.arange(len(example["tokens"])))
        return masked | {"weights": {"masked": used_P}}

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
        """Return the cross-entropy of the masked tokens: {"masked": Term}.

        The model is any zoo.contracts.MaskedLanguageModel.
        """

        def masked_unprojected(model, tokens_BL, document_ids_BL, predictions_BP):
            x_BLD = model.trunk(tokens_BL, document_ids_BL=document_ids_BL, train=train)
            return model.masked_unprojected(gather(x_BLD, predictions_BP))

        inputs = batch["tokens"], batch["documents"], batch["predictions"]
        unprojected = call(
            model, params, *inputs, rngs=dropout_rngs(key), method=masked_unprojected
        )
        term = cross_entropy(unprojected, batch["targets"], batch["weights"]["masked"])
        return {"masked": term}, carry


def sizes(rate: float | None, length: int) -> dict[str, Any]:
    """Return `rate` and `num_predictions` for rows of a length; None: BERT's rate of 15 %."""
    rate = MaskedLanguageModeling.rate if rate is None else rate
    return {"rate": rate, "num_predictions": math.ceil(rate * length)}


@objective
class WholeWordMasking(MaskedLanguageModeling):
    """Masking of whole words, as in `WholeWordNextSentence`."""

    def corrupt(self, key: chex.PRNGKey, example: Example) -> Example:
        """Mask some words of a row."""
        masked, used_P = mask_tokens(self, key, example, jnp.cumsum(example["words"]))
        return masked | {"weights": {"masked": used_P}}


def gather(x_BLD: jax.Array, positions_BP: jax.Array) -> jax.Array:
    """Return the hidden states at the given positions: x_BPD."""
    return split_rows(jnp.take_along_axis(x_BLD, positions_BP[..., None], axis=1))


def mask_tokens(
    objective: MaskedLanguageModeling, key: chex.PRNGKey, example: Example, word_L: jax.Array
) -> tuple[Example, jax.Array]:
    """Mask whole words of an example.

    Args:
      objective: The settings of the masking.
      key: The key of the row.
      example: The row.
      word_L: The word index of each token.

    Returns:
      The inputs and targets of the network, and the weights [P] of its predictions.
    """
    choice_key, replace_key = jax.random.split(key)
    candidates_L, budget = maskable(objective, example)
    chosen_L = choose_words(choice_key, candidates_L, word_L, budget)
    return apply_mask(objective, replace_key, example, chosen_L)


def maskable(objective: MaskedLanguageModeling, example: Example) -> tuple[jax.Array, jax.Array]:
    """Return which tokens may be masked, bool [L], and how many to mask."""
    tokens_L, real_L = example["tokens"], example["mask"]
    candidates_L = real_L & ~jnp.isin(tokens_L, jnp.array(objective.specials, jnp.int32))
    # Rounded in Python for every possible length: float32 would round some halves the other way.
    budgets = [max(1, round(n * objective.rate)) for n in range(len(tokens_L) + 1)]
    return candidates_L, jnp.array(np.minimum(budgets, objective.num_predictions))[real_L.sum()]


def choose_words(
    key: chex.PRNGKey, candidates_L: jax.Array, word_L: jax.Array, budget: jax.Array
) -> jax.Array:
    """Choose whole words in random order while they fit into `budget` tokens: bool [L].

    `word_L` is the word index of each token, from 0 to at most L; only candidates are chosen.
    """
    W = len(word_L) + 1
    size_W = jnp.zeros(W, jnp.int32).at[word_L].add(candidates_L)
    order_W = jax.random.permutation(key, W)
    taken_W = jnp.zeros(W, bool).at[order_W].set(_fitting(size_W[order_W], budget))
    return candidates_L & taken_W[word_L]


def _fitting(size_W, budget):
    """Select sizes in order while they fit into the budget, and skip those that do not: bool [W].

    Each iteration selects all sizes up to the first that does not fit. That one cannot fit later
    either, so a few iterations are enough.
    """

    def fitting_and_remaining(taken_W):
        remaining = budget - size_W.sum(where=taken_W)
        return ~taken_W & (size_W > 0) & (size_W <= remaining), remaining

    def take(taken_W):
        fits_W, remaining = fitting_and_remaining(taken_W)
        return taken_W | (fits_W & (jnp.cumsum(jnp.where(fits_W, size_W, 0)) <= remaining))

    return jax.lax.while_loop(
        lambda taken_W: fitting_and_remaining(taken_W)[0].any(), take, jnp.zeros(len(size_W), bool)
    )


def apply_mask(
    objective: MaskedLanguageModeling, key: chex.PRNGKey, example: Example, chosen_L: jax.Array
) -> tuple[Example, jax.Array]:
    """Return the example with the chosen tokens masked, with their targets, and weights [P]."""
    tokens_L, P = example["tokens"], objective.num_predictions
    predictions_P = jnp.nonzero(chosen_L, size=P, fill_value=0)[0].astype(jnp.int32)
    used_P = jnp.arange(P) < chosen_L.sum()
    targets_P = tokens_L[predictions_P]
    masked_P = replacements(key, targets_P, objective.vocab_size, objective.mask)
    masked = {
        "tokens": write(tokens_L, predictions_P, used_P, masked_P),
        "documents": document_ids(example),
        "predictions": predictions_P,
        "targets": targets_P,
    }
    return masked, used_P.astype(jnp.float32)


def write(
    tokens_L: jax.Array, positions_P: jax.Array, used_P: jax.Array, words_P: jax.Array
) -> jax.Array:
    """Return the tokens with replacements at the used positions."""
    out_of_range = len(tokens_L)  # dropped by the scatter
    return tokens_L.at[jnp.where(used_P, positions_P, out_of_range)].set(words_P, mode="drop")


def replacements(key: chex.PRNGKey, targets_P: jax.Array, vocab_size: int, mask: int) -> jax.Array:
    """Draw the replacements of masked tokens: 80 % [MASK], 10 % the token itself, 10 % random."""
    key, random_key = jax.random.split(key)
    draw_P = jax.random.uniform(key, targets_P.shape)
    random_P = jax.random.randint(random_key, targets_P.shape, 0, vocab_size)
    return jnp.where(draw_P < 0.8, mask, jnp.where(draw_P < 0.9, targets_P, random_P))
