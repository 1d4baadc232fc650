"""Masked language modelling and next-sentence prediction (Devlin et al. 2018, section 3.1).

Some tokens of `[CLS] A [SEP] B [SEP]` are masked. The network predicts the original tokens, and
whether segment B follows segment A.

L length  P predictions
"""

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from train.objectives.cross_entropy import classify, cross_entropy
from train.objectives.masked import MaskedLanguageModeling, mask_tokens
from train.objectives.objective import Example, Term, dropout_rngs, objective
from zoo.params import call


@objective
class NextSentence(MaskedLanguageModeling):
    """Masking of single tokens, and next-sentence prediction."""

    factors = {"masked": 1.0, "next": 1.0}

    def corrupt(self, key: chex.PRNGKey, example: Example) -> Example:
        """Mask some tokens of a pair of segments."""
        word_L = jnp.arange(len(example["tokens"]))
        return as_pair(example, *mask_tokens(self, key, example, word_L), "next")

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
        """Return the cross-entropy of masked tokens and next sentence: {"masked", "next"}."""
        return pair_terms(model, params, batch, key, "next", train=train), carry


@objective
class WholeWordNextSentence(NextSentence):
    """Masking of whole words, as in the later release of BERT.

    Words are chosen in random order while they fit; a word with more tokens than the remaining
    budget is skipped. Each token of a masked word is replaced independently.
    """

    def corrupt(self, key: chex.PRNGKey, example: Example) -> Example:
        """Mask some words of a pair of segments."""
        word_L = jnp.cumsum(example["words"])
        return as_pair(example, *mask_tokens(self, key, example, word_L), "next")


def as_pair(example: Example, masked: Example, used_P: jax.Array, label: str) -> Example:
    """Return a masked pair with its segments and its label, which has a weight of 1 per pair."""
    real = example["mask"].any().astype(jnp.float32)
    return masked | {
        "segments": example["segments"],
        label: example[label],
        "weights": {"masked": used_P, label: real},
    }


def pair_terms(
    model: nn.Module,
    params: chex.ArrayTree,
    batch: Example,
    key: chex.PRNGKey,
    label: str,
    *,
    train: bool,
) -> dict[str, Term]:
    """Return the cross-entropy of masked tokens and of the label: {"masked": Term, label: Term}."""
    unprojected, logits_B2 = call(
        model,
        params,
        batch["tokens"],
        batch["segments"],
        batch["documents"],
        batch["predictions"],
        train=train,
        rngs=dropout_rngs(key),
        method="unprojected",
    )
    weights = batch["weights"]
    return {
        "masked": cross_entropy(unprojected, batch["targets"], weights["masked"]),
        label: classify(logits_B2, batch[label], weights[label]),
    }
