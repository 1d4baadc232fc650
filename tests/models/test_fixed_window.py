"""The fixed-window model against its equation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tests.wide import relative
from train.recipes import fixed_window as recipes
from zoo.models import fixed_window

WINDOW, EMBED, WIDTH, V = 3, 5, 7, 11


@pytest.mark.parametrize("features", ["hidden", "direct"])
def test_logits_are_those_of_equation_1(features):
    config = fixed_window.Config(
        vocab_size=V, width=WIDTH, embed_width=EMBED, window=WINDOW, features=features
    )
    model = fixed_window.FixedWindowLM(config)
    params = tiny.wide(model)
    tokens_BL = np.random.default_rng(0).integers(V, size=(2, 6))
    C = np.asarray(params["trunk"]["token_embedding"]["embedding"])
    up = params["trunk"]["features"]["up"]
    H, d = np.asarray(up["kernel"]), np.asarray(up["bias"])
    table, b = np.asarray(params["head"]["embedding"]), np.asarray(params["head"]["bias"])
    U, W = table[:, :WIDTH], table[:, WIDTH:]
    logits_BLV = np.asarray(model.apply({"params": params}, tokens_BL))
    for row, tokens in enumerate(tokens_BL):
        for at in range(len(tokens)):
            words = [C[tokens[at - n]] if at >= n else np.zeros(EMBED) for n in range(WINDOW)]
            x = np.concatenate(words)
            y = b + U @ np.tanh(d + x @ H) + (W @ x if features == "direct" else 0)
            assert relative(logits_BLV[row, at], y) < 1e-5


def test_unknown_features_are_refused():
    model = fixed_window.FixedWindowLM(fixed_window.Config(features="both"))
    with pytest.raises(ValueError, match="unknown features 'both': use one of hidden, direct"):
        model.init(jax.random.key(0), jnp.zeros((1, 4), jnp.int32))


def test_a_step_of_many_examples_has_the_learning_rate_of_as_many_steps():
    schedule = recipes.decaying(256)
    assert relative(schedule(0), 0.256) < 1e-6
    assert relative(schedule(1000), 0.256 / (1 + 1e-8 * 256_000)) < 1e-6
