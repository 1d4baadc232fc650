"""Cross-entropy in chunks against log_softmax of all logits at once."""

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


def ours(unprojected, targets_BL, weights_BL):
    term = cross_entropy(UnprojectedLogits(*unprojected), targets_BL, weights_BL)
    return term.loss, term.right


def plain(unprojected, targets_BL, weights_BL):
    x_BLD, table_VD, bias_V = unprojected
    logits_BLV = jnp.einsum("bld,vd->blv", x_BLD, table_VD.astype("float32")) + bias_V
    logs_BLV = jax.nn.log_softmax(logits_BLV)
    losses_BL = -(jax.nn.one_hot(targets_BL, V) * logs_BLV).sum(-1)
    right_BL = logits_BLV.argmax(-1) == targets_BL
    return (weights_BL * losses_BL).sum(), (weights_BL * right_BL).sum()


def loss_and_gradients(function, unprojected, *rest, scale=1.0):
    scaled = lambda unprojected: (
        scale * function(unprojected, *rest)[0],
        function(unprojected, *rest)[1],
    )
    return jax.value_and_grad(scaled, has_aux=True)(unprojected)


@pytest.mark.parametrize("tokens_per_chunk", [1, 3, 7, 12, 256])
def test_loss_accuracy_and_gradients_are_those_of_log_softmax(tokens_per_chunk, monkeypatch):
    monkeypatch.setattr(module, "TOKENS_PER_CHUNK", tokens_per_chunk)
    arguments = inputs()
    (loss, right), gradients = loss_and_gradients(ours, *arguments, scale=0.3)
    (expected, expected_right), expected_gradients = loss_and_gradients(
        plain, *arguments, scale=0.3
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    np.testing.assert_allclose(right, expected_right, rtol=1e-6)
    assert float(expected_right) > 0
    for gradient, expected in zip(gradients, expected_gradients, strict=True):
        assert gradient.dtype == expected.dtype
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


def test_the_number_of_chunks_is_the_smallest_that_divides_the_length(monkeypatch):
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


def test_a_prime_length_is_split_into_single_positions(monkeypatch):
    monkeypatch.setattr(module, "TOKENS_PER_CHUNK", 4)
    (x_BLD, *head), targets_BL, weights_BL = inputs()
    short = ((x_BLD[:, :11], *head), targets_BL[:, :11], weights_BL[:, :11])
    assert module._split_into_chunks(x_BLD[:, :11], *short[1:])[0].shape == (11, B, 1, D)
    np.testing.assert_allclose(ours(*short), plain(*short), rtol=1e-6)


def test_positions_without_weight_change_nothing_and_get_no_gradient():
    unprojected, targets_BL, weights_BL = inputs()
    unweighted_BL = weights_BL == 0
    assert unweighted_BL.any()
    other_targets_BL = jnp.where(unweighted_BL, (targets_BL + 1) % V, targets_BL)
    assert ours(unprojected, targets_BL, weights_BL) == ours(
        unprojected, other_targets_BL, weights_BL
    )
    _, (x_gradient_BLD, _, _) = loss_and_gradients(ours, unprojected, targets_BL, weights_BL)
    assert not x_gradient_BLD[unweighted_BL].any()
    assert (jnp.abs(x_gradient_BLD[~unweighted_BL]).max(-1) > 0).all()


def test_no_bias_equals_a_bias_of_zero():
    (x_BLD, table_VD, bias_V), *rest = inputs()
    without = ours((x_BLD, table_VD, 0.0), *rest)
    assert without == ours((x_BLD, table_VD, jnp.zeros_like(bias_V)), *rest)


def test_a_bfloat16_table_gives_the_loss_and_gradients_of_its_rounded_values():
    unprojected, *rest = inputs("bfloat16")
    # The products round x as well; the reference must use the same values.
    rounded = (unprojected[0].astype("bfloat16").astype("float32"), *unprojected[1:])
    (loss, right), gradients = loss_and_gradients(ours, unprojected, *rest)
    (expected, expected_right), expected_gradients = loss_and_gradients(plain, rounded, *rest)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(right, expected_right, rtol=1e-6)
    assert [g.dtype for g in gradients] == ["float32", "bfloat16", "float32"]
    for gradient, expected in zip(gradients, expected_gradients, strict=True):
        gradient, expected = np.float32(gradient), np.float32(expected)
        assert np.linalg.norm(gradient - expected) < 2**-8 * np.linalg.norm(expected)


def test_logits_of_any_size_stay_finite():
    (x_BLD, table_VD, bias_V), *rest = inputs()
    large = (1e4 * x_BLD, table_VD, bias_V)
    loss_and_right, gradients = loss_and_gradients(ours, large, *rest)
    np.testing.assert_allclose(loss_and_right, plain(large, *rest), rtol=1e-5)
    assert all(jnp.isfinite(gradient).all() for gradient in gradients)


def test_it_works_under_jit_and_inside_a_sum_with_other_losses():
    arguments = inputs()
    gradient_of = lambda f: jax.jit(
        jax.grad(
            lambda unprojected: f(unprojected, *arguments[1:])[0] ** 2 + (unprojected[0] ** 2).sum()
        )
    )
    for actual, expected in zip(
        gradient_of(ours)(arguments[0]), gradient_of(plain)(arguments[0]), strict=True
    ):
        np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-4)


def test_classification_has_the_same_loss_and_accuracy():
    random = np.random.default_rng(0)
    logits_BC = jnp.asarray(random.normal(size=(9, 3)), "float32")
    targets_B = jnp.asarray(random.integers(3, size=9))
    weights_B = jnp.asarray(random.random(9), "float32")
    exponentials = np.exp(np.float64(logits_BC))
    probabilities = exponentials[np.arange(9), targets_B] / exponentials.sum(-1)
    term = classify(logits_BC, targets_B, weights_B)
    np.testing.assert_allclose(term.loss, -(weights_B * np.log(probabilities)).sum(), rtol=1e-6)
    right = np.float64(weights_B)[np.argmax(logits_BC, -1) == targets_B].sum()
    np.testing.assert_allclose(term.right, right, rtol=1e-6)
