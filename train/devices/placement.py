"""Devices: where the state and the batches lie, and how the step runs over them.

The only file that knows devices. `on_mesh` compiles the step once for a mesh with the axes data,
fsdp and tensor, over arrays that are global; `on_pmap` maps the same step over replicas, one a
device. Both agree with one device.
"""

import os
import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from train.step import State, make_evaluate, make_init, make_step

ROWS = P(("data", "fsdp"))  # the rows of a batch are split over both


class Placement(NamedTuple):
    """A run on its devices."""

    init: Callable  # () -> state, created where it is to lie
    abstract: State  # shapes, types and shardings of what is saved
    step: Callable  # (state, batch) -> (state, metrics); the state is donated
    evaluate: Callable  # (params, batch, carry, number) -> (sums, carry)
    put: Callable  # this process's rows, in host memory -> the batch
    carry: Callable  # (rows) -> an empty carry for evaluation
    saved: Callable  # state -> what a checkpoint holds of it
    placed: Callable  # the reverse


def start(address=None, processes=None, process=None) -> None:
    """Joins several processes into one run; nothing needs to be said where JAX finds the others.

    It does so on TPU pods and in Slurm, Kubernetes and Open MPI jobs. Elsewhere: the host:port of
    process 0, how many there are, and the number of this one. ValueError where there is none.
    """
    try:
        jax.distributed.initialize(address, processes, process)
    except ValueError as error:
        raise ValueError(f"there are no other processes to join here: {error}") from error


def on_mesh(model, objective, optimizer, schedule, axes, *, batch, seed, dtype, accumulate, mesh):
    """The step on a mesh of (data, fsdp, tensor) devices; -1 stands for all that are left.

    `axes` are the model's path rules. An axis that its mesh axis does not divide is left whole.
    """
    mesh = make_mesh(*mesh)
    _check_rows(batch, accumulate, mesh.shape["data"] * mesh.shape["fsdp"])
    init = make_init(model, objective, optimizer, batch, seed)
    shapes = jax.eval_shape(init)
    rows = NamedSharding(mesh, ROWS)
    everywhere = NamedSharding(mesh, P())
    shardings = State(
        everywhere,
        _shardings(shapes.params, mesh, axes),
        _shardings(shapes.opt_state, mesh, axes),
        jax.tree.map(lambda _: rows, shapes.carry),
    )
    options = {"seed": seed, "dtype": dtype, "accumulate": accumulate}
    # An argument, not a constant: what it holds would be written into the program.
    objective = jax.device_put(objective, _shardings(objective, mesh, axes))

    def step(objective, state, batch):
        return make_step(model, objective, optimizer, schedule, **options)(state, batch)

    def evaluate(objective, *inputs):
        return make_evaluate(model, objective, dtype=dtype)(*inputs)

    step = jax.jit(step, donate_argnums=1, out_shardings=(shardings, everywhere))
    evaluate = jax.jit(evaluate, out_shardings=(everywhere, rows))
    return Placement(
        init=jax.jit(init, out_shardings=shardings),
        abstract=jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings
        ),
        step=partial(step, objective),
        evaluate=partial(evaluate, objective),
        put=lambda batch: jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(rows, x), batch
        ),
        carry=lambda: jax.device_put(objective.carry(model, batch), rows),
        saved=lambda state: state,
        placed=lambda state: state,
    )


