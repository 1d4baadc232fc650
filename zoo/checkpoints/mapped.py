"""Tables on disk: one .npy file per array, which is mapped into memory when it is loaded.

The tables of a count model or of word vectors may be larger than the memory, and a text needs few
of their rows. The weights of layers are all needed at once, and are stored as in `arrays`.
"""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from zoo.checkpoints.arrays import Damaged, fingerprint
from zoo.params import flatten


def is_for(tree) -> bool:
    """Return whether a pytree is stored in this form: whether its arrays are tables.

    They are if there are integers, as among counts, or if none belongs to a layer: a model without
    layers only looks rows up.
    """
    paths = flatten(tree)
    has_integers = any(jnp.issubdtype(leaf.dtype, jnp.integer) for leaf in paths.values())
    return has_integers or not any("/" in path for path in paths)


def is_in(folder: str | os.PathLike) -> bool:
    """Return whether a folder holds arrays in this form."""
    return any(Path(folder).glob("*.npy"))


def save(folder: str | os.PathLike, tree) -> None:
    """Write every array of a pytree into a folder, as PATH.npy with dots for slashes.

    All processes must call this, as each may hold a part of an array; the first one writes.

    Raises:
      OSError: If the folder cannot be written.
    """
    folder = Path(folder)
    if jax.process_index() == 0:
        folder.mkdir(parents=True)
    for path, leaf in flatten(tree).items():
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            leaf = multihost_utils.process_allgather(leaf, tiled=True)
        if jax.process_index() == 0:
            np.save(_file(folder, path), np.asarray(leaf), allow_pickle=False)


def load(folder: str | os.PathLike, description: dict) -> dict[str, np.ndarray]:
    """Return the arrays in a folder, path -> array in mapped memory, with verified fingerprints.

    Args:
      folder: The folder.
      description: The result of `arrays.describe` for them.

    Raises:
      Damaged: If an array cannot be read, or its shape, type or fingerprint is wrong.
    """
    folder, arrays = Path(folder), {}
    for path, about in description.items():
        file = _file(folder, path)
        try:
            # An empty file cannot be mapped.
            empty = 0 in about["shape"]
            array = np.load(file, mmap_mode=None if empty else "r", allow_pickle=False)
        except (OSError, EOFError, ValueError) as error:
            raise Damaged(f"{file} cannot be read: {error}") from None
        if list(array.shape) != about["shape"] or str(array.dtype) != about["dtype"]:
            raise Damaged(
                f"{file} holds {array.dtype} {list(array.shape)}, not {about['dtype']} "
                f"{about['shape']}"
            )
        arrays[path] = np.asarray(array)
    sums = fingerprint(arrays)
    changed = [path for path, about in description.items() if sums[path] != about["fingerprint"]]
    if changed:
        raise Damaged(f"{folder}: wrong checksum of {', '.join(changed)}")
    return arrays


def _file(folder: Path, path: str) -> Path:
    return folder / f"{path.replace('/', '.')}.npy"
