"""Recurrent cells and the layers that run them over time: the plain RNN, GRU and LSTM.

Elman 1990; Cho et al. 2014, https://arxiv.org/abs/1406.1078; Hochreiter and Schmidhuber 1997 with
the forget gate of Gers et al. 2000. All three follow PyTorch and cuDNN: two biases, one for the
input and one for the state, and the same order of gates. So the reset gate of the GRU is applied
after the product with the state, not before it as in the paper.

A cell defines only its equations. The inputs of all time steps are projected to every gate in one
product; then a scan over time computes the projection of the state.

E width of the input  D width of the state
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers import sharding
from zoo.layers.dropout import Dropout
from zoo.layers.linear import affine, product

# `source`, `state` and similar names are layers of a decoder that attends to its source.
AXES = (
    *sharding.AXES,
    (r"(input|recurrent)/kernel$", ("fsdp", None, "tensor")),
    (r"(source|state|combine|begin|readout)/kernel$", ("fsdp", "tensor")),
)

State = tuple[jax.Array, ...]  # arrays [B, D], the first is the output of the cell
States = tuple[State, ...]  # one per layer of a stack
Marks = tuple[jax.Array, jax.Array]  # the result of `document_marks`

# Cells


class Cell(NamedTuple):
    """The elementwise equations of a cell.

    Their inputs are the projections a of the input and u of the state, both [B, G, D].
    """

    gates: int
    parts: int  # number of arrays in its state
    advance: Callable[[jax.Array, jax.Array, State], State]


def plain(a_BGD: jax.Array, u_BGD: jax.Array, state: State) -> State:
    """Return h' = tanh(a + u)."""
    return (jnp.tanh(a_BGD[:, 0] + u_BGD[:, 0]),)


def gru(a_BGD: jax.Array, u_BGD: jax.Array, state: State) -> State:
    """Return h' = (1 - z) n + z h, where r, z = sigmoid(a + u) and n = tanh(a + r u)."""
    (h_BD,) = state
    r_BD = jax.nn.sigmoid(a_BGD[:, 0] + u_BGD[:, 0])
    z_BD = jax.nn.sigmoid(a_BGD[:, 1] + u_BGD[:, 1])
    n_BD = jnp.tanh(a_BGD[:, 2] + r_BD * u_BGD[:, 2])
    return ((1 - z_BD) * n_BD + z_BD * h_BD,)


def lstm(a_BGD: jax.Array, u_BGD: jax.Array, state: State) -> State:
    """Return h' = o tanh(c'), c' = f c + i g, where i, f, o = sigmoid(a + u), g = tanh(a + u)."""
    _, c_BD = state
    gates_BGD = a_BGD + u_BGD
    i_BD, f_BD = jax.nn.sigmoid(gates_BGD[:, 0]), jax.nn.sigmoid(gates_BGD[:, 1])
    g_BD, o_BD = jnp.tanh(gates_BGD[:, 2]), jax.nn.sigmoid(gates_BGD[:, 3])
    c_BD = f_BD * c_BD + i_BD * g_BD
    return o_BD * jnp.tanh(c_BD), c_BD


CELLS = {"rnn": Cell(1, 1, plain), "gru": Cell(3, 1, gru), "lstm": Cell(4, 2, lstm)}


def zeros(cell: str, width: int, batch: int) -> State:
    """Return the initial state of a text."""
    return (jnp.zeros((batch, width)),) * CELLS[cell].parts


# The loop over time. If document ids are given (0 for padding, else from 1), the state is reset to
# zeros at the first token of each document, and padding does not change it.


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def run(
    cell: Cell,
    a_LBGD: jax.Array,
    kernel_DGD: jax.Array,
    bias_GD: jax.Array,
    state: State,
    marks: Marks | None,
) -> State:
    """Return the states after every step, each array [L, B, D]; `marks` come from `document_marks`.

    The backward pass is custom: the kernel's gradient is one product over all steps, where the
    gradient of a scan would sum one product per step.
    """
    return _forward(cell, a_LBGD, kernel_DGD, bias_GD, state, marks)[0]


def _forward(cell, a_LBGD, kernel_DGD, bias_GD, state, marks):
    kernel_GDE = _materialize(kernel_DGD.transpose(1, 2, 0))

    def advance(state, inputs):
        a_BGD, mark = inputs
        before = reset_at_start(state, mark)
        u_GDB = _materialize(product("GDE,BE->GDB", kernel_GDE, before[0]))
        u_BGD = u_GDB.transpose(2, 0, 1) + bias_GD
        equations = lambda a, u, state: keep_at_padding(cell.advance(a, u, state), state, mark)
        after, pullback = jax.vjp(equations, a_BGD, u_BGD, before)
        return after, (after, pullback)

    _, (states, pullbacks) = jax.lax.scan(advance, state, (a_LBGD, marks))
    return states, (pullbacks, kernel_DGD, state, states, marks)


