"""Windows with a carried state have the loss of one long window."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from train.objectives.causal import Causal
from train.objectives.causal_stateful import StatefulCausal
from train.step import corrupt
from zoo.models import rnn

END = 60
OBJECTIVE = StatefulCausal(END)


def model(cell):
    return rnn.RNNLM(
        rnn.Config(vocab_size=tiny.V, num_layers=2, width=8, dropout=0.0, embed_width=6, cell=cell)
    )


def windows(tokens_BL, length, fresh):
    """Yield the windows of some rows, one batch after the other."""
    for start in range(0, tokens_BL.shape[1] - 1, length):
        window_BL = tokens_BL[:, start : start + length + 1]
        yield {
            "tokens": window_BL,
            "mask": np.ones(window_BL.shape, bool),
            "fresh": np.full(len(window_BL), fresh and start == 0),
        }


def total_loss(model, params, tokens_BL, length, carry, fresh=True):
    loss = 0.0
    for batch in windows(tokens_BL, length, fresh):
        example = corrupt(OBJECTIVE, jax.random.key(0), batch)
        terms, carry = OBJECTIVE.loss(model, params, example, carry, jax.random.key(0), train=False)
        loss += float(terms["token"].loss)
    return loss, carry


def random_tokens():
    return np.random.default_rng(0).integers(40, END + 1, (3, 25))  # with some ends of documents


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_windows_of_any_length_give_the_loss_of_one_window(cell):
    network, tokens_BL = model(cell), random_tokens()
    assert (tokens_BL == END).any()
    params = tiny.wide(network)
    losses = [
        total_loss(network, params, tokens_BL, length, OBJECTIVE.initial_carry(network, 3))[0]
        for length in (24, 8, 4)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)


def test_a_fresh_row_resets_its_state():
    network, tokens_BL = model("lstm"), random_tokens()
    params, initial_carry = tiny.wide(network), OBJECTIVE.initial_carry(network, 3)
    _, used_carry = total_loss(network, params, tokens_BL, 8, initial_carry)
    from_initial_carry, _ = total_loss(network, params, tokens_BL, 24, initial_carry)
    with_reset, _ = total_loss(network, params, tokens_BL, 24, used_carry)
    without_reset, _ = total_loss(network, params, tokens_BL, 24, used_carry, fresh=False)
    assert with_reset == pytest.approx(from_initial_carry, rel=1e-6)
    assert abs(without_reset - from_initial_carry) > 1e-3


def test_the_gradient_stops_at_the_start_of_the_window():
    network, tokens_BL = model("gru"), random_tokens()
    batch = corrupt(OBJECTIVE, jax.random.key(0), next(windows(tokens_BL, 24, False)))

    def loss(carry):
        terms, _ = OBJECTIVE.loss(
            network, tiny.wide(network), batch, carry, jax.random.key(0), train=True
        )
        return terms["token"].loss

    gradient = jax.grad(loss)(OBJECTIVE.initial_carry(network, 3))
    assert all((jnp.abs(leaf) == 0).all() for leaf in jax.tree.leaves(gradient))


def test_inputs_and_targets_are_those_of_a_causal_model():
    batch = next(windows(random_tokens(), 24, False))
    ours = corrupt(OBJECTIVE, jax.random.key(0), batch)
    theirs = corrupt(Causal(END), jax.random.key(0), batch)
    for name in ("tokens", "documents", "targets"):
        assert (ours[name] == theirs[name]).all()
