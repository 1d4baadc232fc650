"""Masked language modelling and next segments (Devlin et al. 2018, section 3.1).

Some tokens of `[CLS] A [SEP] B [SEP]` are hidden; the network tells what they were, and whether
segment B follows segment A.

L length  P predictions
"""

import jax.numpy as jnp

from train.objectives.cross_entropy import classify, cross_entropy
from train.objectives.masked import hide
from train.objectives.objective import objective, rngs


@objective
class MaskedPairs:
    """Hides single tokens, evenly among those of the text; fields as those of Masked."""

    vocab_size: int
    mask: int
    specials: tuple[int, ...]
    num_predictions: int
    rate: float = 0.15
    factors = {"masked": 1.0, "next": 1.0}

    def corrupt(self, key, example):
        """Hides some tokens of a pair of segments."""
        return _corrupt(self, key, example, jnp.arange(len(example["tokens"])))

    def carry(self, model, batch: int):
        """Pairs know nothing of each other."""
        return ()

    def loss(self, model, params, batch, carry, key, *, train: bool):
        """Cross-entropy of hidden tokens and next segment: {"masked": Term, "next": Term}."""
        return pair_terms(model, params, batch, key, "next", train=train), carry


@objective
class WholeWordMaskedPairs:
    """Hides whole words, whatever tokens their tokenizer makes of them: the later release of BERT.

    Words are taken in random order while they fit; one with more tokens than there are left to hide
    is passed over. Each token of a hidden word is replaced on its own. Fields as those of Masked.
    """

    vocab_size: int
    mask: int
    specials: tuple[int, ...]
    num_predictions: int
    rate: float = 0.15
    factors = {"masked": 1.0, "next": 1.0}

    def corrupt(self, key, example):
        """Hides some words of a pair of segments."""
        return _corrupt(self, key, example, jnp.cumsum(example["words"]))

    def carry(self, model, batch: int):
        """Pairs know nothing of each other."""
        return ()

    def loss(self, model, params, batch, carry, key, *, train: bool):
        """Cross-entropy of hidden tokens and next segment: {"masked": Term, "next": Term}."""
        return pair_terms(model, params, batch, key, "next", train=train), carry


def _corrupt(objective, key, example, word_L):
    return as_pair(example, *hide(objective, key, example, word_L), "next")


def as_pair(example, hidden, used_P, label: str):
    """What was hidden, with the segments of the pair and its label, which counts once a pair."""
    real = example["mask"].any().astype(jnp.float32)
    return hidden | {
        "segments": example["segments"],
        label: example[label],
        "weights": {"masked": used_P, label: real},
    }


def pair_terms(model, params, batch, key, label: str, *, train: bool):
    """Cross-entropy of the hidden tokens and of the pair's label: {"masked": Term, label: Term}."""
    scores, logits_B2 = model.apply(
        {"params": params},
        batch["tokens"],
        batch["segments"],
        batch["documents"],
        batch["predictions"],
        train=train,
        rngs=rngs(key),
        method="scores",
    )
    weights = batch["weights"]
    return {
        "masked": cross_entropy(scores, batch["targets"], weights["masked"]),
        label: classify(logits_B2, batch[label], weights[label]),
    }
