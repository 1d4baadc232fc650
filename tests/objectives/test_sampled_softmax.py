"""The sampled softmax against a formula in NumPy, and against the full softmax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import shapes
from tests.wide import draw, relative
from train.objectives import sampled_softmax
from train.objectives.causal import Causal
from train.objectives.cross_entropy import cross_entropy
from train.objectives.sampled_softmax import Samples, sampled_cross_entropy, token_loss
from train.step import corrupt
from zoo.layers.embedding import UnprojectedLogits

B, L, D, V = 2, 5, 4, 40
TARGETS = np.random.default_rng(0).integers(0, V, (B, L))
WEIGHTS = np.random.default_rng(1).random((B, L)).astype(np.float32)
UNPROJECTED = UnprojectedLogits(draw(B, L, D), draw(V, D, seed=1), draw(V, seed=2))
KEY = jax.random.key(3)


def test_the_loss_is_the_formula():
    ids = np.array([0, 7, TARGETS[0, 0], 31, TARGETS[1, 2]])
    log_counts = np.log(np.random.default_rng(2).uniform(0.1, 1, V)).astype(np.float32)
    with shapes.checked():
        term = sampled_cross_entropy(
            UNPROJECTED, jnp.asarray(TARGETS), WEIGHTS, Samples(jnp.asarray(ids), log_counts)
        )
    logits = np.asarray(UNPROJECTED.logits(), np.float64)
    loss, right = 0.0, 0.0
    for at in np.ndindex(B, L):
        others = [number for number in ids if number != TARGETS[at]]
        scores = logits[at] - log_counts
        among = np.exp(scores[[TARGETS[at], *others]])
        loss -= WEIGHTS[at] * np.log(among[0] / among.sum())
        right += WEIGHTS[at] * (logits[at][TARGETS[at]] >= logits[at][others].max())
    assert float(term.loss) == pytest.approx(loss, rel=1e-5)
    assert float(term.right) == pytest.approx(right, rel=1e-5)


@pytest.mark.parametrize("samples", [V, V + 5])
def test_a_sample_of_the_whole_vocabulary_is_the_full_softmax(samples):
    full = lambda x: cross_entropy(x, TARGETS, WEIGHTS)
    sampled = lambda x: token_loss(x, TARGETS, WEIGHTS, samples, KEY)
    for expected, actual in zip(full(UNPROJECTED), sampled(UNPROJECTED), strict=True):
        assert float(actual) == pytest.approx(float(expected), rel=1e-5)
    gradients = [jax.grad(lambda x, f=f: f(x).loss)(UNPROJECTED) for f in (full, sampled)]
    for expected, actual in zip(*gradients, strict=True):
        assert relative(actual, expected) < 1e-5


def test_zero_samples_are_the_full_softmax():
    term = token_loss(UNPROJECTED, TARGETS, WEIGHTS, 0, KEY)
    assert float(term.loss) == float(cross_entropy(UNPROJECTED, TARGETS, WEIGHTS).loss)


def test_only_targets_and_samples_get_a_gradient():
    drawn = sampled_softmax.draw(KEY, 6, V)
    loss = lambda x: sampled_cross_entropy(x, TARGETS, WEIGHTS, drawn).loss
    gradient = jax.grad(loss)(UNPROJECTED)
    touched = np.zeros(V, bool)
    touched[TARGETS.ravel()] = touched[np.asarray(drawn.ids_N)] = True
    assert not touched.all()
    assert ((np.abs(gradient.table_VD).max(1) > 0) == touched).all()
    assert ((np.abs(gradient.bias_V) > 0) == touched).all()


def test_samples_are_distinct_and_the_expected_counts_are_those_of_the_draw():
    draws, N = 4000, 10
    ids, log_counts = jax.jit(
        jax.vmap(lambda key: sampled_softmax.draw(key, N, V)),
    )(jax.random.split(KEY, draws))
    assert ids.shape == (draws, N)
    assert all(len(set(row)) == N for row in np.asarray(ids)[:50].tolist())
    drawn = np.zeros((draws, V))
    np.put_along_axis(drawn, np.asarray(ids), 1, 1)
    # Weighted by their inverse expected counts, samples stand for the whole vocabulary.
    mean = (drawn / np.exp(log_counts)).mean(0)
    assert np.abs(mean - 1).max() < 0.15
    frequency = drawn.mean(0)
    assert (np.diff(frequency[[0, 3, 10, 39]]) < 0).all()  # frequent words more often


def test_the_gradient_of_the_loss_is_nearly_that_of_the_full_softmax():
    full = jax.grad(lambda x: cross_entropy(x, TARGETS, WEIGHTS).loss)(UNPROJECTED).x_BLD
    of_key = jax.vmap(
        lambda key: (
            jax.grad(lambda x: token_loss(x, TARGETS, WEIGHTS, 30, key).loss)(UNPROJECTED).x_BLD
        )
    )
    mean = jax.jit(of_key)(jax.random.split(KEY, 500)).mean(0)
    assert relative(mean, full) < 0.1


def test_causal_language_models_sample_in_training_alone():
    class Model:
        def apply(self, variables, tokens, *inputs, **options):
            return UNPROJECTED

    window = {"tokens": np.pad(TARGETS, ((0, 0), (1, 0))), "mask": np.ones((B, L + 1), bool)}
    example = corrupt(Causal(V), KEY, window)
    loss = lambda objective, train: float(
        objective.loss(Model(), {}, example, (), KEY, train=train)[0]["token"].loss
    )
    assert loss(Causal(V, samples=6), False) == loss(Causal(V), True)
    assert loss(Causal(V, samples=6), True) != loss(Causal(V), True)
