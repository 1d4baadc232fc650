"""A masked token is predicted from the tokens around it."""

import jax
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.tiny import PREDICTIONS, SEGMENTS, TABLE, TOKENS, L, V, wide
from zoo.checkpoints.load import Loaded
from zoo.inference import fill_mask as filling

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


@pytest.mark.parametrize("name", ["bert", "xlnet"])
def test_padding_changes_no_probability_and_texts_of_a_bucket_share_a_program(name):
    tiny = TABLE[name]
    params = wide(tiny.model)
    vocabulary = {"[MASK]": 0} | {f"w{i}": i for i in range(1, V)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "w1"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    loaded, before = Loaded(tiny.model, params, tokenizer), filling._probabilities._cache_size()
    for text in ("w3 [MASK] w4 w1", "w3 [MASK] w4 [MASK] w5"):
        tokens_BL = np.array([tokenizer.encode(text).ids])
        masked_BP = np.flatnonzero(tokens_BL[0] == 0)[None]
        inputs = tokens_BL, np.zeros_like(tokens_BL), masked_BP
        logits_BPV = tiny.model.apply({"params": params}, *inputs, method="fill")
        expected_PV = np.asarray(jax.nn.softmax(logits_BPV[0]))
        results = filling.fill_mask(loaded, text, top=3)
        assert [[token for token, _ in row] for row in results] == [
            [tokenizer.id_to_token(i) for i in np.argsort(-row_V)[:3]] for row_V in expected_PV
        ]
        actual = [[probability for _, probability in row] for row in results]
        np.testing.assert_allclose(actual, np.sort(expected_PV)[:, :-4:-1], rtol=1e-5)
    assert filling._probabilities._cache_size() == before + 1
