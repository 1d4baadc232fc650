"""The contract of objectives whose step reads and changes a few rows of large tables.

A dense gradient of a table of word vectors costs as much as the table is large, however few words a
step has. So a step of such an objective is a sequence of updates, each on one block of every row of
the batch: it gathers the rows of the tables that the block reads, and scatters the updates.
"""

from typing import Protocol, runtime_checkable

import chex
import jax
from flax import linen as nn

from train.objectives.objective import Example, Objective, Term

Rows = dict[str, jax.Array]  # name of a table -> ids of rows, or the rows themselves


@runtime_checkable
class RowObjective(Objective, Protocol):
    """An objective that reads rows of tables; the names of parameters are those of the tables.

    The loss of a step is the mean over all predictions of its blocks, but an update is the sum of
    the gradients of its predictions times the learning rate, as in the programs that update the
    tables after every word: a mean would move the tables of a block no further than one word does.
    """

    def corrupt(self, key: chex.PRNGKey, example: Example) -> Example:
        """Return the example: all random draws are in the batch already."""
        return example

    def num_blocks(self, batch: Example) -> jax.Array:
        """Return the number of blocks of the longest row of a batch: int32."""
        ...

    def block(self, batch: Example, number: jax.Array) -> Example:
        """Return a block of every row, with "weights" like those of `corrupt`."""
        ...

    def rows(self, block: Example) -> Rows:
        """Return the ids of the rows of each table that a block reads, of any shape."""
        ...

    def loss(
        self,
        model: nn.Module,
        params: chex.ArrayTree,
        batch: Example,
        carry: chex.ArrayTree,
        key: chex.PRNGKey,
        *,
        train: bool,
    ) -> tuple[dict[str, Term], chex.ArrayTree]:
        """Return the terms of the loss of a block, and the carry.

        Args:
          model: Not used: the rows hold all that is needed.
          params: The rows that `rows` names, in float32 or the compute type: [*ids, D].
          batch: The block.
          carry: ().
          key: The key of the step.
          train: Whether this is a training step.
        """
        ...
