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
    """[CLS] A [SEP] B [SEP] of words of one to four tokens, and padding."""
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


def slow(key, candidates, word, budget):
    """The released code's loop, with the draws of `choose`."""
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
        room = min(LONGEST, len(words) - first)
        chances = np.array([1 / n for n in range(1, room + 1)])
        n = 1 + int((draws[turn] >= np.cumsum(chances / chances.sum())[:-1]).sum())
        while n and len(covered) + sum(map(len, words[first : first + n])) > budget:
            n -= 1
        gram = {i for part in words[first : first + n] for i in part}
        if gram and not gram & covered:
            covered |= gram
    return np.isin(np.arange(count), list(covered))


@pytest.mark.parametrize("seed", range(8))
def test_it_chooses_what_the_slow_loop_chooses(seed):
    example = pair(seed)
    word = np.cumsum(example["words"])
    candidates = example["mask"] & ~np.isin(example["tokens"], [CLS, SEP])
    fast = jax.jit(choose_ngrams)
    for number in range(20):
        key = jax.random.key(100 * seed + number)
        found = np.asarray(fast(key, candidates, word, 7))
        assert (found == slow(key, candidates, word, 7)).all()
        assert found.sum() <= 7


def test_lengths_are_drawn_in_proportion_to_one_over_n():
    length = 40
    candidates, word = np.ones(length, bool), np.arange(length) + 1
    keys = jax.random.split(jax.random.key(0), 4000)
    found = np.asarray(
        jax.jit(jax.vmap(choose_ngrams, (0, None, None, None)))(keys, candidates, word, 3)
    )
    # The first n-gram is the whole choice where it is three words, or where the rest is one piece.
    together = Counter()
    for row in found:
        runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], row, [0]])))[::1])[::2]
        together[tuple(sorted(runs.tolist()))] += 1
    # A 3-gram alone: 2/11; also 1+2 or 2+1 or 1+1+1 side by side, rarely: a few parts in forty.
    assert abs(together[(3,)] / 4000 - 2 / 11) < 0.06
    assert together[(1, 2)] > together[(3,)]
    assert all(sum(runs) == 3 for runs in together)


def test_a_pair_keeps_its_order_its_specials_and_its_budget():
    example = pair()
    keys = jax.random.split(jax.random.key(1), 200)
    found = jax.jit(jax.vmap(OBJECTIVE.corrupt, (0, None)))(keys, example)
    used = np.asarray(found["weights"]["masked"]) > 0
    budget = max(1, round(0.15 * example["mask"].sum()))
    assert (used.sum(1) <= budget).all()
    assert used.sum(1).mean() > budget - 0.5
    places = np.asarray(found["predictions"])[used]
    assert not np.isin(example["tokens"][places], [CLS, SEP, 0]).any()
    assert (np.asarray(found["targets"])[used] == example["tokens"][places]).all()
    assert (np.asarray(found["order"]) == 1).all()
    assert (np.asarray(found["weights"]["order"]) == 1).all()
    changed = np.asarray(found["tokens"]) != example["tokens"]
    for row in range(200):
        assert set(np.flatnonzero(changed[row])) <= set(
            np.asarray(found["predictions"])[row][used[row]]
        )


def test_names_tell_shapes():
    with shapes.checked() as seen:
        jax.eval_shape(OBJECTIVE.corrupt, jax.random.key(0), jax.tree.map(jnp.asarray, pair()))
    assert any("choose_ngrams.<locals>.take:gram_W" in place for place in seen)
