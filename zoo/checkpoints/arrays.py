"""Arrays on disk: saved atomically, and verified by checksums when read.

Orbax writes them in the background. It detects a missing or truncated file, but returns a flipped
bit as a wrong number without an error, so every array has a fingerprint. Arrays are read with
TensorStore, on which Orbax is built: one array at a time, so that a damaged one can be named, and
with the sharding that the caller asks for, independent of how many devices wrote it.
"""

import json
import logging
import re
import zlib
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tensorstore
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from zoo import untrusted
from zoo.params import flatten

# Orbax's threads log a page of tracebacks for each failed save; Saving raises one line instead.
logging.getLogger("absl").addFilter(lambda entry: "_SignalingThread" not in entry.getMessage())


class Damaged(ValueError):
    """Raised if saved data is damaged; the message names the file and the reason."""


def fingerprint(tree) -> dict[str, int]:
    """Return a 32-bit checksum for every array of a pytree, by path, independent of sharding.

    Any change within a single element changes it; two arrays collide with probability 2**-32.
    """
    # One at a time: programs that reduce over devices can deadlock when they run together.
    return {path: int(_checksum(_plain(leaf))) for path, leaf in flatten(tree).items()}


def describe(tree) -> dict[str, dict]:
    """Return shape, dtype and fingerprint of every array of a pytree, by path, as JSON types."""
    sums = fingerprint(tree)
    return {
        path: {"shape": list(leaf.shape), "dtype": dtype_name(leaf), "fingerprint": sums[path]}
        for path, leaf in flatten(tree).items()
    }


def dtype_name(leaf) -> str:
    """Return the name of an array's dtype; "key<generator>" for typed random keys."""
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
        """Wait, by default until the end, and return whether the folder is complete.

        Raises:
          OSError: If the folder could not be written.
        """
        try:
            self._response.result(timeout=wait_s)
        except Exception as error:
            if wait_s is not None and isinstance(error, TimeoutError):
                return False
            raise OSError(f"{self._folder} was not saved: {_cause(error)}") from error
        return True


def save(folder, trees: dict, record: dict | None = None) -> Saving:
    """Start to save named pytrees of arrays, and a JSON record, as one folder.

    When this returns, the arrays have been copied, so they may be donated. The folder appears only
    when complete, and replaces an existing one of that name.

    Raises:
      OSError: Immediately or from `finish`, if the folder cannot be written.
    """
    folder = Path(folder).absolute()
    check_path(folder)
    items = {
        # Orbax rejects empty arrays; the shape in the description is enough to restore them.
        name: {path: _plain(leaf) for path, leaf in flatten(tree).items() if leaf.size}
        for name, tree in trees.items()
    }
    context = ocp.Context()
    # Required by `load`; these are Orbax's defaults today, which may change.
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


def check_path(folder) -> None:
    """Raise OSError if the path of a folder has characters with which Orbax loses the arrays.

    Orbax looks for its files with patterns, and TensorStore takes backslashes for slashes and
    refuses what is not UTF-8.
    """
    if found := re.search(r"[\\*?\[\ud800-\udfff]", str(folder)):
        raise OSError(
            f"{folder} was not saved: choose a path without {found[0]!r}, with which arrays cannot "
            "be written"
        )


def read_record(folder) -> dict:
    """Return the record saved in a folder, without reading arrays.

    Raises:
      Damaged: If it cannot be read, or its checksum is wrong.
    """
    path = Path(folder) / "meta" / "data.json"
    try:
        meta = untrusted.read_json(path)
        if zlib.crc32(_canonical(meta["record"])) == meta["checksum"]:
            return meta["record"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{path} cannot be read: {error}") from None
    raise Damaged(f"{path} is damaged: its checksum is wrong")


def load(folder, description: dict, targets: dict | None = None) -> dict:
    """Return the arrays of one saved pytree, path -> array, with verified fingerprints.

    Args:
      folder: The folder of that pytree, named after it.
      description: The result of `describe` for it.
      targets: Path -> jax.ShapeDtypeStruct with a sharding; None: return NumPy arrays.

    Raises:
      Damaged: If an array cannot be read, or its fingerprint is wrong.
    """
    folder = Path(folder).resolve()  # TensorStore rejects ".." in a path
    base = {"driver": "file", "path": f"{folder}/"}
    context = tensorstore.Context({"cache_pool": {"total_bytes_limit": 100_000_000}})
    arrays, failure = {}, None
    for path, entry in description.items():
        kvstore = {"driver": "ocdbt", "base": base, "path": f"{path}/"}
        spec = {"driver": "zarr3", "kvstore": kvstore}
        try:
            if 0 in entry["shape"]:
                stored = tensorstore.array(np.empty(entry["shape"], entry["dtype"]))
            else:
                stored = tensorstore.open(spec, open=True, read=True, context=context).result()
            arrays[path] = _read_array(stored, entry["dtype"], targets and targets[path].sharding)
        except ValueError as error:
            failure = f"{folder}: {path} cannot be read: {_cause(error)}"
            break
    failed = failure is not None
    if targets is not None:  # which all processes load; one alone may load NumPy arrays
        failed = in_any_process(failed)
    if failed:
        raise Damaged(failure or f"{folder} cannot be read by another process")
    sums = fingerprint(arrays)
    changed = [path for path, entry in description.items() if sums[path] != entry["fingerprint"]]
    if changed:
        raise Damaged(f"{folder}: wrong checksum of {', '.join(changed)}")
    return arrays


def _read_array(stored, dtype: str, sharding):
    """Read one array; with a sharding, only the parts that this process's devices need."""
    if dtype.startswith("key<"):
        wrap = partial(jax.random.wrap_key_data, impl=dtype[4:-1])
        return jax.jit(wrap, out_shardings=sharding)(stored.read().result())
    if sharding is None:
        return stored.read().result()
    parts = {}  # devices with the same part share one read

    def part(index):
        if str(index) not in parts:
            parts[str(index)] = stored[index].read().result()
        return parts[str(index)]

    return jax.make_array_from_callback(stored.shape, sharding, part)


@jax.jit
def _checksum(array):
    """Return the sum of the elements as integers, weighted by different odd numbers, modulo 2**32.

    The order of the terms does not matter, and so neither does the sharding. Multiplication by an
    odd number is a bijection modulo 2**32, so a single changed element always changes the sum.
    """
    if array.dtype == bool:
        array = array.astype(jnp.uint8)
    bits = {1: jnp.uint8, 2: jnp.uint16}.get(array.dtype.itemsize, jnp.uint32)
    terms = jax.lax.bitcast_convert_type(array, bits).astype(jnp.uint32)
    weight, stride = jnp.uint32(1), 2
    for axis in reversed(range(terms.ndim)):
        index = jax.lax.broadcasted_iota(jnp.uint32, terms.shape, axis)
        weight += index * jnp.uint32(stride % 2**32)
        stride *= terms.shape[axis]
    return jnp.sum(terms * weight, dtype=jnp.uint32)


def _cause(error) -> str:
    """Return a TensorStore message without its source location and trailing spec."""
    return str(error).partition(" [tensorstore_spec")[0].rpartition("Error ")[2]


def _is_key(leaf) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(leaf):
    """Return a typed random key as its integers, and any other array unchanged."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _canonical(record) -> bytes:
    return json.dumps(record, sort_keys=True).encode()


def in_any_process(condition: bool) -> bool:
    """Return whether `condition` is true in any process; all processes must call this."""
    if jax.process_count() == 1:
        return condition
    return bool(np.any(multihost_utils.process_allgather(np.array(condition))))
