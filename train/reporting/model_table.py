"""The parameters of a model as a table of shapes, with equal layers in one row."""

import math
import re
from typing import Any, NamedTuple

from flax import linen as nn

from zoo.params import layer_shapes


class Row(NamedTuple):
    """A parameter: its path, in which * is the number of a layer, its shape and its layers."""

    path: str
    shape: tuple[int, ...]
    layers: int

    @property
    def size(self) -> int:
        """The number of parameters, over all layers."""
        return math.prod(self.shape) * self.layers


def rows(cls: type[nn.Module], config: Any) -> list[Row]:
    """Return a row for each parameter of a model, in the order of the paths of its layers."""
    counts: dict[tuple[str, tuple[int, ...]], int] = {}
    for path, (shape, count) in layer_shapes(cls, config).items():
        key = re.sub(r"_\d+/", "_*/", path), shape
        counts[key] = counts.get(key, 0) + count
    return [Row(path, shape, count) for (path, shape), count in counts.items()]


def lines(table: list[Row]) -> list[str]:
    """Return the table as aligned lines, with the sum below."""
    cells = [
        (row.path, " x ".join(map(str, row.shape)), str(row.layers), f"{row.size:,}")
        for row in table
    ]
    total = f"{sum(row.size for row in table):,}"
    cells = [("parameter", "shape", "layers", "parameters"), *cells, ("sum", "", "", total)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    path, shape, count, size = widths
    return [f"{a:{path}}  {b:>{shape}}  {c:>{count}}  {d:>{size}}" for a, b, c, d in cells]
