"""AWD-LSTM: its states, and the classifier of ULMFiT."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tests.wide import relative
from zoo.layers import heads
from zoo.models import awd_lstm

ROW = tiny.TABLE["awd_lstm"]
B, L = 3, 12


@pytest.fixture
def classifier(monkeypatch):
    """Return a classifier that reads chunks of 5 tokens, and pools the last 8."""
    monkeypatch.setattr(awd_lstm, "CHUNK", 5)
    monkeypatch.setattr(awd_lstm, "POOLED", 8)
    return awd_lstm.AWDLSTMClassifier(ROW.config)


def features(model, tokens_BL, document_ids_BL=None, **options):
    run = lambda params: model.apply(
        {"params": params}, tokens_BL, None, document_ids_BL, method="features", **options
    )
    return jax.jit(run)(tiny.wide(model))


def states(model, tokens_BL, document_ids_BL=None):
    run = lambda params: model.apply(
        {"params": params},
        tokens_BL,
        document_ids_BL,
        method=lambda model, *inputs: model.trunk.read(inputs[0], None, inputs[1]),
    )
    return jax.jit(run)(tiny.wide(model))


def test_a_state_does_not_leak_into_the_next_document():
    model = ROW.model
    tokens_BL, ids_BL = tiny.TOKENS, np.array([[1] * 5 + [2] * 7] * B)
    second_BL = states(model, tokens_BL[:, 5:])
    assert relative(states(model, tokens_BL, ids_BL)[:, 5:], second_BL) < 1e-6
    assert relative(states(model, tokens_BL)[:, 5:], second_BL) > 1e-2


def test_chunks_have_the_hidden_states_of_the_whole_text(classifier):
    x_BLD = states(classifier, tiny.TOKENS)
    expected_BD = heads.concatenation(x_BLD[:, -8:])
    assert relative(features(classifier, tiny.TOKENS), expected_BD) < 1e-5


def test_padding_and_other_rows_change_no_class(classifier):
    lengths = [12, 9, 6]
    together = features(classifier, tiny.TOKENS, tiny.DOCUMENTS)
    for row, length in enumerate(lengths):
        alone = features(classifier, tiny.TOKENS[row : row + 1, :length])
        assert relative(together[row], alone[0]) < 1e-5


def test_the_gradient_does_not_pass_from_a_chunk_to_the_one_before(classifier):
    params = tiny.wide(classifier)
    # A word that occurs in the first chunk only, which is not pooled.
    tokens_BL = np.where(tiny.TOKENS == 7, 8, tiny.TOKENS)[:, :12]
    tokens_BL[:, 1] = 7

    def gradient(size):
        def loss(params):
            inputs = {"params": params}, tokens_BL
            return jnp.square(classifier.apply(*inputs, method="features")).sum()

        awd_lstm.CHUNK = size
        table_VE = jax.jit(jax.grad(loss))(params)["trunk"]["token_embedding"]["embedding"]
        return np.asarray(table_VE[7])

    assert (gradient(4) == 0).all()
    assert np.abs(gradient(12)).max() > 1e-3


def test_every_chunk_has_its_own_dropout_masks(classifier):
    others = {name: 0.0 for name in vars(ROW.config) if name.endswith("_dropout")}
    model = awd_lstm.AWDLSTMLM(replace(ROW.config, **others, dropout=0.5))
    read = lambda params: model.apply(
        {"params": params},
        np.full((B, 10), 5),
        np.ones((B, 10), np.int32),
        method=lambda model, *inputs: model.trunk.read_in_chunks(*inputs, train=True),
        rngs={"dropout": jax.random.key(0)},
    )
    zero_BLD = np.asarray(jax.jit(read)(tiny.wide(model))) == 0
    assert (zero_BLD[:, :5] == zero_BLD[:, :1]).all()
    assert (zero_BLD[:, 5:] == zero_BLD[:, 5:6]).all()
    assert not (zero_BLD[:, 0] == zero_BLD[:, 5]).all()


def test_the_initial_states_have_the_widths_of_the_layers():
    widths = [state[0].shape for state in ROW.model.initial_states(B)]
    assert widths == [(B, 24), (B, 24), (B, 20)]
