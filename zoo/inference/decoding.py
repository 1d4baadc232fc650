"""The decoding loop: finished rows are removed from the batch, so that they take no more time.

B batch, the remaining rows  V vocabulary
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

FEW = 4  # a batch of this many rows takes no longer than one row


class State(NamedTuple):
    """The state of a loop; each array has B rows, or for beam search B times the beam width."""

    length: jax.Array | int  # number of generated tokens, the same for all rows
    logits: jax.Array  # of the next token
    cache: Any
    texts: Any
    unfinished_B: jax.Array  # which rows have not ended
    row_B: jax.Array  # their indices in the original batch
    before: Any = None  # what the texts begin with, if constraints read it


def loop(advance: Callable[[State], State], state: State, length) -> State:
    """Run a traced loop until half of the rows have ended, or up to a length.

    A batch of FEW rows or less runs until all have ended.
    """
    B = len(state.unfinished_B)
    remaining = B // 2 if B > FEW else 0
    unfinished = lambda state: (state.length < length) & (state.unfinished_B.sum() > remaining)
    return jax.lax.while_loop(unfinished, advance, state)


def finish(
    state: State,
    resume: Callable[[State, int], State],
    length: int,
    chunk: int | None = None,
    has_ended: Callable[[Any, np.ndarray], np.ndarray] | None = None,
):
    """Return the texts of all rows, as NumPy arrays; `resume` runs the loop for a smaller batch.

    Batch sizes are powers of two, so that few programs are compiled.

    Args:
      state: The state after the first run of the loop.
      resume: Continues the loop up to a number of tokens.
      length: Maximum number of tokens.
      chunk: How many tokens the loop generates at a time; None: all.
      has_ended: Returns, after each chunk, which rows have ended for another reason than their
        last token, given their texts and their indices in the original batch.
    """
    texts = jax.tree.map(np.array, state.texts)
    while True:
        for array, part in zip(jax.tree.leaves(texts), jax.tree.leaves(state.texts), strict=True):
            array[np.asarray(state.row_B)] = part
        unfinished_B = np.asarray(state.unfinished_B)
        if has_ended is not None:
            unfinished_B = unfinished_B & ~has_ended(state.texts, np.asarray(state.row_B))
            state = state._replace(unfinished_B=jax.numpy.asarray(unfinished_B))
        if not unfinished_B.any() or state.length >= length:
            return texts
        size = max(FEW, 1 << (int(unfinished_B.sum()) - 1).bit_length())
        if size < len(unfinished_B):
            state = _select_rows(state, np.argsort(~unfinished_B, kind="stable")[:size])
        state = resume(state, length if chunk is None else min(length, int(state.length) + chunk))


@jax.jit
def _select_rows(state: State, rows):
    B = len(state.unfinished_B)

    def select(leaf):
        if leaf.ndim == 0:
            return leaf
        return leaf.reshape(B, -1, *leaf.shape[1:])[rows].reshape(-1, *leaf.shape[1:])

    return jax.tree.map(select, state)
