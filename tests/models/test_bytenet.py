"""ByteNet: what a prediction depends on, and steps with buffers."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import shapes, tiny
from tests.wide import relative
from zoo.contracts import Encoder, LanguageModel
from zoo.models import bytenet
from zoo.params import abstract

ROW = tiny.TABLE["bytenet"]
CONFIG = replace(ROW.config, num_layers=5, max_dilation=4)
MODELS = [bytenet.ByteNetLM(replace(CONFIG, block=block)) for block in ("multiplicative", "relu")]
models = pytest.mark.parametrize("model", MODELS, ids=lambda m: m.config.block)


def test_it_keeps_to_the_contracts():
    assert isinstance(ROW.model, LanguageModel)
    assert isinstance(bytenet.ByteNet(ROW.config), Encoder)


def test_the_receptive_field_follows_from_the_dilations():
    assert bytenet.receptive_field(CONFIG) == 1 + 2 * (1 + 2 + 4 + 1 + 2) == 21
    assert bytenet.receptive_field(replace(CONFIG, filter_width=2)) == 11
    # The paper states 315 for its 30 blocks.
    assert bytenet.receptive_field(bytenet.SIZES["bytenet"]) == 1 + 2 * 6 * 31 == 373
    assert bytenet.receptive_field(bytenet.SIZES["bytenet-tiny"]) == 125


@models
def test_a_prediction_depends_on_exactly_its_receptive_field(model):
    field, L = bytenet.receptive_field(CONFIG), 28
    params = tiny.wide(model)
    tokens_L = np.random.default_rng(0).integers(0, tiny.V, L)
    rows_BL = np.tile(tokens_L, (L + 1, 1))
    rows_BL[np.arange(L), np.arange(L)] = (tokens_L + 1) % tiny.V  # one token changed in each row
    logits_BLV = np.asarray(jax.jit(model.apply)({"params": params}, rows_BL))
    changed_BL = np.abs(logits_BLV[:-1] - logits_BLV[-1]).max(-1) > 0
    distance = np.arange(L)[None] - np.arange(L)[:, None]
    np.testing.assert_array_equal(changed_BL, (distance >= 0) & (distance < field))


@pytest.mark.parametrize(
    ("model", "length"),
    [(MODELS[0], 1), (MODELS[0], 24), (MODELS[1], 6)],
    ids=lambda value: value if isinstance(value, int) else value.config.block,
)
def test_steps_after_prompts_of_any_length_equal_one_pass(model, length):
    params, new = {"params": tiny.wide(model)}, 24
    tokens_BL = np.random.default_rng(1).integers(0, tiny.V, (3, length + new))
    before_B1 = np.array([[0], [length // 2], [length - 1]])  # padded on the left
    document_ids_BL = (np.arange(length + new) >= before_B1).astype(np.int32)
    expected_BLV = np.asarray(jax.jit(model.apply)(params, tokens_BL, document_ids_BL))
    start = jax.jit(lambda *inputs: model.apply(params, *inputs, 1, method="start"))
    step = jax.jit(lambda *inputs: model.apply(params, *inputs, method="step"))
    logits_BV, cache = start(tokens_BL[:, :length], document_ids_BL[:, :length])
    shape = jax.tree.map(jnp.shape, cache)
    for position in range(length, length + new):
        assert relative(logits_BV, expected_BLV[:, position - 1]) < 1e-6
        logits_BV, cache = step(tokens_BL[:, position], cache)
    assert jax.tree.map(jnp.shape, cache) == shape  # memory and time per token do not grow
    assert relative(logits_BV, expected_BLV[:, -1]) < 1e-6


def test_shapes_of_decoding_agree_with_names():
    with shapes.checked() as places:
        for model in MODELS:
            apply = partial(model.apply, {"params": tiny.wide(model)})
            start = partial(apply, max_new_tokens=4, method="start")
            _, cache = jax.eval_shape(start, tiny.TOKENS, tiny.DOCUMENTS)
            jax.eval_shape(partial(apply, method="step"), np.arange(tiny.B), cache)
    assert "dilated_blocks.py:ResidualBlock.extend:buffer_BMI" in places


def test_every_array_of_the_cache_has_a_row_for_each_prompt_but_the_step_counter():
    params = {"params": tiny.wide(ROW.model)}
    start = partial(ROW.model.apply, params, max_new_tokens=4, method="start")
    _, cache = jax.eval_shape(start, tiny.TOKENS, tiny.DOCUMENTS)
    assert [x.shape[:1] for x in cache.buffers] == [(tiny.B,)] * ROW.config.num_layers
    assert cache.steps.shape == ()


def test_a_config_that_cannot_be_built_is_one_line():
    with pytest.raises(ValueError, match=r"^unknown block 'swish': use one of multiplicative, re"):
        abstract(bytenet.ByteNetLM(replace(CONFIG, block="swish")))
    with pytest.raises(ValueError, match=r"^the width 25 is odd: "):
        abstract(bytenet.ByteNetLM(replace(CONFIG, width=25)))
