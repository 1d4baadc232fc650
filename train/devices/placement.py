"""Placement of the state and the batches on devices, and the parallel step.

`mesh` compiles the step once for a mesh with the axes data, fsdp and tensor, over global arrays.
`pmap` maps the same step over replicas, one per device. Both give the same results as a single
device.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import chex
import jax
import numpy as np
import optax
from flax import linen as nn
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from train.objectives.objective import Objective
from train.objectives.row_objective import RowObjective
from train.row_step import make_row_evaluate, make_row_step
from train.step import State, make_evaluate, make_step
from zoo.layers.execution import Execution, Remat

# The path rules of a model: pattern -> the mesh axis of each axis of a parameter.
Axes = tuple[tuple[str, tuple[str | None, ...]], ...]
Batch = Mapping[str, np.ndarray]
JOIN_SECONDS = 1800  # in which all processes of a run have to start


@dataclass(frozen=True, kw_only=True, eq=False)
class Training:
    """The parts of a training step, independent of devices.

    Attributes:
      model: The network.
      init: Returns the initial parameters; it is traced.
      objective: The training objective.
      optimizer: The optimizer.
      schedule: The learning rates, for reports.
      axes: The sharding rules of the model.
      batch_size: Rows per batch, over all devices.
      seed: Seed of masks and dropout.
      dtype: The type of matrix products.
      accumulate: Number of micro-batches per batch.
      remat: What the backward pass computes again.
    """

    model: nn.Module
    init: Callable[[], chex.ArrayTree]
    objective: Objective
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    axes: Axes
    batch_size: int
    seed: int
    dtype: str
    accumulate: int
    remat: Remat = "none"

    def makers(self, platform: str, mesh: Mesh | None = None) -> tuple[Any, Any]:
        """Return the functions that make the step and the evaluation of one batch.

        Args:
          platform: The kind of device that they run on.
          mesh: The devices that arrays are split over; None: each device has its own.
        """
        if isinstance(self.objective, RowObjective):
            return make_row_step, make_row_evaluate
        execution = self.execution(platform, mesh)
        return partial(make_step, execution=execution), partial(make_evaluate, execution=execution)

    def execution(self, platform: str, mesh: Mesh | None = None) -> Execution:
        """Return how the network is run on a platform."""
        return Execution(platform, self.remat, mesh, hidden=self.dtype)

    def check_rows(self, devices: int) -> None:
        """Raise ValueError unless all devices have equally many rows in every micro-batch."""
        if self.batch_size % (self.accumulate * devices):
            raise ValueError(
                f"a batch of {self.batch_size} cannot be split into {self.accumulate} parts over "
                f"{devices} devices: use a multiple of {self.accumulate * devices}"
            )


class StepPlacement(Protocol):
    """A training state and its step on devices."""

    @property
    def abstract(self) -> State:
        """The shapes, types and shardings of the saved state."""
        ...

    def begin(self, params: chex.ArrayTree, step: int = 0) -> State:
        """Return the state before a step, with a copy of the given parameters."""
        ...

    def step(self, state: State, batch: chex.ArrayTree) -> tuple[State, dict[str, jax.Array]]:
        """Return the state after one step, and the metrics; the old state is donated."""
        ...

    def put(self, batch: Batch) -> chex.ArrayTree:
        """Return a batch on the devices, from the rows of this process in host memory."""
        ...

    def to_saved(self, state: State) -> State:
        """Return a state in the form of checkpoints, which `abstract` describes."""
        ...

    def from_saved(self, saved: State) -> State:
        """Return a state from the form of checkpoints."""
        ...


class Placement(StepPlacement, Protocol):
    """A placement that also initializes and evaluates on the devices."""

    def init(self) -> State:
        """Return the state before the first step, created directly on its devices."""
        ...

    def evaluate(
        self, params: chex.ArrayTree, batch: chex.ArrayTree, carry: chex.ArrayTree, number: int
    ) -> tuple[chex.ArrayTree, chex.ArrayTree]:
        """Return the sums of an evaluation batch (terms, weights), and the carry."""
        ...

    def initial_carry(self) -> chex.ArrayTree:
        """Return the carry before the first batch of an evaluation."""
        ...


def join_processes(
    address: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
    """Connect this process to the other processes of the run.

    JAX detects them automatically on TPU pods and in Slurm, Kubernetes and Open MPI jobs.

    Args:
      address: The host:port of process 0. None: detected by JAX.
      processes: The number of processes. None: detected by JAX.
      process: The index of this process. None: detected by JAX.

    Raises:
      ValueError: If JAX finds no other processes.
    """
    try:
        jax.distributed.initialize(address, processes, process, initialization_timeout=JOIN_SECONDS)
    except ValueError as error:
        raise ValueError(f"no other processes were found to join: {error}") from error


def make_mesh(
    data: int = -1,
    fsdp: int = 1,
    tensor: int = 1,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """Return a mesh over devices, all by default; an axis of -1 gets all remaining devices."""
    devices = jax.devices() if devices is None else devices
    sizes, count = [data, fsdp, tensor], len(devices)
    if -1 in sizes:
        sizes[sizes.index(-1)] = count // -int(np.prod(sizes))
    if int(np.prod(sizes)) != count:
        raise ValueError(
            f"a mesh of {data} x {fsdp} x {tensor} does not fit {count} devices: "
            f"the product must be {count}"
        )
    names, types = ("data", "fsdp", "tensor"), (AxisType.Auto,) * 3
    return jax.make_mesh(tuple(sizes), names, axis_types=types, devices=devices)


def over_runs(runs: int, rows: int) -> tuple[NamedSharding, NamedSharding, NamedSharding]:
    """Return the shardings of runs that are trained in parallel.

    The runs are divided among the devices. If there are more devices than runs, the rows of each
    batch are divided too.

    Args:
      runs: Number of runs.
      rows: Rows per batch of one run.

    Returns:
      The shardings of arrays [runs, ...], of batches [runs, rows, ...], and of shared arrays.
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
    """Return the bytes of memory per device; CPU devices share the memory of the machine."""
    devices = jax.devices()
    limit = (devices[0].memory_stats() or {}).get("bytes_limit")
    return limit or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / len(devices)


def _divisor(count: int, most: int) -> int:
    """Return the largest divisor of `count` that is at most `most`."""
    return max(n for n in range(1, min(count, most) + 1) if count % n == 0)
