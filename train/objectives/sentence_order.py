"""Masked n-grams and sentence-order prediction (Lan et al. 2019, "ALBERT", sections 3.1 and 4.1).

One to three consecutive words are masked together, n words with probability proportional to 1 / n
(equation 1 of the paper, from SpanBERT). The network predicts the original tokens, and whether the
two segments are in their original order.

As in `create_pretraining_data.py`, start positions are visited in random order; an n-gram that
exceeds the remaining budget is shortened word by word; an n-gram that contains a masked word is
skipped. Departure: the draws are new in every epoch.

L length  P predictions  W words
"""

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from train.objectives.masked import MaskedLanguageModeling, apply_mask, maskable
from train.objectives.next_sentence import as_pair, pair_terms
from train.objectives.objective import Example, Term, objective

LONGEST = 3  # words of an n-gram


@objective
class SentenceOrder(MaskedLanguageModeling):
    """Masking of n-grams of whole words, and sentence-order prediction."""

    factors = {"masked": 1.0, "order": 1.0}

    def corrupt(self, key: chex.PRNGKey, example: Example) -> Example:
        """Mask some n-grams of a pair of segments."""
        choice_key, replace_key = jax.random.split(key)
        candidates_L, budget = maskable(self, example)
        chosen_L = choose_ngrams(choice_key, candidates_L, jnp.cumsum(example["words"]), budget)
        return as_pair(example, *apply_mask(self, replace_key, example, chosen_L), "order")

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
        """Return the cross-entropy of masked tokens and order: {"masked": Term, "order": Term}."""
        return pair_terms(model, params, batch, key, "order", train=train), carry


def choose_ngrams(
    key: chex.PRNGKey, candidates_L: jax.Array, word_L: jax.Array, budget: jax.Array
) -> jax.Array:
    """Choose n-grams of whole words in random order while they fit into `budget`: bool [L].

    `word_L` is the word index of each token, counted from 1 in text order. Only candidates are
    chosen. An n-gram may span the special tokens between two words.
    """
    W = len(word_L)
    order_key, length_key = jax.random.split(key)
    # Renumber the words without special tokens.
    size_W = jnp.zeros(W, jnp.int32).at[word_L - 1].add(candidates_L)
    number_W = jnp.cumsum(size_W > 0) - 1
    count = number_W[-1] + 1
    size_W = jnp.zeros(W, jnp.int32).at[number_W].add(size_W)
    end_W = jnp.cumsum(size_W)
    order_W = jax.random.permutation(order_key, W)
    draw_W = jax.random.uniform(length_key, (W,))
    chance_N = 1 / jnp.arange(1, LONGEST + 1)

    def unfinished(state):
        taken_W, iteration = state
        return (iteration < W) & (size_W.sum(where=taken_W) < budget)

    def take(state):
        taken_W, iteration = state
        first = order_W[iteration]
        max_words = jnp.minimum(LONGEST, count - first)  # words up to the end of the text
        cumulative_N = jnp.cumsum(jnp.where(jnp.arange(LONGEST) < max_words, chance_N, 0))
        drawn = 1 + (draw_W[iteration] * cumulative_N[-1] >= cumulative_N[:-1]).sum()
        remaining = budget - size_W.sum(where=taken_W)
        before = end_W[first] - size_W[first]
        reached_N = end_W[jnp.minimum(first + jnp.arange(LONGEST), W - 1)] - before
        fits = (
            reached_N <= remaining
        ).sum()  # the sums increase, so this counts the shortest n-grams
        length = jnp.minimum(drawn, fits)
        word_W = jnp.arange(W)
        gram_W = (first <= word_W) & (word_W < first + length)
        free = (first < count) & ~(gram_W & taken_W).any()
        return taken_W | (gram_W & free), iteration + 1

    taken_W, _ = jax.lax.while_loop(unfinished, take, (jnp.zeros(W, bool), 0))
    return candidates_L & taken_W[number_W[word_L - 1]]
