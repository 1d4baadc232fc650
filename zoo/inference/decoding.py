"""A decoding under way: rows that have ended leave the batch, so that they stop costing.

B batch, as many rows as are left  V vocabulary
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

FEW = 4  # rows that cost no more than one


class State(NamedTuple):
    """What a loop has: each array has B rows, or for a beam as many times B as it is wide."""

    length: jax.Array | int  # how many tokens are written: the same for all rows
    logits: jax.Array  # of the next one
    cache: Any
    texts: Any
    going_B: jax.Array  # which rows have not ended
    row_B: jax.Array  # which texts they are among those at the beginning


def loop(advance: Callable[[State], State], state: State, length) -> State:
    """Runs until half of the rows have ended, of few rows all, or to a length. Is traced."""
    B = len(state.going_B)
    least = B // 2 if B > FEW else 0
    goes = lambda state: (state.length < length) & (state.going_B.sum() > least)
    return jax.lax.while_loop(goes, advance, state)


def finish(state: State, go_on: Callable[[State], State], length: int):
    """The texts of all rows, as NumPy arrays; `go_on` runs the loop for a smaller batch.

    Batches are halved, to powers of two, so that each rung is compiled for few of them.
    """
    texts = jax.tree.map(np.array, state.texts)
    while (going_B := np.asarray(state.going_B)).any() and state.length < length:
        size = max(FEW, 1 << (int(going_B.sum()) - 1).bit_length())
        state = go_on(_only(state, np.argsort(~going_B, kind="stable")[:size]))
        for whole, part in zip(jax.tree.leaves(texts), jax.tree.leaves(state.texts), strict=True):
            whole[np.asarray(state.row_B)] = part
    return texts


@jax.jit
def _only(state: State, rows):
    B = len(state.going_B)

    def some(leaf):
        if leaf.ndim == 0:
            return leaf
        return leaf.reshape(B, -1, *leaf.shape[1:])[rows].reshape(-1, *leaf.shape[1:])

    return jax.tree.map(some, state)
