"""The weights of Flax models of transformers, `flax_model.msgpack`, under PyTorch's names.

Layers of Flax name their arrays kernel, scale and embedding where PyTorch has weight, and store
kernels inputs first.
"""

from pathlib import Path
from typing import Any

import numpy as np
from flax import serialization

from zoo.params import flatten

NAMES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file by the names that PyTorch has for them.

    Raises:
      ValueError: If the file is damaged.
    """
    try:
        tree: Any = serialization.msgpack_restore(Path(path).read_bytes())
        arrays = flatten(tree)
    except Exception as error:  # msgpack and Flax raise many kinds for damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is not a file of weights by Flax: {reason}") from None
    named = {}
    for name, array in arrays.items():
        path_of, _, last = name.rpartition("/")
        is_matrix = last == "kernel" and np.ndim(array) == 2
        name = f"{path_of}/{NAMES.get(last, last)}".replace("/", ".").lstrip(".")
        named[name] = np.asarray(array).T if is_matrix else np.asarray(array)
    return named
