"""WaveNet: what a prediction depends on, its published size, and steps with buffers."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import shapes, tiny
from tests.wide import relative
from zoo.contracts import Encoder, LanguageModel
from zoo.models import wavenet
from zoo.params import num_parameters

ROW = tiny.TABLE["wavenet"]
CONFIG = replace(ROW.config, num_layers=5)
MODEL = wavenet.WaveNetLM(CONFIG)


def test_it_keeps_to_the_contracts():
    assert isinstance(MODEL, LanguageModel)
    assert isinstance(wavenet.WaveNet(CONFIG), Encoder)


def test_the_default_has_the_parameters_of_the_reproduction_but_an_unused_layer():
    unused = 32 * 32 + 32
    counted = num_parameters(wavenet.WaveNetLM, wavenet.Config())
    assert counted + unused == 1_515_968


def test_the_receptive_field_follows_from_the_dilations():
    assert wavenet.dilations(CONFIG) == (1, 2, 4, 1, 2)
    assert wavenet.receptive_field(CONFIG) == 1 + 1 + (1 + 2 + 4 + 1 + 2) == 12
    assert wavenet.receptive_field(wavenet.Config()) == 2 + 5 * 1023 == 5117


def test_a_prediction_depends_on_exactly_its_receptive_field():
    field, L = wavenet.receptive_field(CONFIG), 18
    tokens_L = np.random.default_rng(0).integers(0, tiny.V, L)
    rows_BL = np.tile(tokens_L, (L + 1, 1))
    rows_BL[np.arange(L), np.arange(L)] = (tokens_L + 1) % tiny.V  # one token changed in each row
    logits_BLV = np.asarray(jax.jit(MODEL.apply)({"params": tiny.wide(MODEL)}, rows_BL))
    changed_BL = np.abs(logits_BLV[:-1] - logits_BLV[-1]).max(-1) > 0
    distance = np.arange(L)[None] - np.arange(L)[:, None]
    np.testing.assert_array_equal(changed_BL, (distance >= 0) & (distance < field))


@pytest.mark.parametrize("length", [1, 6, 17])
def test_steps_after_prompts_of_different_lengths_equal_one_pass(length):
    params, new = {"params": tiny.wide(MODEL)}, 14
    tokens_BL = np.random.default_rng(1).integers(0, tiny.V, (3, length + new))
    before_B1 = np.array([[0], [length // 2], [length - 1]])  # padded on the left
    document_ids_BL = (np.arange(length + new) >= before_B1).astype(np.int32)
    expected_BLV = np.asarray(jax.jit(MODEL.apply)(params, tokens_BL, document_ids_BL))
    start = jax.jit(lambda *inputs: MODEL.apply(params, *inputs, 1, method="start"))
    step = jax.jit(lambda *inputs: MODEL.apply(params, *inputs, method="step"))
    logits_BV, cache = start(tokens_BL[:, :length], document_ids_BL[:, :length])
    shape = jax.tree.map(jnp.shape, cache)
    for position in range(length, length + new):
        assert relative(logits_BV, expected_BLV[:, position - 1]) < 1e-6
        logits_BV, cache = step(tokens_BL[:, position], cache)
    assert relative(logits_BV, expected_BLV[:, -1]) < 1e-6
    assert jax.tree.map(jnp.shape, cache) == shape  # memory and time per token do not grow


def test_arrays_of_decoding_have_the_shapes_in_their_names_and_a_row_for_each_prompt():
    params = {"params": tiny.wide(MODEL)}
    start = partial(MODEL.apply, params, max_new_tokens=4, method="start")
    with shapes.checked() as places:
        _, cache = jax.eval_shape(start, tiny.TOKENS, tiny.DOCUMENTS)
        jax.eval_shape(partial(MODEL.apply, params, method="step"), np.arange(tiny.B), cache)
    assert "wavenet.py:LastBlock.extend:buffer_BMD" in places
    assert {x.shape[0] for x in (cache.previous_B1D, *cache.buffers)} == {tiny.B}
    assert [x.shape[1] for x in cache.buffers] == list(wavenet.dilations(CONFIG))
    assert cache.steps.shape == ()