def on_pmap(model, objective, optimizer, schedule, axes, *, batch, seed, dtype, accumulate, mesh):
    """The step mapped over replicas: a device each, its rows of the batch, all parameters."""
    if tuple(mesh[1:]) != (1, 1):
        raise ValueError(
            "--parallel pmap keeps all parameters on every device; for fsdp or tensor use mesh"
        )
    devices = jax.local_device_count()
    _check_rows(batch, accumulate, jax.device_count())
    across = lambda tree: jax.lax.psum(tree, "data")
    place = lambda: jax.lax.axis_index("data")
    rows = batch // jax.process_count()
    init = make_init(model, objective, optimizer, rows, seed)
    mapped = {"dtype": dtype, "across": across, "place": place}
    options = mapped | {"seed": seed, "accumulate": accumulate}

    def step(objective, state, batch):
        return make_step(model, objective, optimizer, schedule, **options)(state, batch)

    def evaluate(objective, *inputs):
        return make_evaluate(model, objective, **mapped)(*inputs)

    split = lambda tree: jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), tree)
    # Laid out by a pmap, not by device_put: a step whose input lies otherwise than its output
    # compiles twice.
    spread = jax.pmap(lambda whole, rows: (whole, rows), in_axes=(None, 0), axis_name="data")

    def spread_out(state):
        whole, carry = spread(state._replace(carry=()), (jnp.arange(devices), split(state.carry)))
        return whole._replace(carry=carry[1])

    # What is saved spans the processes: every replica holds the whole, and its rows of the carry.
    replicas = make_mesh()
    lies = State(step=P(), params=P(), opt_state=P(), carry=P("data"))

    def saved(state):
        whole = jax.tree.map(_first, state._replace(carry=()))
        carry = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), state.carry)
        whole = whole._replace(carry=carry)
        return multihost_utils.host_local_array_to_global_array(whole, replicas, lies)

    def placed(state):
        return spread_out(multihost_utils.global_array_to_host_local_array(state, replicas, lies))

    mapped_step = jax.pmap(step, axis_name="data", in_axes=(None, 0, 0), donate_argnums=1)
    mapped_evaluate = jax.pmap(evaluate, axis_name="data", in_axes=(None, 0, 0, 0, None))

    def stepped(state, batch):
        state, metrics = mapped_step(objective, state, batch)
        return state, jax.tree.map(_first, metrics)

    def evaluated(params, batch, carry, number):
        sums, carry = mapped_evaluate(objective, params, batch, carry, number)
        return jax.tree.map(_first, sums), carry

    shapes = jax.eval_shape(make_init(model, objective, optimizer, batch, seed))
    shardings = State(*(NamedSharding(replicas, spec) for spec in lies))
    return Placement(
        init=lambda: spread_out(jax.jit(init)()),
        abstract=State(
            *(
                jax.tree.map(partial(_lying, sharding), part)
                for sharding, part in zip(shardings, shapes, strict=True)
            )
        ),
        step=stepped,
        evaluate=evaluated,
        put=split,
        carry=lambda: split(objective.carry(model, rows)),
        saved=saved,
        placed=placed,
    )


def over_runs(runs: int, rows: int):
    """Where several runs lie that are trained at once: arrays [runs, ...], batches, what all share.

    The devices part the runs among them, and the rows of every run's batch if some are left.
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
    return tuple(NamedSharding(mesh, spec) for spec in (P("runs"), P("runs", "rows"), P()))


def memory() -> float:
    """Bytes that every device has for arrays; CPUs share those of the machine."""
    devices = jax.devices()
    known = (devices[0].memory_stats() or {}).get("bytes_limit")
    return known or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / len(devices)


def _divisor(count: int, most: int) -> int:
    """The largest number up to `most` by which a count can be divided."""
    return max(n for n in range(1, min(count, most) + 1) if count % n == 0)


WAYS = {"mesh": on_mesh, "pmap": on_pmap}


def make_mesh(data: int = -1, fsdp: int = 1, tensor: int = 1):
    """A mesh over all devices; -1 stands for all that the other axes leave."""
    sizes, count = [data, fsdp, tensor], jax.device_count()
    if -1 in sizes:
        sizes[sizes.index(-1)] = count // -int(np.prod(sizes))
    if int(np.prod(sizes)) != count:
        raise ValueError(f"a mesh of {data} x {fsdp} x {tensor} does not fit {count} devices")
    return jax.make_mesh(tuple(sizes), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)


def _first(mapped):
    """What the first replica has; plain indexing would make the devices talk to each other."""
    return mapped.addressable_shards[0].data[0]


def _lying(sharding, shape):
    return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)


def _shardings(tree, mesh, axes):
    """By path, so that a rule for a parameter holds for its moments too."""

    def sharding(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        wanted = next((axis for pattern, axis in axes if re.search(pattern, name)), ())
        # Factored moments have fewer axes than their parameter: they stay whole.
        fitting = wanted if len(wanted) == leaf.ndim else ()
        return NamedSharding(
            mesh,
            P(*[a if a and n % mesh.shape[a] == 0 else None
                for a, n in zip(fitting, leaf.shape, strict=True)] if fitting else []),
        )  # fmt: skip

    return jax.tree_util.tree_map_with_path(sharding, tree)


def _check_rows(batch: int, accumulate: int, devices: int) -> None:
    if batch % (accumulate * devices):
        raise ValueError(
            f"a batch of {batch} cannot be cut into {accumulate} parts over {devices} devices"
        )
