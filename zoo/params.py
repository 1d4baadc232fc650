"""Parameters as nested dicts: paths, shapes, and the call of a model with them."""

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
    """Return the nested dict that `flatten` was given."""
    return traverse_util.unflatten_dict(leaves, sep="/")


def abstract(model: nn.Module) -> dict:
    """Return a model's parameters as a nested dict of jax.ShapeDtypeStruct; nothing is computed."""
    tokens = jax.ShapeDtypeStruct((1, 8), jnp.int32)
    return jax.eval_shape(model.init, jax.random.key(0), tokens)["params"]


def call(model: nn.Module, params: chex.ArrayTree, *inputs: Any, **options: Any) -> Any:
    """Return what a model, or its `method`, returns for some inputs; options as in `Module.apply`.

    Flax types that as a union with what it returns for mutable collections, of which we have none.
    """
    return model.apply({"params": params}, *inputs, **options)
