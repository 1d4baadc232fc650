"""ByteNet translators: the unfolded source, and what the decoder reads of it."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import shapes, tiny
from tests.wide import relative
from zoo.contracts import EncoderDecoder, LanguageModel
from zoo.models import bytenet_translator

ROW = tiny.TABLE["bytenet_translator"]
# Layers with dilations 1, 2: the encoder reads 1 + 2 positions on each side.
CONFIG = replace(ROW.config, num_layers=2, num_decoder_layers=2)
MODEL, REACH = bytenet_translator.ByteNetTranslator(CONFIG), 3
PARAMS = {"params": tiny.wide(MODEL)}
LENGTHS = [10, 5, 1]
SOURCES = [tiny.TOKENS[row, :length].tolist() for row, length in enumerate(LENGTHS)]


@partial(jax.jit, static_argnames="method")
def run(*inputs, method="__call__"):
    return MODEL.apply(PARAMS, *inputs, method=method)


def padded(before: int, after: int):
    """Return the sources with padding of any tokens around the longest: tokens_BL, ids_BL."""
    L = before + max(LENGTHS) + after
    tokens_BL = np.random.default_rng(before + after).integers(0, tiny.V, (3, L))
    document_ids_BL = np.zeros((3, L), np.int32)
    for row, source in enumerate(SOURCES):
        places = slice(before, before + len(source))
        tokens_BL[row, places], document_ids_BL[row, places] = source, 1
    return tokens_BL, document_ids_BL


def test_it_keeps_to_the_contracts():
    assert isinstance(ROW.model, EncoderDecoder)
    assert isinstance(ROW.model, LanguageModel)


def test_a_source_is_unfolded_to_a_length_that_grows_with_it():
    lengths = partial(bytenet_translator.unfolded_length, CONFIG)
    np.testing.assert_array_equal(lengths(np.array([0, 1, 5, 10, 11])), [0, 2, 6, 12, 14])
    longer = replace(CONFIG, unfolding=0.5, margin=4)
    unfolded = bytenet_translator.unfolded_length(longer, np.array([0, 1, 4, 10]))
    np.testing.assert_array_equal(unfolded, [4, 5, 6, 10])  # never shorter than the source


def test_the_source_after_its_unfolded_length_is_zero_and_before_it_is_not():
    source_BUD = np.asarray(run(*padded(0, 4), method="encode"))
    unfolded_B = bytenet_translator.unfolded_length(CONFIG, np.array(LENGTHS))
    assert source_BUD.shape[1] == bytenet_translator.unfolded_length(CONFIG, 14) == 17
    for row_UD, unfolded in zip(source_BUD, unfolded_B, strict=True):
        assert (row_UD[unfolded:] == 0).all()
        assert (np.abs(row_UD[:unfolded]).max(-1) > 0).all()


@pytest.mark.parametrize(("before", "after"), [(6, 0), (2, 4)])
def test_padding_of_the_source_changes_nothing(before, after):
    targets_BT = tiny.TOKENS[:, :9]
    logits_BTV = run(*_inputs(padded(before, after), targets_BT))
    for row, source in enumerate(SOURCES):
        alone = run(np.array([source]), targets_BT[row : row + 1])
        assert relative(logits_BTV[row], alone[0]) < 1e-5


def _inputs(sources, targets_BT):
    tokens_BL, document_ids_BL = sources
    return tokens_BL, targets_BT, document_ids_BL


def test_the_decoder_reads_the_source_at_its_own_position():
    """A source token changes no prediction before its position, less the reach of the encoder."""
    L = 12
    rows_BL = np.tile(tiny.TOKENS[:1], (L + 1, 1))
    rows_BL[np.arange(L), np.arange(L)] = (rows_BL[0] + 1) % tiny.V  # one token in each row
    source_BUD = np.asarray(run(rows_BL, method="encode"))
    changed_BU = np.abs(source_BUD[:-1] - source_BUD[-1]).max(-1) > 0
    distance = np.arange(source_BUD.shape[1])[None] - np.arange(L)[:, None]
    np.testing.assert_array_equal(changed_BU, np.abs(distance) <= REACH)

    targets_BT = np.tile(tiny.TOKENS[1:2], (L + 1, 1))
    logits_BTV = np.asarray(run(rows_BL, targets_BT))
    changed_BT = np.abs(logits_BTV[:-1] - logits_BTV[-1]).max(-1) > 0
    distance = distance[:, : targets_BT.shape[1]]
    # The decoder reads as many positions before its own as two blocks of width 3 do: 2 (1 + 2).
    expected_BT = (distance >= -REACH) & (distance <= REACH + 6)
    np.testing.assert_array_equal(changed_BT, expected_BT)


def test_steps_equal_one_pass_far_beyond_the_unfolded_source():
    new_BT = np.random.default_rng(2).integers(0, tiny.V, (3, 24))
    inputs_BT = np.concatenate([np.full((3, 1), MODEL.start_token), new_BT], 1)
    expected_BTV = run(*_inputs(padded(3, 0), inputs_BT))
    start = jax.jit(lambda *inputs: MODEL.apply(PARAMS, *inputs, 24, method="start"))
    logits_BV, cache = start(*padded(3, 0))
    shape = jax.tree.map(jnp.shape, cache)
    for position in range(24):
        assert relative(logits_BV, expected_BTV[:, position]) < 1e-6
        logits_BV, cache = run(new_BT[:, position], cache, method="step")
    assert relative(logits_BV, expected_BTV[:, -1]) < 1e-6
    assert jax.tree.map(jnp.shape, cache) == shape  # memory and time per token do not grow


def test_the_last_token_of_the_source_changes_no_prediction_of_targets_far_after_it():
    changed = [*SOURCES[1][:-1], (SOURCES[1][-1] + 1) % tiny.V]
    targets_BT = np.tile(np.random.default_rng(2).integers(0, tiny.V, (1, 24)), (2, 1))
    logits_BTV = np.asarray(run(np.array([SOURCES[1], changed]), targets_BT))
    differs_T = np.abs(logits_BTV[0] - logits_BTV[1]).max(-1) > 0
    last = bytenet_translator.unfolded_length(CONFIG, len(changed)) - 1
    assert differs_T[: last + 6 + 1].any()
    assert not differs_T[last + 6 + 1 :].any()  # the decoder reads 6 positions before its own


def test_shapes_of_decoding_agree_with_names():
    apply = partial(MODEL.apply, PARAMS)
    with shapes.checked() as places:
        start = partial(apply, max_new_tokens=4, method="start")
        _, cache = jax.eval_shape(start, *padded(0, 1))
        jax.eval_shape(partial(apply, method="step"), np.arange(3), cache)
    assert "bytenet_translator.py:ByteNetEncoderDecoder.extend:source_BUD" in places
