from itertools import pairwise, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zoo.layers import crf

B, L, C = 3, 6, 4
# Words at some positions only; the second row begins and ends with other tokens.
WORDS = np.array([[1, 1, 1, 1, 0, 0], [0, 1, 0, 1, 1, 0], [1, 0, 0, 0, 0, 0]], bool)


@pytest.fixture(scope="module")
def drawn():
    draw = np.random.default_rng(0)
    logits = draw.normal(0, 1, (B, L, C)).astype(np.float32)
    params = {
        name: draw.normal(0, 1, shape).astype(np.float32)
        for name, shape in {"transitions": (C, C), "first": (C,), "last": (C,)}.items()
    }
    return logits, params


def potentials(drawn, words=WORDS):
    logits, params = drawn
    return crf.CRF(C).apply({"params": params}, logits, jnp.asarray(words))


def scores(drawn, row):
    """The score of every sequence of tags, by Lample et al. 2016, equation 1."""
    logits, params = drawn
    at = np.flatnonzero(WORDS[row])
    result = {}
    for tags in product(range(C), repeat=len(at)):
        score = params["first"][tags[0]] + params["last"][tags[-1]]
        score += sum(logits[row, position, tag] for position, tag in zip(at, tags, strict=True))
        score += sum(params["transitions"][a, b] for a, b in pairwise(tags))
        result[tags] = score
    return result


def test_the_likelihood_is_that_of_all_sequences_enumerated(drawn):
    tags = np.random.default_rng(1).integers(0, C, (B, L))
    losses = crf.negative_log_likelihood(potentials(drawn), jnp.asarray(tags), jnp.asarray(WORDS))
    for row in range(B):
        of_row = scores(drawn, row)
        total = np.logaddexp.reduce(list(of_row.values()))
        expected = total - of_row[tuple(tags[row][WORDS[row]].tolist())]
        np.testing.assert_allclose(losses[row], expected, rtol=1e-5)


def test_the_best_tags_and_the_probabilities_are_those_of_all_sequences_enumerated(drawn):
    arrays = np.asarray(potentials(drawn))
    for row in range(B):
        of_row, words = scores(drawn, row), arrays[row][WORDS[row]]
        assert tuple(crf.best_tags(words).tolist()) == max(of_row, key=of_row.get)
        expected = np.zeros((WORDS[row].sum(), C))
        total = np.logaddexp.reduce(list(of_row.values()))
        for tags, score in of_row.items():
            expected[np.arange(len(tags)), tags] += np.exp(score - total)
        np.testing.assert_allclose(crf.marginals(words), expected, atol=1e-5)


def test_the_gradient_is_finite_and_none_comes_from_tokens_that_are_no_words(drawn):
    logits, params = drawn
    tags = jnp.zeros((B, L), jnp.int32)

    def loss(logits):
        pairs = crf.CRF(C).apply({"params": params}, logits, jnp.asarray(WORDS))
        return crf.negative_log_likelihood(pairs, tags, jnp.asarray(WORDS)).sum()

    gradient = jax.grad(loss)(jnp.asarray(logits))
    assert np.isfinite(gradient).all()
    assert (np.abs(gradient).sum(-1) > 0).tolist() == WORDS.tolist()


def test_a_row_without_words_has_no_loss(drawn):
    words = np.zeros((B, L), bool)
    pairs = potentials(drawn, words)
    losses = crf.negative_log_likelihood(pairs, jnp.zeros((B, L), jnp.int32), jnp.asarray(words))
    np.testing.assert_array_equal(losses, 0)
