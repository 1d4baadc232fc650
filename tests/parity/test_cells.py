"""Recurrent layers against PyTorch's on large random weights: outputs, states and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.wide import draw, relative, widen
from zoo.layers import recurrent

torch = pytest.importorskip("torch")

THEIRS = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}
TOLERANCE = 1e-6
E, D, N, B, L = 7, 10, 2, 3, 13
LENGTHS = [13, 8, 1]
DOCUMENTS = (np.arange(L) < np.array(LENGTHS)[:, None]).astype(np.int32)

every_cell = pytest.mark.parametrize("cell", THEIRS)


def theirs(cell, bidirectional=False):
    model = THEIRS[cell](E, D, N, batch_first=True, bidirectional=bidirectional)
    widen(model)
    return model


def layer(model, suffix: str, gates: int):
    """Return one layer of theirs in our layout."""
    part = lambda name: model.get_parameter(f"{name}_{suffix}").detach().numpy()
    kernel = lambda name: jnp.asarray(part(name).reshape(gates, D, -1).transpose(2, 0, 1))
    bias = lambda name: jnp.asarray(part(name).reshape(gates, D))
    return {
        "input": {"kernel": kernel("weight_ih"), "bias": bias("bias_ih")},
        "recurrent": {"kernel": kernel("weight_hh"), "bias": bias("bias_hh")},
    }


def stacked_params(model, cell):
    gates = recurrent.CELLS[cell].gates
    return {f"layers_{n}": layer(model, f"l{n}", gates) for n in range(N)}


def states_of(states) -> list:
    """Return their final states as a list of [layer, B, D]."""
    return [x.detach().numpy() for x in (states if isinstance(states, tuple) else (states,))]


@every_cell
def test_outputs_states_and_gradients_are_equal(cell):
    model = theirs(cell)
    ours = recurrent.Stack(N, cell, D, 0.0)
    params, x_BLE = stacked_params(model, cell), draw(B, L, E)
    parts = recurrent.CELLS[cell].parts
    start = tuple(tuple(draw(B, D, seed=10 * n + p) for p in range(parts)) for n in range(N))
    theirs_start = [
        torch.tensor(np.stack([np.asarray(state[p]) for state in start])) for p in range(parts)
    ]
    x = torch.tensor(np.asarray(x_BLE), requires_grad=True)
    outputs, ends = model(x, tuple(theirs_start) if parts == 2 else theirs_start[0])
    output_BLD, final_states = jax.jit(ours.apply)({"params": params}, x_BLE, None, start)
    assert relative(output_BLD, outputs.detach()) < TOLERANCE
    for p, end in enumerate(states_of(ends)):
        for n in range(N):
            assert relative(final_states[n][p], end[n]) < TOLERANCE

    def loss(params, x_BLE, start):
        x_BLD, states = jax.jit(ours.apply)({"params": params}, x_BLE, None, start)
        return jnp.sin(3 * x_BLD).sum() + sum(jnp.square(x).sum() for x in jax.tree.leaves(states))

    gradient, x_gradient, _ = jax.jit(jax.grad(loss, (0, 1, 2)))(params, x_BLE, start)
    ends = ends if isinstance(ends, tuple) else (ends,)
    (torch.sin(3 * outputs).sum() + sum(end.square().sum() for end in ends)).backward()
    assert relative(x_gradient, x.grad) < 1e-5
    for parameter in model.parameters():
        parameter.data = parameter.grad
    expected = stacked_params(model, cell)
    for ours_, theirs_ in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected), strict=True):
        assert relative(ours_, theirs_) < 1e-5


@every_cell
def test_packed_lengths_are_equal_regardless_of_padding(cell):
    model = theirs(cell)
    x_BLE = draw(B, L, E)
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.tensor(np.asarray(x_BLE)), LENGTHS, batch_first=True
    )
    outputs, ends = model(packed)
    outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True)
    x_BLE = jnp.where(DOCUMENTS[..., None] > 0, x_BLE, 1e3)
    ours = recurrent.Stack(N, cell, D, 0.0)
    output_BLD, final_states = jax.jit(ours.apply)(
        {"params": stacked_params(model, cell)}, x_BLE, DOCUMENTS
    )
    real = DOCUMENTS > 0
    assert relative(output_BLD[real], outputs.detach().numpy()[real]) < TOLERANCE
    for p, end in enumerate(states_of(ends)):
        for n in range(N):
            assert relative(final_states[n][p], end[n]) < TOLERANCE


@every_cell
@pytest.mark.parametrize("padded", [False, True])
def test_both_directions_are_equal(cell, padded):
    model = theirs(cell, bidirectional=True)
    gates = recurrent.CELLS[cell].gates
    params = {f"forward_{n}": layer(model, f"l{n}", gates) for n in range(N)}
    params |= {f"backward_{n}": layer(model, f"l{n}_reverse", gates) for n in range(N)}
    x_BLE = draw(B, L, E)
    inputs = torch.tensor(np.asarray(x_BLE))
    lengths = LENGTHS if padded else [L] * B
    inputs = torch.nn.utils.rnn.pack_padded_sequence(inputs, lengths, batch_first=True)
    outputs, ends = model(inputs)
    outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True)
    ours = recurrent.Bidirectional(N, cell, D, 0.0)
    document_ids_BL = DOCUMENTS if padded else None
    output_BLD, (forward, backward) = jax.jit(ours.apply)(
        {"params": params}, x_BLE, document_ids_BL
    )
    real = (DOCUMENTS > 0) | (not padded)
    assert relative(output_BLD[real], outputs.detach().numpy()[real]) < TOLERANCE
    for p, end in enumerate(states_of(ends)):
        for n in range(N):
            assert relative(forward[n][p], end[2 * n]) < TOLERANCE
            assert relative(backward[n][p], end[2 * n + 1]) < TOLERANCE
