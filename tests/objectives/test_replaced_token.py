"""Replaced-token detection: what is masked, sampled and predicted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import shapes, tiny
from tests.wide import relative
from train.objectives.replaced_token import MASKED_RATE, ReplacedToken, detection
from zoo.layers.embedding import UnprojectedLogits
from zoo.params import flatten

CLS, SEP, MASK, P = 2, 3, 4, 6
OBJECTIVE = ReplacedToken(tiny.V, MASK, (CLS, SEP), P)
ROW = tiny.TABLE["electra"]


def example(seed=0, length=32, real=29):
    random = np.random.default_rng(seed)
    tokens = random.integers(5, tiny.V, length).astype(np.int32)
    tokens[[0, 20, real - 1]] = [CLS, SEP, SEP]
    mask = np.arange(length) < real
    segments = (np.arange(length) > 20).astype(np.int32)
    return {
        "tokens": np.where(mask, tokens, 0).astype(np.int32),
        "mask": mask,
        "segments": segments,
    }


def corrupt_copies(count, seed=0):
    keys = jax.random.split(jax.random.key(seed), count)
    return jax.jit(jax.vmap(OBJECTIVE.corrupt, (0, None)))(keys, example())


class Stub:
    """A model whose generator always predicts the given tokens, and which records the inputs."""

    def __init__(self, words_BP):
        self.words_BP = words_BP

    def apply(self, variables, *inputs, method, **options):
        if method == "generator_unprojected":
            return UnprojectedLogits(
                1e3 * jax.nn.one_hot(self.words_BP, tiny.V), jnp.eye(tiny.V), 0.0
            )
        self.seen = inputs[0]
        return jnp.ones(inputs[0].shape)


def test_only_words_of_the_text_are_selected_and_most_are_replaced_by_the_mask_token():
    batch = jax.tree.map(np.asarray, corrupt_copies(500))
    weighted = batch["weights"]["masked"] > 0
    original = example()["tokens"]
    positions = batch["predictions"]
    assert (weighted.sum(1) == max(1, round(0.15 * 29))).all()
    for row in range(500):
        selected = positions[row][weighted[row]]
        assert len(set(selected)) == len(selected)
        assert not np.isin(original[selected], [CLS, SEP, 0]).any()
        assert (batch["targets"][row][weighted[row]] == original[selected]).all()
        not_selected = np.setdiff1d(np.arange(32), selected)
        assert (batch["hidden"][row][not_selected] == original[not_selected]).all()
        inputs = batch["hidden"][row][selected]
        assert np.isin(inputs[inputs != MASK], original).all()
    assert (batch["tokens"] == original).all()
    masked = np.take_along_axis(batch["hidden"], positions, 1)[weighted] == MASK
    assert abs(masked.mean() - MASKED_RATE) < 4 * np.sqrt(0.15 * 0.85 / masked.size)
    assert (batch["weights"]["replaced"] == example()["mask"]).all()


def test_a_sample_equal_to_the_original_token_counts_as_original():
    batch = corrupt_copies(8)
    loss = lambda model: OBJECTIVE.loss(model, {}, batch, (), jax.random.key(0), train=True)[0]
    correct_model = Stub(batch["targets"])
    terms = loss(correct_model)
    assert (correct_model.seen == batch["tokens"]).all()
    real = float(batch["weights"]["replaced"].sum())
    assert terms["replaced"].right == 0  # the stub predicts "replaced" for every token
    assert terms["masked"].right == batch["weights"]["masked"].sum()
    wrong_model = Stub((batch["targets"] + 1) % tiny.V)
    terms = loss(wrong_model)
    num_masked = float(batch["weights"]["masked"].sum())
    assert terms["replaced"].right == num_masked
    assert (wrong_model.seen != batch["tokens"]).sum() == num_masked
    expected = num_masked * np.log1p(np.exp(-1)) + (real - num_masked) * np.log1p(np.exp(1))
    assert relative(terms["replaced"].loss, expected) < 1e-5


def test_the_loss_of_the_discriminator_trains_the_generator_only_through_the_embeddings():
    model, params = ROW.model, tiny.wide(ROW.model)
    batch = corrupt_copies(4)

    def loss(params, name):
        key = jax.random.key(0)
        return OBJECTIVE.loss(model, params, batch, (), key, train=True)[0][name].loss

    gradients = {
        n: flatten(jax.jit(jax.grad(loss), static_argnums=1)(params, n))
        for n in ("masked", "replaced")
    }
    for path in gradients["masked"]:
        largest = {
            name: float(jnp.abs(gradient[path]).max()) for name, gradient in gradients.items()
        }
        if path.startswith(("generator/", "masked_head/")):
            assert largest["replaced"] == 0
        elif path.startswith(("discriminator/", "replaced_head/")):
            assert largest["masked"] == 0
        else:
            assert path.startswith("embeddings/")
            assert min(largest.values()) > 0


def test_samples_follow_the_generator():
    """Check that samples from a generator with odds of three to one have that ratio."""
    batch = corrupt_copies(400)
    token_logits = jnp.zeros(tiny.V).at[jnp.array([7, 8])].set(jnp.log(jnp.array([3.0, 1.0])) + 100)

    class FixedLogits(Stub):
        def apply(self, variables, *inputs, method, **options):
            if method == "generator_unprojected":
                x_BPD = jnp.ones((*self.words_BP.shape, 1))
                return UnprojectedLogits(x_BPD, token_logits[:, None], 0.0)
            return super().apply(variables, *inputs, method=method, **options)

    model = FixedLogits(batch["targets"])
    OBJECTIVE.loss(model, {}, batch, (), jax.random.key(0), train=True)
    sampled = np.asarray(jnp.take_along_axis(model.seen, batch["predictions"], 1))
    sampled = sampled[np.asarray(batch["weights"]["masked"]) > 0]
    assert set(sampled.tolist()) == {7, 8}
    assert abs((sampled == 7).mean() - 0.75) < 4 * np.sqrt(0.1875 / len(sampled))


@pytest.mark.parametrize("logit", [-40.0, -1.0, 0.0, 2.0, 40.0])
def test_detection_is_binary_cross_entropy(logit):
    one = jnp.ones((1, 1))
    for replaced in (False, True):
        term = detection(logit * one, one == replaced, one)
        exact = np.log1p(np.exp(-abs(logit))) + max(0.0, -logit if replaced else logit)
        assert abs(float(term.loss) - exact) < 1e-5


def test_names_agree_with_shapes():
    with shapes.checked() as places:
        jax.eval_shape(OBJECTIVE.corrupt, jax.random.key(0), example())
        jax.eval_shape(
            lambda params: OBJECTIVE.loss(
                ROW.model, params, corrupt_copies(2), (), jax.random.key(0), train=True
            ),
            tiny.wide(ROW.model),
        )
    assert "replaced_token.py:ReplacedToken.loss:drawn_BP" in places
