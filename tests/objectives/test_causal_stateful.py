"""A state carried from window to window reads as one long window does."""

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
    """The windows of some rows, one batch after the other."""
    for start in range(0, tokens_BL.shape[1] - 1, length):
        cut_BL = tokens_BL[:, start : start + length + 1]
        yield {
            "tokens": cut_BL,
            "mask": np.ones(cut_BL.shape, bool),
            "fresh": np.full(len(cut_BL), fresh and start == 0),
        }


def added_up(model, params, tokens_BL, length, carry, fresh=True):
    loss = 0.0
    for batch in windows(tokens_BL, length, fresh):
        example = corrupt(OBJECTIVE, jax.random.key(0), batch)
        terms, carry = OBJECTIVE.loss(model, params, example, carry, jax.random.key(0), train=False)
        loss += float(terms["token"].loss)
    return loss, carry


def drawn():
    return np.random.default_rng(0).integers(40, END + 1, (3, 25))  # documents end here and there


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_windows_of_any_length_give_the_loss_of_the_whole(cell):
    network, tokens_BL = model(cell), drawn()
    assert (tokens_BL == END).any()
    params = tiny.wide(network)
    losses = [
        added_up(network, params, tokens_BL, length, OBJECTIVE.initial_carry(network, 3))[0]
        for length in (24, 8, 4)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)


def test_a_row_that_begins_anew_forgets_its_state():
    network, tokens_BL = model("lstm"), drawn()
    params, empty = tiny.wide(network), OBJECTIVE.initial_carry(network, 3)
    _, full = added_up(network, params, tokens_BL, 8, empty)
    clean, _ = added_up(network, params, tokens_BL, 24, empty)
    forgotten, _ = added_up(network, params, tokens_BL, 24, full)
    kept, _ = added_up(network, params, tokens_BL, 24, full, fresh=False)
    assert forgotten == pytest.approx(clean, rel=1e-6)
    assert abs(kept - clean) > 1e-3


def test_the_gradient_ends_where_the_window_begins():
    network, tokens_BL = model("gru"), drawn()
    batch = corrupt(OBJECTIVE, jax.random.key(0), next(windows(tokens_BL, 24, False)))

    def loss(carry):
        terms, _ = OBJECTIVE.loss(
            network, tiny.wide(network), batch, carry, jax.random.key(0), train=True
        )
        return terms["token"].loss

    gradient = jax.grad(loss)(OBJECTIVE.initial_carry(network, 3))
    assert all((jnp.abs(leaf) == 0).all() for leaf in jax.tree.leaves(gradient))


def test_inputs_and_targets_are_those_of_a_causal_model():
    batch = next(windows(drawn(), 24, False))
    ours = corrupt(OBJECTIVE, jax.random.key(0), batch)
    theirs = corrupt(Causal(END), jax.random.key(0), batch)
    for name in ("tokens", "documents", "targets"):
        assert (ours[name] == theirs[name]).all()
