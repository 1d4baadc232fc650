"""How a network is run where its file does not say: for which platform, and what is recomputed.

Callers set this while a network is traced. The network has no field for it, and its results do not
depend on it, except for rounding and for the draws of dropout.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from math import prod
from typing import Literal, get_args

import chex
import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

# The axes of a mesh that the rows of a batch are split over, and that of heads and wide layers.
ROWS, HEADS = ("data", "fsdp"), "tensor"

Remat = Literal["none", "dots", "full"]
REMAT: tuple[Remat, ...] = get_args(Remat)


@dataclass(frozen=True)
class Execution:
    """How a network is run.

    Attributes:
      platform: "cpu", "gpu" or "tpu"; None: that of JAX's default device.
      remat: What the backward pass computes again to save memory: nothing; all of a block but its
        matrix products with weights ("dots"); or whole blocks ("full").
      mesh: The devices that the arrays are split over, for kernels that have to be run on each;
        None: one device.
      rows: The axes of the mesh that the rows of a batch are split over.
      hidden: The type of the hidden states in a stack of blocks.
    """

    platform: str | None = None
    remat: Remat = "none"
    mesh: Mesh | None = None
    rows: tuple[str, ...] = ROWS
    hidden: str = "float32"

    @property
    def target(self) -> str:
        """The platform that the network is compiled for."""
        return self.platform or jax.default_backend()


DEFAULT = Execution()
_current: ContextVar[Execution] = ContextVar("execution", default=DEFAULT)


def current() -> Execution:
    """Return how the network that is being traced will be run."""
    return _current.get()


@contextmanager
def run_as(execution: Execution) -> Iterator[None]:
    """Trace networks for another way of running them."""
    before = _current.set(execution)
    try:
        yield
    finally:
        _current.reset(before)


def split_rows(hidden: chex.ArrayTree) -> chex.ArrayTree:
    """Return hidden states [B, ...], split over the devices of a mesh by their rows alone.

    Where parameters are split over the same devices as the rows, a compiler may otherwise gather
    the rows of the batch in place of the parameters, and compute all rows on every device.
    """
    run = current()
    if run.mesh is None or run.mesh.size == 1:
        return hidden
    by_row = NamedSharding(run.mesh, P(run.rows))
    devices = prod(run.mesh.shape[axis] for axis in run.rows)
    split = lambda x: x if x.shape[0] % devices else jax.lax.with_sharding_constraint(x, by_row)
    return jax.tree.map(split, hidden)
