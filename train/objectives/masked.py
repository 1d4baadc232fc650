"""Masked language modelling and next segments (Devlin et al. 2018, section 3.1).

Some of the tokens are hidden: 80 % of those become [MASK], 10 % a random one, 10 % stay. The
network tells what they were, and whether segment B follows segment A. Hidden anew at every visit,
where the first release wrote ten fixed copies (https://github.com/google-research/bert).

L length  P predictions  W words
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from train.objectives import rngs
from train.objectives.cross_entropy import classify, cross_entropy


@dataclass(frozen=True)
class Masked:
    """Hides single tokens, evenly among those of the text.

    `mask` is the id of [MASK], `specials` those of [CLS] and [SEP], which are never hidden;
    `num_predictions` is the most a row may have.
    """

    vocab_size: int
    mask: int
    specials: tuple[int, ...]
    num_predictions: int
    rate: float = 0.15

    def corrupt(self, key, example):
        """Hides some tokens of a pair of segments."""
        return _corrupt(self, key, example, jnp.arange(len(example["tokens"])))

    def carry(self, model, batch: int):
        """Pairs know nothing of each other."""
        return ()

    def loss(self, model, params, batch, carry, key, *, train: bool):
        """Cross-entropy of the hidden tokens and of the next segment: {"masked": Term, "next":
        Term}."""
        return _loss(model, params, batch, key, train=train), carry


@dataclass(frozen=True)
class WholeWordMasked:
    """Hides whole words, whatever tokens their tokenizer makes of them: the later release of BERT.

    Words are taken in random order while they fit; one with more tokens than there are left to hide
    is passed over. Each token of a hidden word is replaced on its own. Fields as those of Masked.
    """

    vocab_size: int
    mask: int
    specials: tuple[int, ...]
    num_predictions: int
    rate: float = 0.15

    def corrupt(self, key, example):
        """Hides some words of a pair of segments."""
        return _corrupt(self, key, example, jnp.cumsum(example["words"]))

    def carry(self, model, batch: int):
        """Pairs know nothing of each other."""
        return ()

    def loss(self, model, params, batch, carry, key, *, train: bool):
        """Cross-entropy of the hidden tokens and of the next segment: {"masked": Term, "next":
        Term}."""
        return _loss(model, params, batch, key, train=train), carry


def choose(key, candidates_L, word_L, budget):
    """Whole words in random order while they fit into `budget` tokens: bool [L].

    `word_L` numbers the word of each token, from 0 to at most L; only candidates are chosen.
    """
    W = len(word_L) + 1
    size_W = jnp.zeros(W, jnp.int32).at[word_L].add(candidates_L)
    order_W = jax.random.permutation(key, W)
    taken_W = jnp.zeros(W, bool).at[order_W].set(_fitting(size_W[order_W], budget))
    return candidates_L & taken_W[word_L]


def _fitting(size_W, budget):
    """Which sizes are taken, one after the other, if those too large for what is left are passed
    over: bool [W].

    A few rounds, not one step a word: each takes all up to the first that no longer fits, which
    will not fit later either.
    """

    def open_and_left(taken_W):
        left = budget - size_W.sum(where=taken_W)
        return ~taken_W & (size_W > 0) & (size_W <= left), left

    def take(taken_W):
        open_W, left = open_and_left(taken_W)
        return taken_W | (open_W & (jnp.cumsum(jnp.where(open_W, size_W, 0)) <= left))

    return jax.lax.while_loop(
        lambda taken_W: open_and_left(taken_W)[0].any(), take, jnp.zeros(len(size_W), bool)
    )


def replace(key, targets_P, vocab_size: int, mask: int):
    """What stands where a token is hidden: 80 % [MASK], 10 % the token, 10 % any id."""
    key, random_key = jax.random.split(key)
    draw_P = jax.random.uniform(key, targets_P.shape)
    random_P = jax.random.randint(random_key, targets_P.shape, 0, vocab_size)
    return jnp.where(draw_P < 0.8, mask, jnp.where(draw_P < 0.9, targets_P, random_P))


def _corrupt(objective, key, example, word_L):
    choice_key, replace_key = jax.random.split(key)
    tokens_L, real_L = example["tokens"], example["mask"]
    candidates_L = real_L & ~jnp.isin(tokens_L, jnp.array(objective.specials, jnp.int32))
    # Rounded by Python for every possible length: float32 would round some halves the other way.
    budgets = [max(1, round(n * objective.rate)) for n in range(len(tokens_L) + 1)]
    budget = jnp.array(np.minimum(budgets, objective.num_predictions))[real_L.sum()]
    chosen_L = choose(choice_key, candidates_L, word_L, budget)

    P = objective.num_predictions
    predictions_P = jnp.nonzero(chosen_L, size=P, fill_value=0)[0].astype(jnp.int32)
    used_P = jnp.arange(P) < chosen_L.sum()
    targets_P = tokens_L[predictions_P]
    hidden_P = replace(replace_key, targets_P, objective.vocab_size, objective.mask)
    nowhere = len(tokens_L)  # dropped
    return {
        "tokens": tokens_L.at[jnp.where(used_P, predictions_P, nowhere)].set(hidden_P, mode="drop"),
        "segments": example["segments"],
        "documents": real_L.astype(jnp.int32),
        "predictions": predictions_P,
        "targets": targets_P,
        "next": example["next"],
        "weights": {
            "masked": used_P.astype(jnp.float32),
            "next": real_L.any().astype(jnp.float32),
        },
    }


def _loss(model, params, batch, key, *, train: bool):
    scores, next_B2 = model.apply(
        {"params": params},
        batch["tokens"],
        batch["segments"],
        batch["documents"],
        batch["predictions"],
        train=train,
        rngs=rngs(key),
        method="scores",
    )
    return {
        "masked": cross_entropy(scores, batch["targets"], batch["weights"]["masked"]),
        "next": classify(next_B2, batch["next"], batch["weights"]["next"]),
    }
