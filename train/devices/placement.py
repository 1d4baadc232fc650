"""Where the state and the batches lie, and how the step runs over the devices.

`mesh` compiles the step once for a mesh with the axes data, fsdp and tensor, over arrays that are
global; `pmap` maps the same step over replicas, one per device. Both agree with one device.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import chex
import jax
import numpy as np
import optax
from flax import linen as nn
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from train.objectives.objective import Objective
from train.step import State

# The path rules of a model: pattern -> the mesh axis of each axis of a parameter.
Axes = tuple[tuple[str, tuple[str | None, ...]], ...]
Batch = Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True, eq=False)
class Training:
    """What is placed on devices: the parts of a step, which know nothing of devices.

    Attributes:
      model: The network.
      objective: What it is trained to do.
      optimizer: How parameters are updated.
      schedule: The learning rates, for reports.
      axes: The path rules of the model.
      batch_size: Rows of a batch, over all devices.
      seed: Decides weights, masks and dropout.
      dtype: What matrix products compute in.
      accumulate: Micro-batches that a batch is cut into.
    """

    model: nn.Module
    objective: Objective
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    axes: Axes
    batch_size: int
    seed: int
    dtype: str
    accumulate: int

    def check_rows(self, devices: int) -> None:
        """Raise ValueError unless all micro-batches have as many rows on every device."""
        if self.batch_size % (self.accumulate * devices):
            raise ValueError(
                f"a batch of {self.batch_size} cannot be cut into {self.accumulate} parts over "
                f"{devices} devices"
            )


class Placement(Protocol):
    """A training on its devices."""

    @property
    def abstract(self) -> State:
        """Shapes, types and shardings of the state that is saved."""
        ...

    def init(self) -> State:
        """Return the state before the first step, created where it is to lie."""
        ...

    def step(self, state: State, batch: chex.ArrayTree) -> tuple[State, dict[str, jax.Array]]:
        """Return the state after one step, and its metrics. The old state is donated."""
        ...

    def evaluate(
        self, params: chex.ArrayTree, batch: chex.ArrayTree, carry: chex.ArrayTree, number: int
    ) -> tuple[chex.ArrayTree, chex.ArrayTree]:
        """Return the sums of the terms of an evaluation batch with their weights, and the carry."""
        ...

    def put(self, batch: Batch) -> chex.ArrayTree:
        """Return this process's rows of a batch, in host memory, as a batch on the devices."""
        ...

    def initial_carry(self) -> chex.ArrayTree:
        """Return the carry before the first batch of an evaluation."""
        ...

    def to_saved(self, state: State) -> State:
        """Return what a checkpoint holds of a state, as `abstract` describes it."""
        ...

    def from_saved(self, saved: State) -> State:
        """Return the state of a checkpoint."""
        ...


def join_processes(
    address: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
    """Join several processes into one run.

    JAX finds the others itself on TPU pods and in Slurm, Kubernetes and Open MPI jobs.

    Args:
      address: The host:port of process 0, where JAX does not find it.
      processes: How many processes there are.
      process: The number of this one.

    Raises:
      ValueError: If there are no others.
    """
    try:
        jax.distributed.initialize(address, processes, process)
    except ValueError as error:
        raise ValueError(f"there are no other processes to join here: {error}") from error


def make_mesh(data: int = -1, fsdp: int = 1, tensor: int = 1) -> Mesh:
    """Return a mesh over all devices; -1 stands for all that the other axes leave."""
    sizes, count = [data, fsdp, tensor], jax.device_count()
    if -1 in sizes:
        sizes[sizes.index(-1)] = count // -int(np.prod(sizes))
    if int(np.prod(sizes)) != count:
        raise ValueError(f"a mesh of {data} x {fsdp} x {tensor} does not fit {count} devices")
    return jax.make_mesh(tuple(sizes), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)


def over_runs(runs: int, rows: int) -> tuple[NamedSharding, NamedSharding, NamedSharding]:
    """Return where several runs lie that are trained at once.

    The devices divide the runs among them, and the rows of every run's batch if some are left.

    Args:
      runs: How many runs there are.
      rows: Rows of the batch of one run.

    Returns:
      The shardings of arrays [runs, ...], of batches [runs, rows, ...], and of what all share.
    """
    devices = jax.devices()
    first = _divisor(runs, len(devices))
    sizes = first, _divisor(rows, len(devices) // first)
    mesh = jax.make_mesh(
        sizes,
        ("runs", "rows"),
        axis_types=(AxisType.Auto,) * 2,
        devices=devices[: sizes[0] * sizes[1]],
    )
    over = lambda *axes: NamedSharding(mesh, P(*axes))
    return over("runs"), over("runs", "rows"), over()


def memory() -> float:
    """Return the bytes that every device has for arrays; CPUs share those of the machine."""
    devices = jax.devices()
    known = (devices[0].memory_stats() or {}).get("bytes_limit")
    return known or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / len(devices)


def _divisor(count: int, most: int) -> int:
    """Return the largest number up to `most` that divides a count."""
    return max(n for n in range(1, min(count, most) + 1) if count % n == 0)
