"""A small run to save and restore; as a program, on JAX_NUM_CPU_DEVICES devices.

python saved_run.py save FOLDER       saves step 1 under two layouts of the devices, then restores
python saved_run.py restore FOLDER    restores both under three layouts and compares every bit
python saved_run.py forever FOLDER    resumes from the newest step, saving each, until killed
"""

import dataclasses
import sys
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

from train.checkpoint import Checkpoints

OPTIMIZER = optax.chain(
    optax.clip_by_global_norm(1.0), optax.adamw(1e-3, mu_dtype=jax.numpy.bfloat16)
)


@dataclasses.dataclass(frozen=True)
class Config:
    """The config of the model."""

    width: int = 16


class State(NamedTuple):
    """What a trainer keeps besides the parameters."""

    optimizer: Any
    key: jax.Array
    done: jax.Array
    step: jax.Array


def sample(step: int, width: int = 16):
    """Return the parameters and the state of a run at a step; every step has other values."""
    random = np.random.default_rng(step)
    shapes = {
        "blocks_0": {"attention": {"kernel": (width, 4, 8)}, "norm": {"scale": (width,)}},
        "embed": {"table": (64, width)},
        "temperature": (),
    }
    params = jax.tree.map(
        lambda shape: jax.numpy.asarray(random.normal(size=shape), "float32"),
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )
    optimizer = jax.tree.map(
        lambda leaf: jax.numpy.asarray(random.normal(size=leaf.shape) * 99).astype(leaf.dtype),
        OPTIMIZER.init(params),
    )
    done = jax.numpy.asarray(random.random(8) < 0.5)
    return params, State(optimizer, jax.random.key(step), done, jax.numpy.int32(step))


def on_one_device(leaf):
    """Place everything on the first device."""
    return SingleDeviceSharding(jax.devices()[0])


def on_mesh(data: int, fsdp: int):
    """Split the first divisible axis over `fsdp` and replicate the rest, on data x fsdp devices."""
    mesh = jax.make_mesh((data, fsdp), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)

    def sharding(leaf):
        axes = [a for a, size in enumerate(leaf.shape) if size % fsdp == 0][:1]
        return NamedSharding(mesh, PartitionSpec(*[None] * sum(axes), *["fsdp"] * len(axes)))

    return sharding


def abstract(tree, sharding=on_one_device):
    """Return the tree as jax.ShapeDtypeStruct, each leaf with the sharding `sharding(leaf)`."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding(leaf)), tree
    )


def assert_same(actual, expected):
    """Raise AssertionError unless structures, types and bits are equal."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        if jax.numpy.issubdtype(b.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert a.shape == b.shape
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def _save(folder):
    count = jax.device_count()
    for name, layout in (("data", (count, 1)), ("data x fsdp", (2, count // 2))):
        tree = sample(1)
        placed = jax.device_put(tree, jax.tree.map(on_mesh(*layout), tree))
        checkpoints = Checkpoints(f"{folder}/{name}")
        checkpoints.save(1, *placed, {"layout": name}, {})
        checkpoints.close()
    _restore(folder)


def _restore(folder):
    count = jax.device_count()
    expected = sample(1)
    for name in ("data", "data x fsdp"):
        for sharding in (on_one_device, on_mesh(count, 1), on_mesh(1, count)):
            target = abstract(expected, sharding)
            restored = Checkpoints(f"{folder}/{name}").restore(lambda _, target=target: target)
            assert restored.meta == {"layout": name}
            assert_same((restored.params, restored.state), expected)
            placed = jax.tree.leaves((restored.params, restored.state))
            for leaf, aim in zip(placed, jax.tree.leaves(target), strict=True):
                assert leaf.sharding.is_equivalent_to(aim.sharding, leaf.ndim)


def _forever(folder):
    checkpoints = Checkpoints(folder)
    expected = sample(0, width=8192)
    restored = checkpoints.restore(lambda _: abstract(expected))
    step = 0
    if restored is not None:
        step = restored.step
        assert_same((restored.params, restored.state), sample(step, width=8192))
    while True:
        step += 1
        checkpoints.save(step, *sample(step, width=8192), {}, {"loss": 1 / step})
        print(step, flush=True)


if __name__ == "__main__":
    {"save": _save, "restore": _restore, "forever": _forever}[sys.argv[1]](sys.argv[2])
