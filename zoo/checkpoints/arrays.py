"""Arrays on disk: saved at once or never, read back with every bit checked.

Orbax writes them, in the background. It notices a file that is gone or cut short, but hands a
changed bit over as a wrong number, without a word; hence a fingerprint for every array. Reading
goes to TensorStore, which Orbax stands on: one array after the other, so that the damaged one can
be named, and placed as the caller says, so that it does not matter how many devices wrote it.
"""

import json
import logging
import zlib
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tensorstore
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from zoo.params import flatten

# Orbax's threads log a failed save as a page of tracebacks each; Saving raises it as one line.
logging.getLogger("absl").addFilter(lambda entry: "_SignalingThread" not in entry.getMessage())


class Damaged(ValueError):
    """Something saved cannot be read back as it was; the message says what, where and why."""


def fingerprint(tree) -> dict[str, int]:
    """A checksum of 32 bits for every array of a pytree, by path, wherever the array lies.

    Any change within one element changes it; two arrays share one by chance once in 2**32.
    """
    # One after the other: programs that add up over devices may lock each other out.
    return {path: int(_checksum(_plain(leaf))) for path, leaf in flatten(tree).items()}


def describe(tree) -> dict[str, dict]:
    """Shape, dtype and fingerprint of every array of a pytree, by path, fit for JSON."""
    sums = fingerprint(tree)
    return {
        path: {"shape": list(leaf.shape), "dtype": dtype_name(leaf), "fingerprint": sums[path]}
        for path, leaf in flatten(tree).items()
    }


def dtype_name(leaf) -> str:
    """The name of an array's dtype; of typed random keys, "key<generator>"."""
    if not _is_key(leaf):
        return str(leaf.dtype)
    generator = []
    jax.eval_shape(lambda key: generator.append(jax.random.key_impl(key)), leaf)
    return f"key<{generator[0]}>"


class Saving:
    """A folder that is being written in the background."""

    def __init__(self, folder, response):
        self._folder, self._response = folder, response

    def finish(self, wait_s: float | None = None) -> bool:
        """Waits, by default to the end; says whether the folder stands. Raises OSError."""
        try:
            self._response.result(timeout=wait_s)
        except Exception as error:
            if wait_s is not None and isinstance(error, TimeoutError):
                return False
            raise OSError(f"{self._folder} was not saved: {_cause(error)}") from error
        return True


def save(folder, trees: dict, record: dict | None = None) -> Saving:
    """Begins to save named pytrees of arrays, and a record of JSON, as one folder.

    On return the arrays are copied: they may be donated. The folder appears when it is whole, in
    place of one of that name. Raises OSError, at once or from `finish`.
    """
    folder = Path(folder).absolute()
    items = {
        # Orbax refuses arrays without elements; their shape, in the description, is all there is.
        name: {path: _plain(leaf) for path, leaf in flatten(tree).items() if leaf.size}
        for name, tree in trees.items()
    }
    context = ocp.Context()
    # What `load` reads. These are Orbax's defaults, which may change.
    context.array.saving.use_ocdbt = True
    context.array.saving.use_zarr3 = True
    if record is not None:
        items["meta"] = {"checksum": zlib.crc32(_canonical(record)), "record": record}
        context.checkpointables.registry = ocp.handlers.local_registry()
        context.checkpointables.registry.add(ocp.handlers.JsonHandler, checkpointable_name="meta")
    try:
        with context:
            return Saving(folder, ocp.save_checkpointables_async(folder, items, overwrite=True))
    except Exception as error:
        raise OSError(f"{folder} was not saved: {_cause(error)}") from error


def read_record(folder) -> dict:
    """The record saved in a folder; no array is read. Raises Damaged."""
    path = Path(folder) / "meta" / "data.json"
    try:
        meta = json.loads(path.read_bytes())
        if zlib.crc32(_canonical(meta["record"])) == meta["checksum"]:
            return meta["record"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{path} cannot be read: {error}") from None
    raise Damaged(f"{path} is not what was saved: its checksum is wrong")


def load(folder, description: dict, targets: dict | None = None) -> dict:
    """The arrays of one saved pytree: path -> array, each with the fingerprint it had.

    `folder` is the one named after the pytree; `description` is what `describe` said of it.
    `targets`, path -> jax.ShapeDtypeStruct with a sharding, says where the arrays shall lie;
    without it they are NumPy arrays. Raises Damaged.
    """
    folder = Path(folder).absolute()
    base = {"driver": "file", "path": f"{folder}/"}
    context = tensorstore.Context({"cache_pool": {"total_bytes_limit": 100_000_000}})
    arrays, failure = {}, None
    for path, about in description.items():
        kvstore = {"driver": "ocdbt", "base": base, "path": f"{path}/"}
        spec = {"driver": "zarr3", "kvstore": kvstore}
        try:
            if 0 in about["shape"]:
                stored = tensorstore.array(np.empty(about["shape"], about["dtype"]))
            else:
                stored = tensorstore.open(spec, open=True, read=True, context=context).result()
            arrays[path] = _place(stored, about["dtype"], targets and targets[path].sharding)
        except ValueError as error:
            failure = f"{folder}: {path} cannot be read: {_cause(error)}"
            break
    if _anywhere(failure is not None):
        raise Damaged(failure or f"{folder} cannot be read by another process")
    sums = fingerprint(arrays)
    changed = [path for path, about in description.items() if sums[path] != about["fingerprint"]]
    if changed:
        raise Damaged(f"{folder}: not the bits that were saved: {', '.join(changed)}")
    return arrays


def _place(stored, dtype: str, sharding):
    """Reads one array; with a sharding, only what this process's devices need of it."""
    if dtype.startswith("key<"):
        wrap = partial(jax.random.wrap_key_data, impl=dtype[4:-1])
        return jax.jit(wrap, out_shardings=sharding)(stored.read().result())
    if sharding is None:
        return stored.read().result()
    parts = {}  # devices that hold the same part share one reading

    def part(index):
        if str(index) not in parts:
            parts[str(index)] = stored[index].read().result()
        return parts[str(index)]

    return jax.make_array_from_callback(stored.shape, sharding, part)


@jax.jit
def _checksum(array):
    """The sum modulo 2**32 of the elements as integers, each times an odd number of its own.

    The order of the terms is free, so their place on the devices does not matter. To multiply by an
    odd number is one to one modulo 2**32, so one changed element always shows.
    """
    if array.dtype == bool:
        array = array.astype(jnp.uint8)
    bits = {1: jnp.uint8, 2: jnp.uint16}.get(array.dtype.itemsize, jnp.uint32)
    terms = jax.lax.bitcast_convert_type(array, bits).astype(jnp.uint32)
    weight, stride = jnp.uint32(1), 2
    for axis in reversed(range(terms.ndim)):
        place = jax.lax.broadcasted_iota(jnp.uint32, terms.shape, axis)
        weight += place * jnp.uint32(stride % 2**32)
        stride *= terms.shape[axis]
    return jnp.sum(terms * weight, dtype=jnp.uint32)


def _cause(error) -> str:
    """The heart of what TensorStore says, which begins with its whereabouts and ends in a spec."""
    return str(error).partition(" [tensorstore_spec")[0].rpartition("Error ")[2]


def _is_key(leaf) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(leaf):
    """A typed random key as the integers it is made of; anything else as it is."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _canonical(record) -> bytes:
    return json.dumps(record, sort_keys=True).encode()


def _anywhere(fact: bool) -> bool:
    """Whether it is so in any process; all must ask."""
    if jax.process_count() == 1:
        return fact
    return bool(np.any(multihost_utils.process_allgather(np.array(fact))))
