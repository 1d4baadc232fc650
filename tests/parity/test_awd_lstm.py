"""AWD-LSTM against LSTMs of PyTorch, wired by hand, with the same dropout masks."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tests.wide import draw, relative
from train.objectives.regularized_causal import RegularizedCausal
from train.step import corrupt, total
from zoo.layers import dropout
from zoo.models import awd_lstm
from zoo.params import flatten

torch = pytest.importorskip("torch")

V, E, D, B, L, END = 41, 12, 18, 4, 9, 40
RATES = {
    "dropout": 0.4,
    "embedding_dropout": 0.1,
    "input_dropout": 0.6,
    "hidden_dropout": 0.2,
    "weight_dropout": 0.5,
}
CONFIG = awd_lstm.Config(vocab_size=V, width=E, cell_width=D, **RATES)
MODEL = awd_lstm.AWDLSTMLM(CONFIG)
TOLERANCE = 1e-5
WINDOW = slice(0, L), slice(1, L + 1)  # of the inputs and of the targets
# The order of the dropouts in the network.
ORDER = ["embedding_", "input_", "weight_", "hidden_", "weight_", "hidden_", "weight_", ""]


def batch():
    tokens_BL = np.random.default_rng(0).integers(0, END, (B, L + 1))
    return {"tokens": tokens_BL, "mask": np.ones((B, L + 1), bool), "fresh": np.zeros(B, bool)}


def carry():
    zeros, seeds = MODEL.initial_states(B), iter(range(6))
    return jax.tree.map(lambda x: 0.3 * draw(*x.shape, seed=next(seeds)), zeros)


def tensors(params):
    return {path: torch.from_numpy(np.array(x)) for path, x in flatten(params).items()}


def to_theirs(array):
    """Return a kernel [E, G, D] or a bias [G, D] as a matrix or vector of PyTorch."""
    if array.ndim == 3:
        return array.permute(1, 2, 0).reshape(-1, array.shape[0])
    return array.reshape(-1)


def their_loss(params, masks):
    """Return the loss, the logits of the network and the final states."""
    example = batch()
    tokens_BL, targets_BL = (torch.from_numpy(example["tokens"][:, part]) for part in WINDOW)
    table_VE = params["trunk/token_embedding/embedding"]
    scaled = lambda mask, rate: torch.from_numpy(np.array(mask)) / (1 - RATES[rate])
    masks = iter(masks)
    dropped_table_VE = table_VE * scaled(next(masks), "embedding_dropout")[:, None]
    x_BLE = dropped_table_VE[tokens_BL] * scaled(next(masks), "input_dropout")
    states = []
    for number, state in enumerate(carry()):
        gate = lambda name, number=number: params[f"trunk/layers_{number}/{name}"]
        x_BLE = x_BLE if number == 0 else x_BLE * scaled(next(masks), "hidden_dropout")
        lstm = torch.nn.LSTM(x_BLE.shape[-1], state[0].shape[-1], batch_first=True)
        kernel = gate("recurrent/kernel") * scaled(next(masks), "weight_dropout")
        weights = {
            "weight_ih_l0": to_theirs(gate("input/kernel")),
            "weight_hh_l0": to_theirs(kernel),
            "bias_ih_l0": to_theirs(gate("input/bias")),
            "bias_hh_l0": to_theirs(gate("recurrent/bias")),
        }
        initial = tuple(torch.from_numpy(np.array(x))[None] for x in state)
        x_BLE, final = torch.func.functional_call(lstm, weights, (x_BLE, initial))
        states.append(final)
    dropped_BLE = x_BLE * scaled(next(masks), "dropout")
    assert not list(masks)
    logits_BLV = dropped_BLE @ table_VE.T + params["head/bias"]
    loss = torch.nn.functional.cross_entropy(logits_BLV.flatten(0, 1), targets_BL.flatten())
    loss = loss + 2.0 * dropped_BLE.pow(2).mean()
    return loss + (x_BLE[:, 1:] - x_BLE[:, :-1]).pow(2).mean(), logits_BLV, states


def drawing(function):
    """Return the function that also returns the dropout masks in the order drawn."""

    def run(*inputs, **options):
        drawn, keep = [], dropout.keep
        record = lambda *mask: drawn.append(keep(*mask)) or drawn[-1]
        with mock.patch.object(dropout, "keep", record):
            return function(*inputs, **options), drawn

    return run


def test_the_loss_its_gradients_and_the_states_equal():
    objective, params = RegularizedCausal(END), tiny.wide(MODEL)
    example = corrupt(objective, jax.random.key(0), batch())
    weights = jax.tree.map(jnp.sum, example["weights"])

    def loss(params, carry):
        terms, states = objective.loss(MODEL, params, example, carry, jax.random.key(1), train=True)
        return total(objective, terms, weights), states

    def with_masks(params, carry):
        (value, states), masks = drawing(loss)(params, carry)
        return value, (states, masks)

    run = jax.jit(jax.value_and_grad(with_masks, has_aux=True))
    (value, (states, masks)), gradient = run(params, carry())
    theirs = {path: x.requires_grad_() for path, x in tensors(params).items()}
    their_value, _, their_states = their_loss(theirs, masks)
    their_value.backward()
    assert float(value) == pytest.approx(their_value.item(), rel=TOLERANCE)
    for path, array in flatten(gradient).items():
        assert relative(array, theirs[path].grad) < TOLERANCE, path
    for ours, final in zip(states, their_states, strict=True):
        for x_BD, expected in zip(ours, final, strict=True):
            assert relative(x_BD, expected[0].detach()) < TOLERANCE


def test_the_logits_without_dropout_equal():
    params, tokens_BL = tiny.wide(MODEL), batch()["tokens"][:, :-1]
    run = lambda params, carry, **options: MODEL.apply(
        {"params": params}, tokens_BL, None, carry, method="unprojected", **options
    )
    unprojected, _ = jax.jit(run)(params, carry())
    rngs = {"dropout": jax.random.key(0)}
    in_training = lambda: drawing(run)(params, carry(), train=True, rngs=rngs)
    _, masks = jax.eval_shape(in_training)
    rates = [RATES[f"{name}dropout"] for name in ORDER]
    neutral = [np.full(mask.shape, 1 - p, np.float32) for mask, p in zip(masks, rates, strict=True)]
    _, logits_BLV, _ = their_loss(tensors(params), neutral)
    assert relative(unprojected.logits(), logits_BLV) < TOLERANCE
