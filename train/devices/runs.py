"""The step mapped over parallel runs, which differ in seed, parameters and batches."""

from collections.abc import Sequence
from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from train.devices.placement import Batch, Training, over_runs
from train.step import State, make_begin, make_step


class RunsPlacement:
    """Placement of runs that are trained at once: all arrays of the state are [S, ...].

    The runs are divided among the devices; if there are more devices than runs, so are the rows of
    each batch. The runs share the arrays of the objective.
    """

    def __init__(self, training: Training, seeds: Sequence[int]):
        t = training
        self._by_run, self._by_row, shared = over_runs(len(seeds), t.batch_size)
        t.check_rows(self._by_row.mesh.shape["rows"])
        begin = jax.vmap(make_begin(t.model, t.objective, t.optimizer, t.batch_size), (0, None))
        self._shapes = jax.eval_shape(lambda: begin(t.init(), 0))
        self._objective = jax.device_put(t.objective, shared)
        self._seeds_S = jax.device_put(np.array(seeds, np.int32), self._by_run)

        mesh = self._by_row.mesh
        assert isinstance(mesh, Mesh), "over_runs makes a mesh of devices"
        execution = replace(t.execution(jax.default_backend(), mesh), rows=("rows",))

        def step(objective, seeds_S, state, batch):
            def run(seed, state, batch):
                return make_step(
                    t.model,
                    objective,
                    t.optimizer,
                    t.schedule,
                    seed=seed,
                    dtype=t.dtype,
                    accumulate=t.accumulate,
                    execution=execution,
                )(state, batch)

            return jax.vmap(run, spmd_axis_name="runs")(seeds_S, state, batch)

        self._begin = jax.jit(begin, out_shardings=self._by_run)
        self._step = jax.jit(step, donate_argnums=2, out_shardings=(self._by_run, None))

    @property
    def abstract(self) -> State:
        sharded = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._by_run)
        return jax.tree.map(sharded, self._shapes)

    def begin(self, params: chex.ArrayTree, step: int = 0) -> State:
        # A copy: the step donates its state, and jit passes on arrays that it does not change.
        copy = jax.device_put(params, self._by_run, may_alias=False)
        return self._begin(copy, jnp.int32(step))

    def step(self, state: State, batch: chex.ArrayTree) -> tuple[State, dict[str, jax.Array]]:
        return self._step(self._objective, self._seeds_S, state, batch)

    def put(self, batch: Batch) -> chex.ArrayTree:
        return jax.device_put(batch, self._by_row)

    def to_saved(self, state: State) -> State:
        return state

    def from_saved(self, saved: State) -> State:
        return saved
