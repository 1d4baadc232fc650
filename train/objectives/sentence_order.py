"""Masked n-grams and the order of sentences (Lan et al. 2019, "ALBERT", sections 3.1 and 4.1).

One to three words in a row are hidden together, n of them with probability proportional to 1 / n
(equation 1 of the paper, from SpanBERT); the network tells what they were, and whether the two
segments stand in their order.

As in `create_pretraining_data.py`: starts are taken in random order; an n-gram that would hide more
than is left is shortened word by word; one that meets a hidden word is passed over. Departure: the
draws are new at every visit.

L length  P predictions  W words
"""

import jax
import jax.numpy as jnp

from train.objectives.masked import hideable, put_away
from train.objectives.next_sentence import as_pair, pair_terms
from train.objectives.objective import objective

LONGEST = 3  # words of an n-gram


@objective
class OrderedPairs:
    """Hides n-grams of whole words; fields as those of Masked."""

    vocab_size: int
    mask: int
    specials: tuple[int, ...]
    num_predictions: int
    rate: float = 0.15
    factors = {"masked": 1.0, "order": 1.0}

    def corrupt(self, key, example):
        """Hides some n-grams of a pair of segments."""
        choice_key, replace_key = jax.random.split(key)
        candidates_L, budget = hideable(self, example)
        chosen_L = choose(choice_key, candidates_L, jnp.cumsum(example["words"]), budget)
        return as_pair(example, *put_away(self, replace_key, example, chosen_L), "order")

    def carry(self, model, batch: int):
        """Pairs know nothing of each other."""
        return ()

    def loss(self, model, params, batch, carry, key, *, train: bool):
        """Cross-entropy of hidden tokens and order: {"masked": Term, "order": Term}."""
        return pair_terms(model, params, batch, key, "order", train=train), carry


def choose(key, candidates_L, word_L, budget):
    """N-grams of whole words in random order while they fit into `budget` tokens: bool [L].

    `word_L` numbers the word of each token from 1, in the order of the text; only candidates are
    chosen, and the special tokens between two words do not part them.
    """
    W = len(word_L)
    order_key, length_key = jax.random.split(key)
    # Words numbered anew, without the special tokens that stand behind some.
    size_W = jnp.zeros(W, jnp.int32).at[word_L - 1].add(candidates_L)
    number_W = jnp.cumsum(size_W > 0) - 1
    count = number_W[-1] + 1
    size_W = jnp.zeros(W, jnp.int32).at[number_W].add(size_W)
    end_W = jnp.cumsum(size_W)
    order_W = jax.random.permutation(order_key, W)
    draw_W = jax.random.uniform(length_key, (W,))
    chance_N = 1 / jnp.arange(1, LONGEST + 1)

    def unfinished(state):
        taken_W, turn = state
        return (turn < W) & (size_W.sum(where=taken_W) < budget)

    def hide(state):
        taken_W, turn = state
        first = order_W[turn]
        room = jnp.minimum(LONGEST, count - first)  # words from here to the end
        cumulative_N = jnp.cumsum(jnp.where(jnp.arange(LONGEST) < room, chance_N, 0))
        drawn = 1 + (draw_W[turn] * cumulative_N[-1] >= cumulative_N[:-1]).sum()
        left = budget - size_W.sum(where=taken_W)
        before = end_W[first] - size_W[first]
        reached_N = end_W[jnp.minimum(first + jnp.arange(LONGEST), W - 1)] - before
        fits = (reached_N <= left).sum()  # sizes grow, so these are the shortest
        length = jnp.minimum(drawn, fits)
        place_W = jnp.arange(W)
        gram_W = (first <= place_W) & (place_W < first + length)
        free = (first < count) & ~(gram_W & taken_W).any()
        return taken_W | (gram_W & free), turn + 1

    taken_W, _ = jax.lax.while_loop(unfinished, hide, (jnp.zeros(W, bool), 0))
    return candidates_L & taken_W[number_W[word_L - 1]]
