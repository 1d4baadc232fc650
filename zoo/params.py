"""Parameters as nested dicts: paths, shapes, counts, and the call of a model with them."""

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util


def flatten(tree) -> dict:
    """Return any pytree as one dict, "a/b/c" -> leaf."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def unflatten(leaves: dict) -> dict:
    """Return the nested dict of flattened leaves; the inverse of `flatten` for dicts."""
    return traverse_util.unflatten_dict(leaves, sep="/")


def abstract(model: nn.Module) -> dict:
    """Return a model's parameters as a nested dict of jax.ShapeDtypeStruct; nothing is computed."""
    tokens = jax.ShapeDtypeStruct((1, 8), jnp.int32)
    return jax.eval_shape(model.init, jax.random.key(0), tokens)["params"]


# Part of the path of a stack of layers -> the config field with its number of layers.
DEPTHS = {"generator": "generator_layers", "decoder": "num_decoder_layers", "": "num_layers"}


def num_parameters(cls: type[nn.Module], config: Any) -> int:
    """Return the number of parameters of a model, counted as in `layer_shapes`.

    Args:
      cls: The class of the model.
      config: Its config, a frozen dataclass.
    """
    return sum(math.prod(shape) * count for shape, count in layer_shapes(cls, config).values())


def layer_shapes(cls: type[nn.Module], config: Any) -> dict[str, tuple[tuple[int, ...], int]]:
    """Return the shape of each parameter and how many layers have it, from three of the layers.

    All layers between the first and the last have the same size, so deep models need not be traced
    in full.

    Args:
      cls: The class of the model.
      config: Its config, a frozen dataclass.

    Returns:
      Path -> shape and count: that of layer 1 stands for all layers but the first and the last.
    """
    fields = vars(config)
    depths = {part: field for part, field in DEPTHS.items() if field in fields}
    three_layers = {field: min(fields[field], 3) for field in depths.values()}
    shapes = {}
    hashable: Any = cls  # mypy sees no hash in the metaclass of Flax
    for path, shape in _shapes(hashable, replace(config, dropout=0.0, **three_layers)).items():
        depth = next(fields[field] for part, field in depths.items() if part in path)
        shapes[path] = shape, depth - 2 if "_1/" in path and depth > 2 else 1
    return shapes


@lru_cache
def _shapes(cls: type[nn.Module], config: Any) -> dict[str, tuple[int, ...]]:
    return {path: x.shape for path, x in flatten(abstract(cls(config))).items()}


def call(model: nn.Module, params: chex.ArrayTree, *inputs: Any, **options: Any) -> Any:
    """Return the output of a model, or of its `method`; options as in `Module.apply`.

    Flax types the result as a union that covers mutable collections, which are not used here.
    """
    return model.apply({"params": params}, *inputs, **options)
