"""Weights in the files of other libraries: checked, and put where our parameters are."""

import os
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from zoo.params import abstract, flatten, unflatten

FLOATS = [np.dtype(dtype) for dtype in (np.float64, np.float32, np.float16, jnp.bfloat16)]
ANYWAY = "to load it anyway, for inspection: unchecked=True, or zoo import --unchecked"


class Row(NamedTuple):
    """Where a parameter is in a file.

    Attributes:
      name: The name of the array.
      shape: Its shape there.
      order: The order there of our axes, before axes are merged or split; (): ours.
    """

    name: str
    shape: tuple[int, ...]
    order: tuple[int, ...] = ()


def problem(name: str, array: np.ndarray) -> str | None:
    """Return what is wrong with the values of a weight, if anything.

    It has integers, as quantized weights do, or values that are not finite, or not as float32.
    """
    if array.dtype not in FLOATS:
        return f"{name} has the type {array.dtype}, but weights are floats of 16 bits on ({ANYWAY})"
    with np.errstate(over="ignore"):
        is_finite = np.isfinite(array.astype(np.float32, copy=False))
    count = array.size - np.count_nonzero(is_finite)
    if count:
        return f"{name} has {count:,} of {array.size:,} values that are not finite ({ANYWAY})"
    return None


def fit(
    file: str | os.PathLike,
    model: nn.Module,
    tensors: Mapping[str, np.ndarray],
    rows: Mapping[str, Row],
    *,
    ignored: Collection[str] = (),
    unchecked: bool = False,
) -> dict[str, Any]:
    """Return the parameters of a model from the arrays of a file, as float32.

    Args:
      file: The name of the file, for errors.
      model: The model.
      tensors: The arrays by name.
      rows: Where each parameter is, by path.
      ignored: The names of arrays that are no weights.
      unchecked: Whether values may be integers or not finite.

    Raises:
      ValueError: If arrays are missing, unexpected, of the wrong shape, or have wrong values; the
        message lists all of them.
    """
    problems, params = [], {}
    for path, parameter in flatten(abstract(model)).items():
        name, shape, order = rows[path]
        if name not in tensors:
            problems.append(f"missing {name}")
            continue
        array = tensors[name]
        if array.shape != shape:
            problems.append(f"{name} has shape {array.shape}, not {shape}")
            continue
        if not unchecked and (wrong := problem(name, array)):
            problems.append(wrong)
            continue
        order = order or tuple(range(len(parameter.shape)))
        split = array.reshape([parameter.shape[axis] for axis in order])
        params[path] = split.transpose(np.argsort(order)).astype(np.float32)
    used = {row.name for row in rows.values()} | set(ignored)
    problems += [f"unexpected {name}" for name in sorted(tensors.keys() - used)]
    if problems:
        raise ValueError(f"{file} does not fit {type(model).__name__}: " + "; ".join(problems))
    return unflatten(params)
