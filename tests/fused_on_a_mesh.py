"""The TPU kernel of attention, interpreted on four CPU devices, against the plain form on one.

python -m tests.fused_on_a_mesh    prints the largest differences of results and gradients
"""

import os
from functools import partial

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import chex
import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.sharding import AxisType

from train.devices.placement import make_mesh
from zoo.layers import attention_kernel
from zoo.layers.attention import WeightedSum, attend
from zoo.layers.execution import Execution, run_as
from zoo.layers.mask import Mask

B, H, L, K = 4, 2, 128, 8
DROPOUT = 0.3


def result_and_gradients(execution: Execution, seed: int | jax.Array = 0) -> jax.Array:
    """Return attention with padding, biases and dropout, and the gradients of all its inputs."""
    keys = jax.random.split(jax.random.key(seed), 4)
    inputs = [jax.random.normal(key, (B, H, L, K)) for key in keys[:3]]
    inputs.append(jax.random.normal(keys[3], (H, L, L)))
    ids_BL = (jnp.arange(L) < jnp.int32([[128], [90], [40], [17]])).astype(jnp.int32)

    def loss(inputs):
        q, k, v, bias = inputs
        run = lambda module: attend(
            module, q, (k, v), Mask.causal(ids_BL), scale=K**-0.5, bias_HLM=bias, train=True
        )
        with run_as(execution):
            rngs = {"dropout": jax.random.key(1)}
            x_BHLK = WeightedSum(DROPOUT).apply({}, method=run, rngs=rngs)
        return jnp.sin(x_BHLK).sum(), x_BHLK

    return jax.jit(jax.grad(loss, has_aux=True))(inputs)


def show(name: str, actual: chex.ArrayTree, expected: chex.ArrayTree) -> None:
    """Print the largest difference of each array."""
    differences = jax.tree.map(lambda x, y: float(jnp.abs(x - y).max()), actual, expected)
    print(name, *(f"{x:.2e}" for x in jax.tree.leaves(differences)))


if __name__ == "__main__":
    attention_kernel.pl.pallas_call = partial(pl.pallas_call, interpret=True)
    expected = result_and_gradients(Execution("cpu"))
    for sizes in [(4, 1, 1), (2, 2, 1), (2, 1, 2)]:
        show("mesh", result_and_gradients(Execution("tpu", mesh=make_mesh(*sizes))), expected)

    seeds_S = jnp.arange(2)
    on_cpu = lambda seed: result_and_gradients(Execution("cpu"), seed)
    mesh = jax.make_mesh((2, 2), ("runs", "rows"), axis_types=(AxisType.Auto,) * 2)
    on_mesh = lambda seed: result_and_gradients(Execution("tpu", mesh=mesh, rows=("rows",)), seed)
    runs = jax.jit(jax.vmap(on_mesh, spmd_axis_name="runs"))(seeds_S)
    show("runs", runs, jax.vmap(on_cpu)(seeds_S))
