"""Cross-entropy in chunks against the whole logits and jax's own log_softmax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.objectives import cross_entropy as module
from train.objectives.cross_entropy import classify, cross_entropy
from zoo.layers.embedding import UnprojectedLogits

B, L, D, V = 3, 12, 8, 37


def inputs(dtype="float32", seed=0):
    random = np.random.default_rng(seed)
    x_BLD = jnp.asarray(random.normal(size=(B, L, D)), "float32")
    table_VD = jnp.asarray(random.normal(size=(V, D)), dtype)
    bias_V = jnp.asarray(random.normal(size=V), "float32")
    targets_BL = jnp.asarray(random.integers(V, size=(B, L)))
    weights_BL = jnp.asarray(random.random((B, L)) * (random.random((B, L)) < 0.7), "float32")
    return (x_BLD, table_VD, bias_V), targets_BL, weights_BL


def ours(scores, targets_BL, weights_BL):
    found = cross_entropy(UnprojectedLogits(*scores), targets_BL, weights_BL)
    return found.loss, found.right


def plain(scores, targets_BL, weights_BL):
    x_BLD, table_VD, bias_V = scores
    logits_BLV = jnp.einsum("bld,vd->blv", x_BLD, table_VD.astype("float32")) + bias_V
    logs_BLV = jax.nn.log_softmax(logits_BLV)
    losses_BL = -(jax.nn.one_hot(targets_BL, V) * logs_BLV).sum(-1)
    right_BL = logits_BLV.argmax(-1) == targets_BL
    return (weights_BL * losses_BL).sum(), (weights_BL * right_BL).sum()


def loss_and_gradients(function, scores, *rest, scale=1.0):
    scaled = lambda scores: (scale * function(scores, *rest)[0], function(scores, *rest)[1])
    return jax.value_and_grad(scaled, has_aux=True)(scores)


@pytest.mark.parametrize("tokens_per_chunk", [1, 3, 7, 12, 256])
def test_loss_accuracy_and_gradients_are_those_of_log_softmax(tokens_per_chunk, monkeypatch):
    monkeypatch.setattr(module, "TOKENS_PER_CHUNK", tokens_per_chunk)
    arguments = inputs()
    (loss, right), gradients = loss_and_gradients(ours, *arguments, scale=0.3)
    (wanted, wanted_right), wanted_gradients = loss_and_gradients(plain, *arguments, scale=0.3)
    np.testing.assert_allclose(loss, wanted, rtol=1e-6)
    np.testing.assert_allclose(right, wanted_right, rtol=1e-6)
    assert float(wanted_right) > 0
    for gradient, wanted in zip(gradients, wanted_gradients, strict=True):
        assert gradient.dtype == wanted.dtype
        np.testing.assert_allclose(gradient, wanted, rtol=1e-5, atol=1e-6)


def test_the_number_of_chunks_is_the_least_that_divides_the_length(monkeypatch):
    lengths = {}
    for tokens_per_chunk in (1, 5, 7, 18, 36):
        monkeypatch.setattr(module, "TOKENS_PER_CHUNK", tokens_per_chunk)
        lengths[tokens_per_chunk] = module._split_into_chunks(*[jnp.zeros((B, L, 1))] * 3)[0].shape[
            :3
        ]
    assert lengths == {
        1: (12, 3, 1),
        5: (12, 3, 1),
        7: (6, 3, 2),
        18: (2, 3, 6),
        36: (1, 3, 12),
    }


def test_a_length_that_is_prime_is_cut_into_single_positions(monkeypatch):
    monkeypatch.setattr(module, "TOKENS_PER_CHUNK", 4)
    (x_BLD, *head), targets_BL, weights_BL = inputs()
    short = ((x_BLD[:, :11], *head), targets_BL[:, :11], weights_BL[:, :11])
    assert module._split_into_chunks(x_BLD[:, :11], *short[1:])[0].shape == (11, B, 1, D)
    np.testing.assert_allclose(ours(*short), plain(*short), rtol=1e-6)


def test_positions_without_weight_give_nothing_and_get_no_gradient():
    scores, targets_BL, weights_BL = inputs()
    hidden_BL = weights_BL == 0
    assert hidden_BL.any()
    other_BL = jnp.where(hidden_BL, (targets_BL + 1) % V, targets_BL)
    assert ours(scores, targets_BL, weights_BL) == ours(scores, other_BL, weights_BL)
    _, (x_gradient_BLD, _, _) = loss_and_gradients(ours, scores, targets_BL, weights_BL)
    assert not x_gradient_BLD[hidden_BL].any()
    assert (jnp.abs(x_gradient_BLD[~hidden_BL]).max(-1) > 0).all()


def test_no_bias_is_a_bias_of_zero():
    (x_BLD, table_VD, bias_V), *rest = inputs()
    without = ours((x_BLD, table_VD, 0.0), *rest)
    assert without == ours((x_BLD, table_VD, jnp.zeros_like(bias_V)), *rest)


def test_a_bfloat16_table_gives_the_loss_and_gradients_of_its_rounded_values():
    scores, *rest = inputs("bfloat16")
    # The products see x rounded as well; the reference must see the same numbers.
    rounded = (scores[0].astype("bfloat16").astype("float32"), *scores[1:])
    (loss, right), gradients = loss_and_gradients(ours, scores, *rest)
    (wanted, wanted_right), wanted_gradients = loss_and_gradients(plain, rounded, *rest)
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)
    np.testing.assert_allclose(right, wanted_right, rtol=1e-6)
    assert [g.dtype for g in gradients] == ["float32", "bfloat16", "float32"]
    for gradient, wanted in zip(gradients, wanted_gradients, strict=True):
        gradient, wanted = np.float32(gradient), np.float32(wanted)
        assert np.linalg.norm(gradient - wanted) < 2**-8 * np.linalg.norm(wanted)


def test_logits_of_any_size_stay_finite():
    (x_BLD, table_VD, bias_V), *rest = inputs()
    large = (1e4 * x_BLD, table_VD, bias_V)
    found, gradients = loss_and_gradients(ours, large, *rest)
    np.testing.assert_allclose(found, plain(large, *rest), rtol=1e-5)
    assert all(jnp.isfinite(gradient).all() for gradient in gradients)


def test_it_works_under_jit_and_inside_a_sum_with_other_losses():
    arguments = inputs()
    both = lambda f: jax.jit(
        jax.grad(lambda scores: f(scores, *arguments[1:])[0] ** 2 + (scores[0] ** 2).sum())
    )
    for found, wanted in zip(both(ours)(arguments[0]), both(plain)(arguments[0]), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-4)


def test_a_handful_of_classes_is_scored_the_same_way():
    random = np.random.default_rng(0)
    logits_BC = jnp.asarray(random.normal(size=(9, 3)), "float32")
    targets_B = jnp.asarray(random.integers(3, size=9))
    weights_B = jnp.asarray(random.random(9), "float32")
    odds = np.exp(np.float64(logits_BC))
    chances = odds[np.arange(9), targets_B] / odds.sum(-1)
    found = classify(logits_BC, targets_B, weights_B)
    np.testing.assert_allclose(found.loss, -(weights_B * np.log(chances)).sum(), rtol=1e-6)
    right = np.float64(weights_B)[np.argmax(logits_BC, -1) == targets_B].sum()
    np.testing.assert_allclose(found.right, right, rtol=1e-6)
