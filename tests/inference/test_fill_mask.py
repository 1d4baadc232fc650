"""A masked token is predicted from the tokens around it."""

import jax
import numpy as np

from tests.tiny import PREDICTIONS, SEGMENTS, TABLE, TOKENS, L

MASKED_POSITIONS = PREDICTIONS[:, :2]


def fill_mask(tiny, params, tokens_BL):
    return tiny.model.apply(
        {"params": params}, tokens_BL, SEGMENTS, MASKED_POSITIONS, method="fill"
    )


def params_of(tiny):
    params = tiny.model.init(jax.random.key(0), TOKENS)["params"]
    return jax.tree.map(lambda x: 10 * x, params)


def test_bert_fills_a_masked_token_with_its_prediction_for_that_position():
    tiny = TABLE["bert"]
    params = params_of(tiny)
    logits_BLV = tiny.model.apply({"params": params}, TOKENS, SEGMENTS).logits_BLV
    expected_BPV = np.take_along_axis(logits_BLV, MASKED_POSITIONS[..., None], 1)
    np.testing.assert_allclose(fill_mask(tiny, params, TOKENS), expected_BPV, rtol=1e-4, atol=1e-5)


def test_xlnet_sees_every_token_except_those_at_masked_positions():
    tiny = TABLE["xlnet"]
    params = params_of(tiny)
    before = fill_mask(tiny, params, TOKENS)
    for column in range(L):
        tokens_BL = TOKENS.copy()
        tokens_BL[:, column] = (tokens_BL[:, column] + 7) % 61
        differs_B = np.abs(fill_mask(tiny, params, tokens_BL) - before).max((1, 2)) > 1e-3
        np.testing.assert_array_equal(differs_B, [column not in row for row in MASKED_POSITIONS])
