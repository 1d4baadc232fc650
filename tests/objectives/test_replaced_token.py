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


def corrupted(count, seed=0):
    keys = jax.random.split(jax.random.key(seed), count)
    return jax.jit(jax.vmap(OBJECTIVE.corrupt, (0, None)))(keys, example())


class Stub:
    """A model whose generator is certain of some words, and whose discriminator looks on."""

    def __init__(self, words_BP):
        self.words_BP = words_BP

    def apply(self, variables, *inputs, method, **options):
        if method == "generator_unprojected":
            return UnprojectedLogits(
                1e3 * jax.nn.one_hot(self.words_BP, tiny.V), jnp.eye(tiny.V), 0.0
            )
        self.seen = inputs[0]
        return jnp.ones(inputs[0].shape)


def test_it_hides_words_of_the_text_alone_and_most_of_them_behind_the_mask():
    found = jax.tree.map(np.asarray, corrupted(500))
    used = found["weights"]["masked"] > 0
    original = example()["tokens"]
    places = found["predictions"]
    assert (used.sum(1) == max(1, round(0.15 * 29))).all()
    for row in range(500):
        at = places[row][used[row]]
        assert len(set(at)) == len(at)
        assert not np.isin(original[at], [CLS, SEP, 0]).any()
        assert (found["targets"][row][used[row]] == original[at]).all()
        elsewhere = np.setdiff1d(np.arange(32), at)
        assert (found["hidden"][row][elsewhere] == original[elsewhere]).all()
        kept = found["hidden"][row][at]
        assert np.isin(kept[kept != MASK], original).all()
    assert (found["tokens"] == original).all()
    masked = np.take_along_axis(found["hidden"], places, 1)[used] == MASK
    assert abs(masked.mean() - MASKED_RATE) < 4 * np.sqrt(0.15 * 0.85 / masked.size)
    assert (found["weights"]["replaced"] == example()["mask"]).all()


def test_a_word_that_is_right_by_chance_counts_as_the_original():
    batch = corrupted(8)
    loss = lambda model: OBJECTIVE.loss(model, {}, batch, (), jax.random.key(0), train=True)[0]
    right = Stub(batch["targets"])
    terms = loss(right)
    assert (right.seen == batch["tokens"]).all()
    real = float(batch["weights"]["replaced"].sum())
    assert terms["replaced"].right == 0  # the stub says "replaced" of every token
    assert terms["masked"].right == batch["weights"]["masked"].sum()
    wrong = Stub((batch["targets"] + 1) % tiny.V)
    terms = loss(wrong)
    hidden = float(batch["weights"]["masked"].sum())
    assert terms["replaced"].right == hidden
    assert (wrong.seen != batch["tokens"]).sum() == hidden
    expected = hidden * np.log1p(np.exp(-1)) + (real - hidden) * np.log1p(np.exp(1))
    assert relative(terms["replaced"].loss, expected) < 1e-5


def test_the_discriminator_teaches_the_generator_nothing_but_the_embeddings():
    model, params = ROW.model, tiny.wide(ROW.model)
    batch = corrupted(4)

    def loss(params, name):
        key = jax.random.key(0)
        return OBJECTIVE.loss(model, params, batch, (), key, train=True)[0][name].loss

    gradients = {
        n: flatten(jax.jit(jax.grad(loss), static_argnums=1)(params, n))
        for n in ("masked", "replaced")
    }
    for path in gradients["masked"]:
        largest = {name: float(jnp.abs(found[path]).max()) for name, found in gradients.items()}
        if path.startswith(("generator/", "masked_head/")):
            assert largest["replaced"] == 0
        elif path.startswith(("discriminator/", "replaced_head/")):
            assert largest["masked"] == 0
        else:
            assert path.startswith("embeddings/")
            assert min(largest.values()) > 0


def test_draws_follow_the_generator():
    """A generator that gives two words three to one is drawn from three to one."""
    batch = corrupted(400)
    odds = jnp.zeros(tiny.V).at[jnp.array([7, 8])].set(jnp.log(jnp.array([3.0, 1.0])) + 100)

    class Odds(Stub):
        def apply(self, variables, *inputs, method, **options):
            if method == "generator_unprojected":
                x_BPD = jnp.ones((*self.words_BP.shape, 1))
                return UnprojectedLogits(x_BPD, odds[:, None], 0.0)
            return super().apply(variables, *inputs, method=method, **options)

    model = Odds(batch["targets"])
    OBJECTIVE.loss(model, {}, batch, (), jax.random.key(0), train=True)
    drawn = np.asarray(jnp.take_along_axis(model.seen, batch["predictions"], 1))
    drawn = drawn[np.asarray(batch["weights"]["masked"]) > 0]
    assert set(drawn.tolist()) == {7, 8}
    assert abs((drawn == 7).mean() - 0.75) < 4 * np.sqrt(0.1875 / len(drawn))


@pytest.mark.parametrize("logit", [-40.0, -1.0, 0.0, 2.0, 40.0])
def test_detection_is_binary_cross_entropy(logit):
    one = jnp.ones((1, 1))
    for replaced in (False, True):
        term = detection(logit * one, one == replaced, one)
        exact = np.log1p(np.exp(-abs(logit))) + max(0.0, -logit if replaced else logit)
        assert abs(float(term.loss) - exact) < 1e-5


def test_names_tell_shapes():
    with shapes.checked() as seen:
        jax.eval_shape(OBJECTIVE.corrupt, jax.random.key(0), example())
        jax.eval_shape(
            lambda params: OBJECTIVE.loss(
                ROW.model, params, corrupted(2), (), jax.random.key(0), train=True
            ),
            tiny.wide(ROW.model),
        )
    assert "replaced_token.py:ReplacedToken.loss:drawn_BP" in seen
