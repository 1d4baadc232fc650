"""Masked language modelling (Devlin et al. 2018, section 3.1), without pairs (Liu et al. 2019).

Some of the tokens are hidden: 80 % of those become [MASK], 10 % a random one, 10 % stay. The
network tells what they were. They are hidden anew at every visit, RoBERTa's dynamic masking, where
the first release of BERT wrote ten fixed copies.

Departures: `fairseq` may hide <s> and </s> too and rounds 15 % of a row up or down by chance; here
special tokens are never hidden and 15 % are rounded as BERT rounds them.

B batch  L length  D width  P predictions  W words
"""

import jax
import jax.numpy as jnp
import numpy as np

from train.objectives.cross_entropy import cross_entropy
from train.objectives.objective import objective, rngs


@objective
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
    factors = {"masked": 1.0}

    def corrupt(self, key, example):
        """Hides some tokens of a row."""
        hidden, used_P = hide(self, key, example, jnp.arange(len(example["tokens"])))
        return hidden | {"weights": {"masked": used_P}}

    def carry(self, model, batch: int):
        """Rows know nothing of each other."""
        return ()

    def loss(self, model, params, batch, carry, key, *, train: bool):
        """Cross-entropy of the hidden tokens: {"masked": Term}.

        The model is any that has a `trunk` and `masked_scores`.
        """

        def scores(model, tokens_BL, documents_BL, predictions_BP):
            x_BLD = model.trunk(tokens_BL, documents_BL=documents_BL, train=train)
            return model.masked_scores(at(x_BLD, predictions_BP))

        inputs = batch["tokens"], batch["documents"], batch["predictions"]
        scores = model.apply({"params": params}, *inputs, rngs=rngs(key), method=scores)
        term = cross_entropy(scores, batch["targets"], batch["weights"]["masked"])
        return {"masked": term}, carry


def at(x_BLD, places_BP):
    """The states at some places: x_BPD."""
    return jnp.take_along_axis(x_BLD, places_BP[..., None], axis=1)


def hide(objective, key, example, word_L):
    """Hides words of an example: what the network sees and tells, and weights [P] of those told.

    `objective` has the fields of Masked; `word_L` numbers the word of each token.
    """
    choice_key, replace_key = jax.random.split(key)
    candidates_L, budget = hideable(objective, example)
    chosen_L = choose(choice_key, candidates_L, word_L, budget)
    return put_away(objective, replace_key, example, chosen_L)


def hideable(objective, example):
    """Which tokens may be hidden, bool [L], and how many are to be."""
    tokens_L, real_L = example["tokens"], example["mask"]
    candidates_L = real_L & ~jnp.isin(tokens_L, jnp.array(objective.specials, jnp.int32))
    # Rounded by Python for every possible length: float32 would round some halves the other way.
    budgets = [max(1, round(n * objective.rate)) for n in range(len(tokens_L) + 1)]
    return candidates_L, jnp.array(np.minimum(budgets, objective.num_predictions))[real_L.sum()]


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


def put_away(objective, key, example, chosen_L):
    """The example with the chosen tokens hidden, what they were, and weights [P]."""
    tokens_L, P = example["tokens"], objective.num_predictions
    predictions_P = jnp.nonzero(chosen_L, size=P, fill_value=0)[0].astype(jnp.int32)
    used_P = jnp.arange(P) < chosen_L.sum()
    targets_P = tokens_L[predictions_P]
    hidden_P = replace(key, targets_P, objective.vocab_size, objective.mask)
    hidden = {
        "tokens": write(tokens_L, predictions_P, used_P, hidden_P),
        "documents": example["mask"].astype(jnp.int32),
        "predictions": predictions_P,
        "targets": targets_P,
    }
    return hidden, used_P.astype(jnp.float32)


def write(tokens_L, places_P, used_P, words_P):
    """The tokens with other words at the places that are used."""
    nowhere = len(tokens_L)  # dropped
    return tokens_L.at[jnp.where(used_P, places_P, nowhere)].set(words_P, mode="drop")


def replace(key, targets_P, vocab_size: int, mask: int):
    """What stands where a token is hidden: 80 % [MASK], 10 % the token, 10 % any id."""
    key, random_key = jax.random.split(key)
    draw_P = jax.random.uniform(key, targets_P.shape)
    random_P = jax.random.randint(random_key, targets_P.shape, 0, vocab_size)
    return jnp.where(draw_P < 0.8, mask, jnp.where(draw_P < 0.9, targets_P, random_P))
