"""What the TPU compiler says about a step; it runs on any machine, without a TPU.

It counts the body of a loop once. So FLOP and bytes are those of models of one and of two layers,
whose difference is what a layer takes, while the memory is that of the whole program.
"""

import importlib.util
import os
from dataclasses import replace
from typing import Any

import jax

from train.devices.mesh import MeshPlacement
from train.planning.machines import Machine
from train.planning.plan import Plan
from train.planning.run_shapes import RunShapes, run_shapes
from train.recipes.recipe import Recipe


def check(machine: Machine) -> None:
    """Raise ValueError unless there is a compiler for a machine here."""
    if machine.platform != "tpu":
        raise ValueError(f"--compile is for TPUs: {machine.name} is planned by formula")
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError("--compile needs the TPU compiler: pip install 'language-zoo[tpu]'")


def compiled(plan: Plan) -> Plan:
    """Return a plan with the memory and the bytes moved that the TPU compiler reports.

    Compiling takes minutes for a deep model.

    Raises:
      ValueError: If the compiler is not installed, or the machine is no TPU.
    """
    check(plan.machine)
    devices = _devices(plan.machine)
    used: Any = _compile(plan, run_shapes(plan.recipe), devices).memory_analysis()
    total = used.argument_size_in_bytes + used.output_size_in_bytes - used.alias_size_in_bytes
    total += used.temp_size_in_bytes
    state = plan.memory.parameters + plan.memory.optimizer + plan.memory.gradients
    memory = replace(plan.memory, activations=max(total - state, 0.0))
    return replace(plan, memory=memory, moved=_moved(plan, devices), source="compiler")


def _moved(plan: Plan, devices: list[Any]) -> float:
    """Return the bytes that a device moves in a step: layers, all else, and the update."""
    depth = plan.recipe.config.num_layers
    period = _period(plan.recipe)
    one, two = (_bytes_of_micro_batch(plan, period * n, devices) for n in (1, 2))
    update = 3 * plan.memory.parameters + 2 * plan.memory.optimizer
    micro_batch = one + (depth / period - 1) * (two - one)
    moved = plan.recipe.accumulate * (micro_batch - update) + update
    return max(moved, plan.moved)  # what the products alone move


def _bytes_of_micro_batch(plan: Plan, depth: int, devices: list[Any]) -> float:
    recipe = plan.recipe
    rows = recipe.batch // recipe.accumulate
    shallow = replace(with_depth(recipe, depth), batch=rows, accumulate=1)
    cost: Any = _compile(plan, run_shapes(shallow), devices).cost_analysis()
    return float(cost["bytes accessed"])


def with_depth(recipe: Recipe, depth: int) -> Recipe:
    """Return a recipe whose model has stacks of `depth` layers.

    Raises:
      ValueError: If its stacks are not equally deep.
    """
    names = [name for name in vars(recipe.config) if name.endswith("_layers")]
    depths = {getattr(recipe.config, name) for name in names}
    if len(depths) != 1:
        raise ValueError(
            f"{recipe.name} has stacks of {' and '.join(map(str, sorted(depths)))} layers: "
            "--compile needs them equally deep"
        )
    return replace(recipe, config=replace(recipe.config, **dict.fromkeys(names, depth)))


def _period(recipe: Recipe) -> int:
    """Return the number of layers after which a stack repeats: two where they alternate."""
    return 2 if "window" in vars(recipe.config) else 1


def _devices(machine: Machine) -> list[Any]:
    """Return the devices of a machine that is not there."""
    from jax.experimental import topologies

    chip = machine.name.partition(":")[0]
    cores = machine.devices * (2 if chip in ("v4", "v5p") else 1)
    # Otherwise only one process could use the compiler, and it would ask the cloud what machine
    # this is.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "true")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    kind = {"v5e": "v5litepod"}.get(chip, chip)
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", f"{kind}-{cores}")
    return list(topologies.get_topology_desc(machine.name, "tpu").devices)


def _compile(plan: Plan, shapes: RunShapes, devices: list[Any]) -> jax.stages.Compiled:
    return MeshPlacement(shapes.training, plan.mesh, devices).lower(shapes.batch()).compile()