def _backward(cell, saved, gradients):
    pullbacks, kernel_DGD, state, states, marks = saved

    def advance(gradient, inputs):
        pullback, mark, arriving = inputs
        a_BGD, u_BGD, (h_BD, *rest) = pullback(jax.tree.map(jnp.add, gradient, arriving))
        h_BD += _materialize(product("EGD,BGD->EB", kernel_DGD, u_BGD)).T
        return reset_at_start((h_BD, *rest), mark), (a_BGD, u_BGD)

    zeros = jax.tree.map(jnp.zeros_like, state)
    inputs = (pullbacks, marks, gradients)
    state_gradient, (a_LBGD, u_LBGD) = jax.lax.scan(advance, zeros, inputs, reverse=True)
    before_LBE = jnp.concatenate([state[0][None], states[0][:-1]])
    if marks is not None:
        (before_LBE,) = jax.vmap(reset_at_start)((before_LBE,), marks)
    before_ELB, dtype = _materialize(before_LBE.transpose(2, 0, 1)), kernel_DGD.dtype
    kernel = product("ELB,LBGD->EGD", before_ELB, u_LBGD.astype(dtype)).astype(dtype)
    return a_LBGD, kernel, u_LBGD.sum((0, 1)), state_gradient, None


def _materialize(x):
    """Return x materialized: on a CPU, products with a transposed view are a third slower."""
    return jax.lax.optimization_barrier(x)


run.defvjp(_forward, _backward)


def document_marks(document_ids_LB: jax.Array) -> Marks:
    """Return which tokens start a document, and which are real: bool [L, B, 1] each.

    The initial state belongs to document 1.
    """
    at_L1, real_LB = jnp.arange(len(document_ids_LB))[:, None], document_ids_LB > 0
    last_LB = jax.lax.cummax(jnp.where(real_LB, at_L1, -1))  # the last real token so far
    last_LB = jnp.pad(last_LB, ((1, 0), (0, 0)), constant_values=-1)[:-1]
    previous_LB = jnp.take_along_axis(document_ids_LB, jnp.maximum(last_LB, 0), 0)
    before_LB = jnp.where(last_LB < 0, 1, previous_LB)
    return (real_LB & (document_ids_LB != before_LB))[..., None], real_LB[..., None]


def reset_at_start(state: State, mark: Marks | None) -> State:
    """Return the state before a token: zeros at the first token of a document; no marks: as is."""
    return state if mark is None else jax.tree.map(lambda x: jnp.where(mark[0], 0, x), state)


def keep_at_padding(after: State, before: State, mark: Marks | None) -> State:
    """Return the state after a token, which padding does not change."""
    if mark is None:
        return after
    return jax.tree.map(lambda new, old: jnp.where(mark[1], new, old), after, before)


# Layers


class Gates(nn.Module):
    """The kernel_EGD and bias_GD of a projection to all gates."""

    gates: int
    width: int

    @nn.compact
    def __call__(self, inputs: int) -> tuple[jax.Array, jax.Array]:
        init = uniform(self.width)
        shape = (self.gates, self.width)
        return self.param("kernel", init, (inputs, *shape)), self.param("bias", init, shape)


def uniform(width: int) -> Callable[[chex.PRNGKey, tuple[int, ...]], jax.Array]:
    """Return an initializer that is uniform within 1 / sqrt(width), as in PyTorch."""
    bound = width**-0.5
    return lambda key, shape: jax.random.uniform(key, shape, minval=-bound, maxval=bound)


class Layer(nn.Module):
    """A unidirectional recurrent layer; `cell` is a name in CELLS."""

    cell: str
    width: int

    def setup(self):
        if self.cell not in CELLS:
            raise ValueError(f"unknown cell {self.cell!r}: use one of {', '.join(CELLS)}")
        gates = CELLS[self.cell].gates
        self.input = Gates(gates, self.width)
        self.recurrent = Gates(gates, self.width)

    def __call__(
        self,
        x_BLE: jax.Array,
        document_ids_BL: jax.Array | None = None,
        state: State | None = None,
    ) -> tuple[jax.Array, State]:
        """Return the output at every step, x_BLD, and the state after the last step."""
        return self._run(x_BLE, document_ids_BL, state, *self.recurrent(self.width))

    def step(self, x_BE: jax.Array, state: State) -> State:
        """Return the state after one more step."""
        kernel_DGD, bias_GD = self.recurrent(self.width)
        u_BGD = product("BE,EGD->BGD", state[0], kernel_DGD) + bias_GD
        return CELLS[self.cell].advance(self._project_input(x_BE), u_BGD, state)

    def _run(self, x_BLE, document_ids_BL, state, kernel_DGD, bias_GD):
        x_LBE = x_BLE.swapaxes(0, 1)
        marks = None if document_ids_BL is None else document_marks(document_ids_BL.T)
        state = zeros(self.cell, self.width, len(x_BLE)) if state is None else state
        a_LBGD = self._project_input(x_LBE)
        states = run(CELLS[self.cell], a_LBGD, kernel_DGD, bias_GD, state, marks)
        return states[0].swapaxes(0, 1), jax.tree.map(lambda x: x[-1], states)

    def _project_input(self, x):
        """Return the projection of the input to every gate: [..., E] -> [..., G, D]."""
        kernel_EGD, bias_GD = self.input(x.shape[-1])
        E, G, D = kernel_EGD.shape
        return affine(x, kernel_EGD.reshape(E, G * D)).reshape(*x.shape[:-1], G, D) + bias_GD


