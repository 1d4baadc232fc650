"""The neural cache is the formula of Grave et al. 2016, one token at a time."""

import functools

import jax
import numpy as np
import pytest

from tests import shapes, tiny
from train.objectives.causal_cached import CachedCausal, mixture
from train.objectives.causal_stateful import StatefulCausal
from train.step import corrupt
from zoo.models import rnn

END, ROWS, TOKENS = 60, 2, 25
MODEL = rnn.RNNLM(rnn.Config(vocab_size=tiny.V, num_layers=2, width=8, dropout=0.0, embed_width=6))
KEY = jax.random.key(0)


def tokens():
    return np.random.default_rng(0).integers(48, END + 1, (ROWS, TOKENS))  # few words, some ends


def windows(tokens_BL, length, padding=0):
    """Yield the windows of rows that start a stream, the last of them padded."""
    for start in range(0, TOKENS - 1, length):
        window_BL = tokens_BL[:, start : start + length + 1]
        padded_BL = np.pad(window_BL, ((0, 0), (0, length + 1 - window_BL.shape[1] + padding)))
        mask_BL = np.arange(padded_BL.shape[1]) < np.full((ROWS, 1), window_BL.shape[1])
        yield {"tokens": padded_BL, "mask": mask_BL, "fresh": np.full(ROWS, start == 0)}


@functools.partial(jax.jit, static_argnums=0)
def window_loss(objective, params, batch, carry):
    example = corrupt(objective, KEY, batch)
    return objective.loss(MODEL, params, example, carry, KEY, train=False)


def evaluated(objective, batches):
    """Return loss and number of correct predictions."""
    carry, sums = objective.initial_carry(MODEL, ROWS), np.zeros(2)
    for batch in batches:
        terms, carry = window_loss(objective, tiny.wide(MODEL), batch, carry)
        sums += np.array(terms["token"])
    return sums


def formula(tokens_L, window, theta, weight):
    """Return loss and number of correct predictions of one row, in NumPy."""
    documents_1L = 1 + np.cumsum(tokens_L[None, :-1] == END, 1) + (tokens_L[0] != END)
    params = {"params": tiny.wide(MODEL)}
    unprojected, _ = MODEL.apply(params, tokens_L[None, :-1], documents_1L, method="unprojected")
    h, logits = np.float64(unprojected.x_BLD[0]), np.float64(unprojected.logits()[0])
    loss = right = 0
    for t in range(TOKENS - 1):
        p = np.exp(logits[t]) / np.exp(logits[t]).sum()
        before = range(max(0, t - window), t)
        if t:
            p_cache = np.zeros(tiny.V)
            for i in before:
                p_cache[tokens_L[i + 1]] += np.exp(theta * h[t] @ h[i])
            p = (1 - weight) * p + weight * p_cache / p_cache.sum()
        loss -= np.log(p[tokens_L[t + 1]])
        right += p.argmax() == tokens_L[t + 1]
    return loss, right


@pytest.mark.parametrize(
    ("window", "theta", "weight"), [(4, 1.0, 0.3), (11, 0.0, 0.9), (50, 3.0, 0.5)]
)
@pytest.mark.parametrize("length", [5, 24])
def test_the_loss_is_that_of_the_formula(window, theta, weight, length):
    objective = CachedCausal(END, window, theta, weight)
    with shapes.checked() as places:
        sums = evaluated(objective, windows(tokens(), length))
    assert any("causal_cached" in place for place in places)
    expected = sum(np.array(formula(row, window, theta, weight)) for row in tokens())
    np.testing.assert_allclose(sums, expected, rtol=1e-5)
    without = evaluated(StatefulCausal(END), windows(tokens(), length))
    assert abs(sums - without)[0] > 1


def test_padding_changes_nothing():
    objective = CachedCausal(END, 7, 1.0, 0.3)
    sums = evaluated(objective, windows(tokens(), 24))
    np.testing.assert_allclose(evaluated(objective, windows(tokens(), 24, 9)), sums, rtol=1e-5)


def test_a_fresh_row_empties_its_own_cache_alone():
    objective = CachedCausal(END, 7, 1.0, 0.3)
    batches = list(windows(tokens(), 12))

    def second(fresh):
        carry, terms = objective.initial_carry(MODEL, ROWS), {}
        for batch in (batches[0], batches[1] | {"fresh": np.array(fresh)}):
            terms, carry = window_loss(objective, tiny.wide(MODEL), batch, carry)
        return float(terms["token"].loss)

    alone, _ = window_loss(
        objective,
        tiny.wide(MODEL),
        batches[1] | {"fresh": np.full(ROWS, True)},
        objective.initial_carry(MODEL, ROWS),
    )
    assert second([True, True]) == pytest.approx(float(alone["token"].loss), rel=1e-5)
    assert abs(second([True, False]) - second([True, True])) > 1e-3


def test_an_improbable_word_has_a_finite_loss():
    logits = np.array([[0.0, 300.0]], np.float32)
    losses, right = mixture(logits, np.zeros((1, 2)), np.full((1, 1), 0.1), np.array([0]))
    assert float(losses[0]) == pytest.approx(300 - np.log(0.9), rel=1e-6)
    assert not right[0]
