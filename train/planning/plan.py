"""The plan of a run: memory, time and communication per device, before anything is trained.

Memory of the state and FLOP of matrix products are exact. Activations are an estimate, and bytes
moved a lower bound, unless a compiler has been asked (`train.planning.compiled`). The time is that
of the roofline (Williams et al. 2009): the larger of FLOP over the chip's rate and bytes over its
bandwidth. Communication is stated apart, since compilers hide much of it behind computation.
"""

import bisect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import chex
import jax
from jax.sharding import AbstractMesh, AxisType

from train.devices.mesh import shardings
from train.planning import programs
from train.planning.machines import Machine
from train.planning.run_shapes import run_shapes
from train.recipes.recipe import Recipe, with_fields
from train.step import State
from zoo.layers.execution import REMAT, Remat
from zoo.params import flatten

AXES = ("data", "fsdp", "tensor")
USABLE = 0.95  # of a chip's memory; the runtime needs some
SECONDS_PER_DAY = 86_400


@dataclass(frozen=True)
class Memory:
    """Bytes per device.

    Attributes:
      parameters: The parameters, in float32.
      optimizer: The state of the optimizer.
      gradients: The gradients, in float32.
      activations: All else that is in memory at once.
    """

    parameters: float
    optimizer: float
    gradients: float
    activations: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.parameters + self.optimizer + self.gradients + self.activations

    def fits(self, machine: Machine) -> bool:
        """Return whether the chips of a machine have it."""
        return self.total <= USABLE * machine.chip.memory


