"""The step mapped over replicas, one per device."""

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from train.devices.placement import Batch, Training, make_mesh
from train.objectives.row_objective import RowObjective
from train.step import State, make_begin, make_evaluate, make_step

# A saved state spans the processes: every replica has the full state and its rows of the carry.
SPECS = State(
    step=P(),  # type: ignore[arg-type]  # specs, in the tree of a state
    params=P(),
    opt_state=P(),
    carry=P("data"),
)


class PmapPlacement:
    """Placement as replicas: each device has its rows of the batch and all parameters."""

    def __init__(self, training: Training, mesh: tuple[int, int, int] = (-1, 1, 1)):
        if tuple(mesh[1:]) != (1, 1):
            raise ValueError(
                "--parallel pmap keeps all parameters on every device; for fsdp or tensor use mesh"
            )
        if isinstance(training.objective, RowObjective):
            raise ValueError(
                "--parallel pmap would add up whole tables of word vectors: use mesh instead"
            )
        self._training, t = training, training
        t.check_rows(jax.device_count())
        self._devices = jax.local_device_count()
        self._rows = t.batch_size // jax.process_count()  # of this process
        self._mesh = make_mesh()
        across_replicas: dict[str, Any] = {
            "across": lambda tree: jax.lax.psum(tree, "data"),
            "place": lambda: jax.lax.axis_index("data"),
            "dtype": t.dtype,
            "execution": t.execution(jax.default_backend()),
        }

        def step(objective, state, batch):
            run = make_step(
                t.model,
                objective,
                t.optimizer,
                t.schedule,
                seed=t.seed,
                accumulate=t.accumulate,
                **across_replicas,
            )
            return run(state, batch)

        def evaluate(objective, *inputs):
            return make_evaluate(t.model, objective, **across_replicas)(*inputs)

        pmap = partial(jax.pmap, axis_name="data")
        # The state is placed by a pmap, not by device_put: if the layouts of input and output
        # differ, the step compiles twice.
        self._place_state = pmap(lambda state, rows: (state, rows), in_axes=(None, 0))
        self._step = pmap(step, in_axes=(None, 0, 0), donate_argnums=1)
        self._evaluate = pmap(evaluate, in_axes=(None, 0, 0, 0, None))

    @property
    def abstract(self) -> State:
        t = self._training
        begin = make_begin(t.model, t.objective, t.optimizer, t.batch_size)
        shapes = jax.eval_shape(lambda: begin(t.init(), 0))
        parts = zip(SPECS, shapes, strict=True)
        return State(*(self._abstract_part(spec, part) for spec, part in parts))

    def init(self) -> State:
        begin = make_begin(*self._parts())
        return self._replicate(jax.jit(lambda: begin(self._training.init(), 0))())

    def begin(self, params: chex.ArrayTree, step: int = 0) -> State:
        return self._replicate(jax.jit(make_begin(*self._parts()))(params, step))

    def step(self, state: State, batch: chex.ArrayTree) -> tuple[State, dict[str, jax.Array]]:
        state, metrics = self._step(self._training.objective, state, batch)
        return state, jax.tree.map(_first, metrics)

    def evaluate(
        self, params: chex.ArrayTree, batch: chex.ArrayTree, carry: chex.ArrayTree, number: int
    ) -> tuple[chex.ArrayTree, chex.ArrayTree]:
        sums, carry = self._evaluate(self._training.objective, params, batch, carry, number)
        return jax.tree.map(_first, sums), carry

    def put(self, batch: Batch) -> chex.ArrayTree:
        return jax.tree.map(lambda x: x.reshape(self._devices, -1, *x.shape[1:]), batch)

    def initial_carry(self) -> chex.ArrayTree:
        t = self._training
        return self.put(t.objective.initial_carry(t.model, self._rows))

    def to_saved(self, state: State) -> State:
        first = jax.tree.map(_first, state._replace(carry=()))
        carry = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), state.carry)
        local = first._replace(carry=carry)
        return multihost_utils.host_local_array_to_global_array(local, self._mesh, SPECS)

    def from_saved(self, saved: State) -> State:
        local = multihost_utils.global_array_to_host_local_array(saved, self._mesh, SPECS)
        return self._replicate(local)

    def _parts(self):
        t = self._training
        return t.model, t.objective, t.optimizer, self._rows

    def _replicate(self, state: State) -> State:
        """Return the state copied to every replica; each replica has its own rows of the carry."""
        rows = jnp.arange(self._devices), self.put(state.carry)
        replicated, (_, carry) = self._place_state(state._replace(carry=()), rows)
        return replicated._replace(carry=carry)

    def _abstract_part(self, spec: P, shapes: chex.ArrayTree) -> chex.ArrayTree:
        sharding = NamedSharding(self._mesh, spec)
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes
        )


def _first(mapped: jax.Array) -> jax.Array:
    """Return the value of the first replica; indexing would cause communication."""
    return mapped.addressable_shards[0].data[0]