class WeightDroppedLayer(Layer):
    """A layer with DropConnect on its recurrent kernel (Merity et al. 2017, section 2).

    A single mask is used for all rows and time steps of a forward pass. The biases and the kernel
    of the input are not dropped.
    """

    weight_dropout: float

    def setup(self):
        super().setup()
        self.weight_drop = Dropout(self.weight_dropout)

    def __call__(
        self,
        x_BLE: jax.Array,
        document_ids_BL: jax.Array | None = None,
        state: State | None = None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, State]:
        """Return the output at every step, x_BLD, and the state after the last step."""
        kernel_DGD, bias_GD = self.recurrent(self.width)
        kernel_DGD = self.weight_drop(kernel_DGD, train=train)
        return self._run(x_BLE, document_ids_BL, state, kernel_DGD, bias_GD)


class Stack(nn.Module):
    """Stacked layers with dropout between them, but not between time steps (Zaremba et al. 2014).

    The state of the stack has one state for each layer.
    """

    num_layers: int
    cell: str
    width: int
    dropout: float

    def setup(self):
        self.layers = [Layer(self.cell, self.width) for _ in range(self.num_layers)]
        self.dropouts = [Dropout(self.dropout) for _ in range(self.num_layers - 1)]

    def __call__(
        self,
        x_BLE: jax.Array,
        document_ids_BL: jax.Array | None = None,
        states: States | None = None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, States]:
        """Return the last layer's output at every step, x_BLD, and the states after the last."""
        before = (None,) * self.num_layers if states is None else states
        after = []
        for number, (layer, state) in enumerate(zip(self.layers, before, strict=True)):
            x_BLE = self.dropouts[number - 1](x_BLE, train=train) if number else x_BLE
            x_BLE, state = layer(x_BLE, document_ids_BL, state)
            after.append(state)
        return x_BLE, tuple(after)

    def step(self, x_BE: jax.Array, states: States, *, train: bool = False) -> States:
        """Return the states after one more step; the output is states[-1][0]."""
        after = []
        for number, (layer, state) in enumerate(zip(self.layers, states, strict=True)):
            x_BE = self.dropouts[number - 1](x_BE, train=train) if number else x_BE
            after.append(layer.step(x_BE, state))
            x_BE = after[-1][0]
        return tuple(after)


def unroll(
    module: nn.Module,
    method: str,
    state: chex.ArrayTree,
    y_BTE: jax.Array,
    source: chex.ArrayTree,
    *,
    train: bool = False,
) -> jax.Array:
    """Return the outputs, [B, T, D], of a decoder with input feeding, run over a given target.

    `method` of the module maps (state, y_BE, source) to (state, x_BD). Sown arrays get the time
    steps as their third axis, where attention has its queries.
    """
    over_time = nn.scan(
        lambda module, state, y_BE: getattr(module, method)(state, y_BE, source, train=train),
        variable_broadcast="params",
        variable_axes={"intermediates": 2},
        split_rngs={"params": False, "dropout": True},
        in_axes=1,
        out_axes=1,
    )
    return over_time(module, state, y_BTE)[1]


class Bidirectional(nn.Module):
    """Bidirectional layers, each on both outputs of the previous one (Schuster and Paliwal 1997).

    The output has twice the width: forward, then backward.
    """

    num_layers: int
    cell: str
    width: int
    dropout: float

    def setup(self):
        self.forward = [Layer(self.cell, self.width) for _ in range(self.num_layers)]
        self.backward = [Layer(self.cell, self.width) for _ in range(self.num_layers)]
        self.dropouts = [Dropout(self.dropout) for _ in range(self.num_layers - 1)]

    def __call__(
        self,
        x_BLE: jax.Array,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, tuple[States, States]]:
        """Return x_BLD, D being twice the width, and the final states of both directions."""
        flipped_BL = None if document_ids_BL is None else document_ids_BL[:, ::-1]
        forward_ends, backward_ends = [], []
        for number, (forward, backward) in enumerate(zip(self.forward, self.backward, strict=True)):
            x_BLE = self.dropouts[number - 1](x_BLE, train=train) if number else x_BLE
            left_BLD, left = forward(x_BLE, document_ids_BL)
            right_BLD, right = backward(x_BLE[:, ::-1], flipped_BL)
            x_BLE = jnp.concatenate([left_BLD, right_BLD[:, ::-1]], -1)
            forward_ends.append(left)
            backward_ends.append(right)
        return x_BLE, (tuple(forward_ends), tuple(backward_ends))
