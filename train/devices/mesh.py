"""The step on a mesh of devices, over global arrays."""

import re
from collections.abc import Sequence

import chex
import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from train.devices.placement import Axes, Batch, Training, make_mesh
from train.step import State, make_begin
from zoo.layers.execution import ROWS


class MeshPlacement:
    """Placement on a mesh of (data, fsdp, tensor) devices; -1: all remaining devices.

    An axis of a parameter is not sharded if its size is not divisible by that of the mesh axis. The
    devices are all those of this machine, unless others are given to compile for.
    """

    def __init__(
        self,
        training: Training,
        mesh: tuple[int, int, int] = (-1, 1, 1),
        devices: Sequence[jax.Device] | None = None,
    ):
        self._training, t = training, training
        self._mesh = make_mesh(*mesh, devices=devices)
        row_parts = self._mesh.shape["data"] * self._mesh.shape["fsdp"]
        t.check_rows(row_parts)
        if row_parts % jax.process_count():
            raise ValueError(
                f"{jax.process_count()} processes cannot read {row_parts} parts of the rows: make "
                "data x fsdp of --mesh a multiple of the processes, so that tensor stays within one"
            )
        self._rows = NamedSharding(self._mesh, P(ROWS))
        replicated = NamedSharding(self._mesh, P())
        begin = make_begin(t.model, t.objective, t.optimizer, t.batch_size)
        init = lambda: begin(t.init(), 0)
        self._shapes = jax.eval_shape(init)
        self._shardings = State(
            step=replicated,  # type: ignore[arg-type]  # shardings, in the tree of a state
            params=shardings(self._shapes.params, self._mesh, t.axes),
            opt_state=shardings(self._shapes.opt_state, self._mesh, t.axes),
            carry=jax.tree.map(lambda _: self._rows, self._shapes.carry),
        )
        # Passed as an argument: the arrays of a constant would be embedded in the compiled program.
        placed = shardings(t.objective, self._mesh, t.axes)
        self._objective = jax.device_put(t.objective, placed)

        make, make_evaluation = t.makers(self._mesh.devices.flat[0].platform, self._mesh)

        def step(objective, state, batch):
            parts = t.model, objective, t.optimizer, t.schedule
            run = make(*parts, seed=t.seed, dtype=t.dtype, accumulate=t.accumulate)
            return run(state, batch)

        def evaluate(objective, *inputs):
            return make_evaluation(t.model, objective, dtype=t.dtype)(*inputs)

        self._init = jax.jit(init, out_shardings=self._shardings)
        self._begin = jax.jit(begin, out_shardings=self._shardings)
        self._step = jax.jit(step, donate_argnums=1, out_shardings=(self._shardings, replicated))
        self._evaluate = jax.jit(evaluate, out_shardings=(replicated, self._rows))

    @property
    def abstract(self) -> State:
        return jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            self._shapes,
            self._shardings,
        )

    def init(self) -> State:
        return self._init()

    def begin(self, params: chex.ArrayTree, step: int = 0) -> State:
        # A copy: the step donates its state, and jit passes on arrays that it does not change.
        copy = jax.device_put(params, self._shardings.params, may_alias=False)
        return self._begin(copy, step)

    def step(self, state: State, batch: chex.ArrayTree) -> tuple[State, dict[str, jax.Array]]:
        return self._step(self._objective, state, batch)

    def lower(self, batch: chex.ArrayTree) -> jax.stages.Lowered:
        """Return the step, lowered for the devices of the mesh, for a batch of these shapes."""
        put = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._rows)
        return self._step.lower(self._objective, self.abstract, jax.tree.map(put, batch))

    def evaluate(
        self, params: chex.ArrayTree, batch: chex.ArrayTree, carry: chex.ArrayTree, number: int
    ) -> tuple[chex.ArrayTree, chex.ArrayTree]:
        return self._evaluate(self._objective, params, batch, carry, number)

    def put(self, batch: Batch) -> chex.ArrayTree:
        processes = jax.process_count()

        def put(x):
            # With the shape, JAX refuses rows that another process has too.
            shape = (len(x) * processes, *x.shape[1:])
            return jax.make_array_from_process_local_data(self._rows, x, shape)

        return jax.tree.map(put, batch)

    def initial_carry(self) -> chex.ArrayTree:
        t = self._training
        return jax.device_put(t.objective.initial_carry(t.model, t.batch_size), self._rows)

    def to_saved(self, state: State) -> State:
        return state

    def from_saved(self, saved: State) -> State:
        return saved


def shardings(tree: chex.ArrayTree, mesh: Mesh | AbstractMesh, axes: Axes) -> chex.ArrayTree:
    """Return the sharding of every leaf of a tree.

    Rules match paths, so a rule for a parameter also applies to its moments.
    """

    def sharding(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        rule = next((rule for pattern, rule in axes if re.search(pattern, name)), ())
        if len(rule) != leaf.ndim:  # factored moments have fewer axes than their parameter
            return NamedSharding(mesh, P())
        divides = lambda axis, size: axis is not None and size % mesh.shape[axis] == 0
        spec = [a if divides(a, size) else None for a, size in zip(rule, leaf.shape, strict=True)]
        return NamedSharding(mesh, P(*spec))

    return jax.tree_util.tree_map_with_path(sharding, tree)
