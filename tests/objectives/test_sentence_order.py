"""Masked n-grams against a slow loop over words."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import shapes
from train.objectives.sentence_order import LONGEST, SentenceOrder, choose_ngrams

V, MASK, CLS, SEP, P = 500, 4, 2, 3, 8
OBJECTIVE = SentenceOrder(V, MASK, (CLS, SEP), P)


def pair(seed=0, length=48, real=44):
    """Return [CLS] A [SEP] B [SEP] of words of one to four tokens, and padding."""
    random = np.random.default_rng(seed)
    tokens = random.integers(10, V, length).astype(np.int32)
    words = random.random(length) < 0.5
    specials = [0, real // 2, real - 1]
    tokens[specials] = [CLS, SEP, SEP]
    words[specials] = False
    words[[1, real // 2 + 1]] = True
    mask = np.arange(length) < real
    return {
        "tokens": np.where(mask, tokens, 0).astype(np.int32),
        "words": words & mask,
        "mask": mask,
        "segments": (np.arange(length) > real // 2).astype(np.int32),
        "order": np.int32(1),
    }


def slow_choose_ngrams(key, candidates, word, budget):
    """Run the loop of the released code, with the random numbers of `choose_ngrams`."""
    order_key, length_key = jax.random.split(key)
    count = len(word)
    order = np.asarray(jax.random.permutation(order_key, count))
    draws = np.asarray(jax.random.uniform(length_key, (count,)))
    words = [
        [i for i in range(count) if word[i] == n and candidates[i]]
        for n in sorted({word[i] for i in range(count) if candidates[i]})
    ]
    covered = set()
    for turn, first in enumerate(order):
        if first >= len(words):
            continue
        available = min(LONGEST, len(words) - first)
        probabilities = np.array([1 / n for n in range(1, available + 1)])
        n = 1 + int((draws[turn] >= np.cumsum(probabilities / probabilities.sum())[:-1]).sum())
        while n and len(covered) + sum(map(len, words[first : first + n])) > budget:
            n -= 1
        gram = {i for part in words[first : first + n] for i in part}
        if gram and not gram & covered:
            covered |= gram
    return np.isin(np.arange(count), list(covered))


@pytest.mark.parametrize("seed", range(8))
def test_chosen_ngrams_are_those_of_a_slow_loop(seed):
    example = pair(seed)
    word = np.cumsum(example["words"])
    candidates = example["mask"] & ~np.isin(example["tokens"], [CLS, SEP])
    fast = jax.jit(choose_ngrams)
    for number in range(20):
        key = jax.random.key(100 * seed + number)
        chosen = np.asarray(fast(key, candidates, word, 7))
        assert (chosen == slow_choose_ngrams(key, candidates, word, 7)).all()
        assert chosen.sum() <= 7


def test_lengths_are_drawn_in_proportion_to_one_over_n():
    length = 40
    candidates, word = np.ones(length, bool), np.arange(length) + 1
    keys = jax.random.split(jax.random.key(0), 4000)
    chosen = np.asarray(
        jax.jit(jax.vmap(choose_ngrams, (0, None, None, None)))(keys, candidates, word, 3)
    )
    # The first n-gram is the only one if it has three words, or if the rest is adjacent to it.
    counts = Counter()
    for row in chosen:
        runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], row, [0]])))[::1])[::2]
        counts[tuple(sorted(runs.tolist()))] += 1
    # One 3-gram: 2/11; rarely, in a few of forty cases, adjacent 1+2, 2+1 or 1+1+1 too.
    assert abs(counts[(3,)] / 4000 - 2 / 11) < 0.06
    assert counts[(1, 2)] > counts[(3,)]
    assert all(sum(runs) == 3 for runs in counts)


def test_a_pair_keeps_its_order_its_special_tokens_and_its_budget():
    example = pair()
    keys = jax.random.split(jax.random.key(1), 200)
    corrupted = jax.jit(jax.vmap(OBJECTIVE.corrupt, (0, None)))(keys, example)
    weighted = np.asarray(corrupted["weights"]["masked"]) > 0
    budget = max(1, round(0.15 * example["mask"].sum()))
    assert (weighted.sum(1) <= budget).all()
    assert weighted.sum(1).mean() > budget - 0.5
    positions = np.asarray(corrupted["predictions"])[weighted]
    assert not np.isin(example["tokens"][positions], [CLS, SEP, 0]).any()
    assert (np.asarray(corrupted["targets"])[weighted] == example["tokens"][positions]).all()
    assert (np.asarray(corrupted["order"]) == 1).all()
    assert (np.asarray(corrupted["weights"]["order"]) == 1).all()
    changed = np.asarray(corrupted["tokens"]) != example["tokens"]
    for row in range(200):
        assert set(np.flatnonzero(changed[row])) <= set(
            np.asarray(corrupted["predictions"])[row][weighted[row]]
        )


def test_names_agree_with_shapes():
    with shapes.checked() as places:
        jax.eval_shape(OBJECTIVE.corrupt, jax.random.key(0), jax.tree.map(jnp.asarray, pair()))
    assert any("choose_ngrams.<locals>.take:gram_W" in place for place in places)