@dataclass(frozen=True)
class Plan:
    """What a run of a recipe needs on a machine.

    Attributes:
      recipe: The recipe, with the settings of the plan.
      machine: The machine.
      mesh: Devices along data, fsdp and tensor.
      num_parameters: The size of the model.
      memory: Bytes per device.
      model_flops: FLOP of the matrix products of a step, per device, without recomputation.
      moved: Bytes between memory and chip in a step, per device.
      communication: Bytes that a device sends in a step, by axis of the mesh.
      source: Who says so: "formula" or "compiler".
    """

    recipe: Recipe
    machine: Machine
    mesh: tuple[int, int, int]
    num_parameters: int
    memory: Memory
    model_flops: float
    moved: float
    communication: Mapping[str, float]
    source: str = "formula"

    @property
    def fits(self) -> bool:
        """Whether the chips have the memory."""
        return self.memory.fits(self.machine)

    @property
    def compute_seconds(self) -> float | None:
        """Seconds of the matrix products of a step; None on a chip of unknown speed."""
        flops = self.machine.chip.flops
        return None if flops is None else self.model_flops / flops

    @property
    def memory_seconds(self) -> float:
        """Seconds of the transfers between memory and chip in a step."""
        return self.moved / self.machine.chip.bandwidth

    @property
    def link_seconds(self) -> float:
        """Seconds of the communication of a step, if nothing hides it."""
        return sum(self.communication.values()) / self.machine.chip.link

    @property
    def step_seconds(self) -> float | None:
        """The least seconds that a step takes."""
        compute = self.compute_seconds
        return None if compute is None else max(compute, self.memory_seconds, self.link_seconds)

    @property
    def share_of_peak(self) -> float | None:
        """The best possible share of the chip's rate that the model's FLOP have."""
        compute, step = self.compute_seconds, self.step_seconds
        return None if compute is None or step is None else compute / step

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens per second, over all devices."""
        step = self.step_seconds
        return None if step is None else self.recipe.batch * self.recipe.length / step

    @property
    def days(self) -> float | None:
        """Days of the whole recipe; None if its steps follow from the text, in epochs."""
        step = self.step_seconds
        if step is None or self.recipe.epochs is not None:
            return None
        return self.recipe.steps * step / SECONDS_PER_DAY

    def cost(self, price: float) -> float | None:
        """Return the cost of the whole recipe, given the price of a device and hour."""
        return None if self.days is None else self.days * 24 * self.machine.devices * price


class Traced(NamedTuple):
    """What a traced step computes and keeps on one device, whose layers are not split.

    Attributes:
      flops: FLOP of its matrix products.
      moved: The least bytes between memory and chip.
      peak: The most bytes of intermediate results at once.
    """

    flops: float
    moved: float
    peak: float


class Planner:
    """Plans of a recipe for any machine, mesh, number of micro-batches and recomputation.

    Tracing a deep model takes seconds, so steps with the same rows are traced once.
    """

    def __init__(self, recipe: Recipe):
        self._recipe = recipe
        self._shapes = run_shapes(recipe)
        self._traced: dict[tuple[int, Remat, str], Traced] = {}

    @property
    def num_parameters(self) -> int:
        """The size of the model."""
        return sum(math.prod(x.shape) for x in jax.tree.leaves(self._state.params))

    def plan(self, machine: Machine, mesh: tuple[int, int, int], **changes: Any) -> Plan:
        """Return the plan of the recipe on a machine, by formula.

        Args:
          machine: The machine.
          mesh: Devices along data, fsdp and tensor; -1: all that are left.
          changes: Other values of `accumulate` and `remat` than those of the recipe.

        Raises:
          ValueError: If the mesh does not fit the machine, or the batch the mesh.
        """
        mesh, recipe = full_mesh(mesh, machine), with_fields(self._recipe, **changes)
        rows = _rows(recipe, mesh)
        memory = self._memory(recipe, machine, mesh)
        program = self._trace(rows, recipe.remat, _traced_platform(recipe, machine))
        # The model's own FLOP do not count what is computed again, or what is inside of kernels.
        plain = self._trace(rows, "none", "cpu")
        update = 3 * memory.parameters + 2 * memory.optimizer  # the gradient is only read
        params, axes = self._state.params, self._shapes.training.axes
        return Plan(
            recipe=recipe,
            machine=machine,
            mesh=mesh,
            num_parameters=self.num_parameters,
            memory=memory,
            model_flops=recipe.accumulate * plain.flops / mesh[2],
            moved=recipe.accumulate * program.moved / mesh[2] + update,
            communication=communication(recipe, params, mesh, axes, rows),
        )

    def first_that_fits(
        self, machine: Machine, mesh: tuple[int, int, int] = (-1, 1, 1)
    ) -> Plan | None:
        """Return the plan with the fewest changes to the recipe that fits a machine, or None.

        More micro-batches come first, since they change nothing else; then recomputation; then
        splitting the state over `fsdp`; then splitting layers over `tensor` as well.
        """
        for shape, counts, remat in _candidates(self._recipe, machine, full_mesh(mesh, machine)):

            def fits(count: int, shape=shape, remat=remat) -> bool:
                chosen = with_fields(self._recipe, accumulate=count, remat=remat)
                return self._memory(chosen, machine, shape).fits(machine)

            if self._state_memory(shape).fits(machine) and fits(counts[-1]):
                count = counts[bisect.bisect_left(counts, True, key=fits)]
                return self.plan(machine, shape, accumulate=count, remat=remat)
        return None

    def _memory(self, recipe: Recipe, machine: Machine, mesh: tuple[int, int, int]) -> Memory:
        platform = _traced_platform(recipe, machine)
        state = self._state_memory(mesh)
        peak = self._trace(_rows(recipe, mesh), recipe.remat, platform).peak
        return replace(state, activations=max(peak / mesh[2] - state.parameters, 0.0))

    def _state_memory(self, mesh: tuple[int, int, int]) -> Memory:
        """Return the memory of a device without activations."""
        axes = self._shapes.training.axes
        parameters = sharded_bytes(self._state.params, mesh, axes)
        optimizer = sharded_bytes(self._state.opt_state, mesh, axes)
        return Memory(parameters, optimizer, parameters, 0.0)

    @cached_property
    def _state(self) -> State:
        return self._shapes.state()

    def _trace(self, rows: int, remat: Remat, platform: str) -> Traced:
        """Return what a step of one micro-batch does."""
        if (rows, remat, platform) not in self._traced:
            shapes = self._shapes.with_rows(rows, remat)
            step = shapes.step(platform)
            program = jax.make_jaxpr(step)(shapes.state(), shapes.batch()).jaxpr
            measures = programs.matrix_flops, programs.product_bytes, programs.peak_bytes
            self._traced[rows, remat, platform] = Traced(*(one(program) for one in measures))
        return self._traced[rows, remat, platform]


def plan(recipe: Recipe, machine: Machine, mesh: tuple[int, int, int] = (-1, 1, 1)) -> Plan:
    """Return the plan of a recipe on a machine, as `Planner` does."""
    return Planner(recipe).plan(machine, mesh)


def _rows(recipe: Recipe, mesh: tuple[int, int, int]) -> int:
    """Return the rows of a micro-batch on one device."""
    data, fsdp, _ = mesh
    rows, rest = divmod(recipe.batch, data * fsdp * recipe.accumulate)
    if rest:
        raise ValueError(
            f"a batch of {recipe.batch} cannot be split into {recipe.accumulate} parts over "
            f"{data * fsdp} devices: use a multiple of {recipe.accumulate * data * fsdp}"
        )
    return rows


def _traced_platform(recipe: Recipe, machine: Machine) -> str:
    """Return the platform whose program stands for that of a machine.

    cuDNN's attention cannot be traced without a GPU. The kernel for TPUs reads and writes the same.
    """
    if machine.platform == "gpu" and not vars(recipe.config).get("dropout"):
        return "tpu"
    return machine.platform


def full_mesh(mesh: tuple[int, int, int], machine: Machine) -> tuple[int, int, int]:
    """Return a mesh with its -1 replaced by all devices that are left.

    Raises:
      ValueError: If the mesh does not fit the machine.
    """
    sizes = list(mesh)
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = machine.devices // -math.prod(sizes)
    if min(sizes) < 1 or math.prod(sizes) != machine.devices:
        raise ValueError(
            f"--mesh {' '.join(map(str, mesh))} does not fit {machine.name}: the product must be "
            f"{machine.devices}"
        )
    return sizes[0], sizes[1], sizes[2]


def sharded_bytes(tree: chex.ArrayTree, mesh: tuple[int, int, int], axes: Any) -> float:
    """Return the bytes of a tree on one device of a mesh."""
    placed = shardings(tree, _abstract_mesh(mesh), axes)
    bytes_of = lambda x, s: math.prod(s.shard_shape(x.shape)) * x.dtype.itemsize
    return float(sum(jax.tree.leaves(jax.tree.map(bytes_of, tree, placed))))


def communication(
    recipe: Recipe, params: chex.ArrayTree, mesh: tuple[int, int, int], axes: Any, rows: int
) -> dict[str, float]:
    """Return the bytes that a device sends in a step, by axis of the mesh.

    Of n devices in a ring, each sends (n - 1) / n of an array to gather it or to scatter its sum,
    and twice as much to have the sum everywhere. Over `data`, gradients are summed once a step.
    Over `fsdp`, each micro-batch gathers every split parameter twice, in the type of computation,
    and scatters its gradient. Over `tensor`, each block sums its two results in the forward pass,
    and the gradients of its two inputs in the backward pass (Shoeybi et al. 2019, section 3).
    """
    data, fsdp, tensor = mesh
    size = {"float32": 4, "bfloat16": 2}[recipe.dtype]
    placed = shardings(params, _abstract_mesh(mesh), axes)
    gradients = split = 0.0
    for path, x in flatten(params).items():
        sharding = flatten(placed)[path]
        count = math.prod(sharding.shard_shape(x.shape))
        gradients += 4 * count
        if "fsdp" in sharding.spec:
            split += count * fsdp
    ring = lambda n: (n - 1) / n
    sent = {
        "data": 2 * ring(data) * gradients,
        "fsdp": recipe.accumulate * ring(fsdp) * split * (2 * size + 4),
    }
    config = vars(recipe.config)
    layers = recipe.config.num_layers + config.get("num_decoder_layers", 0)
    activations = rows * recipe.length * recipe.config.width * size
    sent["tensor"] = recipe.accumulate * layers * 4 * 2 * ring(tensor) * activations
    return sent


def _candidates(
    recipe: Recipe, machine: Machine, mesh: tuple[int, int, int]
) -> Iterator[tuple[tuple[int, int, int], list[int], Remat]]:
    """Yield meshes, numbers of micro-batches, and recomputation, the least change first."""
    n = machine.devices
    over_tensor = [(1, n // t, t) for t in (2, 4, 8) if n % t == 0 and n > t]
    for data, fsdp, tensor in dict.fromkeys([mesh, (1, n, 1), *over_tensor]):
        at_once, rest = divmod(recipe.batch, data * fsdp)
        if rest or at_once % recipe.accumulate:
            continue  # more rows at once than the batch has
        multiples = range(recipe.accumulate, at_once + 1, recipe.accumulate)
        counts = [count for count in multiples if at_once % count == 0]
        yield (data, fsdp, tensor), counts, recipe.remat
        for remat in REMAT[REMAT.index(recipe.remat) + 1 :]:
            yield (data, fsdp, tensor), counts[-1:], remat


def _abstract_mesh(mesh: tuple[int, int, int]) -> AbstractMesh:
    return AbstractMesh(mesh, AXES, axis_types=(AxisType.Auto,) * 3)
