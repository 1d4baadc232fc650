"""A stack of blocks as one loop or many calls, with or without recomputation.

Compiled as calls, a stack takes compile time in proportion to its depth. As a loop over blocks of
one shape it takes that of one block, but every step copies the block's parameters out of a stack of
all. So the loop is for deep stacks on a CPU, and for all but the shallowest elsewhere.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers import execution
from zoo.layers.execution import split_rows
from zoo.layers.linear import BETWEEN_TOKENS, WITH_WEIGHTS, hidden_states

# The least number of blocks in a loop. On a CPU a step of a loop is a tenth slower.
LEAST_DEPTH = {"cpu": 24}
LEAST_DEPTH_ELSEWHERE = 4
# What is kept for the backward pass; all else is computed again. Without a policy, a loop would
# keep every value between two products, which a compiler computes again where there is no loop.
kept = jax.checkpoint_policies.save_only_these_names
POLICIES = {
    "none": kept(WITH_WEIGHTS, BETWEEN_TOKENS),
    "dots": kept(WITH_WEIGHTS),
    "full": jax.checkpoint_policies.nothing_saveable,
}
Inputs = tuple[chex.ArrayTree, ...]


@dataclasses.dataclass(frozen=True)
class Layer:
    """One block of a stack, as a pure function of its arrays.

    Attributes:
      module: The block, without parameters.
      arrays: Its variables, and the key of its dropout or None.
      own: Its own inputs.
    """

    module: nn.Module
    arrays: tuple[Any, Any]
    own: Inputs

    def call(self, arrays: Any, x: chex.ArrayTree, *inputs: Any, train: bool) -> chex.ArrayTree:
        """Return the output of the block with these arrays."""
        variables, key = arrays
        rngs = {} if key is None else {"dropout": key}
        return self.module.apply(variables, x, *inputs, train=train, rngs=rngs)


def run(
    blocks: Sequence[nn.Module],
    x: chex.ArrayTree,
    own: Sequence[Inputs],
    inputs: Inputs,
    *,
    train: bool,
) -> list[chex.ArrayTree]:
    """Return x and the output of every block, run as the current execution says.

    All of them are float32, whatever the type of the hidden states between the blocks is.

    Args:
      blocks: Bound blocks, called as block(x, *own, *inputs, train=train).
      x: The input of the first block.
      own: The inputs of each block alone.
      inputs: The inputs of all blocks.
      train: Passed to the blocks.
    """
    dtype = execution.current().hidden
    if dtype == "float32":
        return _run(blocks, x, own, inputs, train=train)
    narrow = lambda x: x.astype(dtype) if x.dtype == jnp.float32 else x
    wide = lambda x: x.astype(jnp.float32) if x.dtype == dtype else x
    with hidden_states(dtype):
        _, *after = _run(blocks, jax.tree.map(narrow, x), own, inputs, train=train)
    return [x, *jax.tree.map(wide, after)]


def _run(blocks, x, own, inputs, *, train: bool) -> list[chex.ArrayTree]:
    x, remat = split_rows(x), execution.current().remat
    period = _period(blocks, own)
    if not _pays_as_loop(len(blocks), period):
        if remat == "none":
            states = [x]
            for block, mine in zip(blocks, own, strict=True):
                states.append(split_rows(block(states[-1], *mine, *inputs, train=train)))
            return states
        period = len(blocks)
    layers = [_layer(block, mine, train) for block, mine in zip(blocks, own, strict=True)]
    calls = [_recomputed(layer.call, remat, train) for layer in layers[:period]]

    def run_round(x, arrays_and_own):
        states = []
        for call, (arrays, mine) in zip(calls, arrays_and_own, strict=True):
            x = split_rows(call(arrays, x, *mine, *inputs))
            states.append(x)
        return x, states

    rounds = [layers[start : start + period] for start in range(0, len(layers), period)]
    arguments = [[(layer.arrays, layer.own) for layer in layers] for layers in rounds]
    after, _ = jax.eval_shape(run_round, x, arguments[0])
    is_alike = jax.tree.map(lambda x, y: (x.shape, x.dtype) == (y.shape, y.dtype), x, after)
    if len(rounds) == 1 or not all(jax.tree.leaves(is_alike)):  # a loop passes on what it gets
        states = [x]
        for argument in arguments:
            states += run_round(states[-1], argument)[1]
        return states
    return [x, *_loop(run_round, x, arguments)]


def _loop(run_round: Callable, x: chex.ArrayTree, arguments: Sequence[Any]) -> list[chex.ArrayTree]:
    """Return the outputs of all blocks, from a loop over rounds of equal shapes."""
    structure = jax.tree.structure(arguments[0])
    columns = list(zip(*(jax.tree.leaves(argument) for argument in arguments), strict=True))
    # What all rounds share, such as ALBERT's block or a mask, is not copied for each of them.
    shared = [all(leaf is column[0] for leaf in column) for column in columns]
    stacked = [
        jnp.stack(column)
        for column, is_shared in zip(columns, shared, strict=True)
        if not is_shared
    ]

    def body(x, slices):
        rest = iter(slices)
        leaves = [
            column[0] if is_shared else next(rest)
            for column, is_shared in zip(columns, shared, strict=True)
        ]
        return run_round(x, jax.tree.unflatten(structure, leaves))

    _, states = jax.lax.scan(body, x, stacked, len(arguments))
    pick = lambda number: [jax.tree.map(lambda x: x[number], state) for state in states]
    return [state for number in range(len(arguments)) for state in pick(number)]


def _pays_as_loop(depth: int, period: int) -> bool:
    least = LEAST_DEPTH.get(execution.current().target, LEAST_DEPTH_ELSEWHERE)
    return depth >= least and depth > period


def _period(blocks: Sequence[nn.Module], own: Sequence[Inputs]) -> int:
    """Return after how many blocks a stack repeats; its length if it does not."""
    kinds = [_kind(block, mine) for block, mine in zip(blocks, own, strict=True)]
    for period in range(1, len(kinds) // 2 + 1):
        if len(kinds) % period == 0 and kinds == kinds[:period] * (len(kinds) // period):
            return period
    return len(kinds)


def _kind(block: nn.Module, own: Inputs) -> Any:
    """Return what two blocks have in common if one program can run both."""
    fields = {
        field.name: getattr(block, field.name)
        for field in dataclasses.fields(block)
        if field.name not in ("name", "parent")
    }
    shapes = [(jnp.shape(x), jnp.result_type(x)) for x in jax.tree.leaves(own)]
    return type(block), fields, jax.tree.structure(own), shapes


def _layer(block: nn.Module, own: Inputs, train: bool) -> Layer:
    key = block.make_rng("dropout") if train and block.has_rng("dropout") else None
    module, variables = block.unbind()
    return Layer(module, (variables, key), own)


def _recomputed(call: Callable, remat: str, train: bool) -> Callable:
    """Return the call of a block, which the backward pass repeats as `remat` says."""
    pure = lambda arrays, x, *inputs: call(arrays, x, *inputs, train=train)
    return jax.checkpoint(pure, policy=POLICIES[remat])
