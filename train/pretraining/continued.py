"""Continued pretraining: a recipe that starts from the model of a folder, not from random weights.

The folder gives the config, the tokenizer and the weights; the recipe gives objective, batches,
optimizer and schedule. The folder may contain another model of the same architecture, such as one
that was fine-tuned: heads that the folder lacks are initialized at random.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from flax import linen as nn

from train.recipes.recipe import Config, Initial, Recipe, with_config
from zoo import registry
from zoo.checkpoints import arrays, hub, model_folder
from zoo.checkpoints.load import is_published, load_tokenizer, own_config, saved_class
from zoo.contracts import Composite
from zoo.formats import huggingface
from zoo.params import abstract, flatten, unflatten

R = TypeVar("R", bound=Recipe)


def continued(recipe: R, folder: str | Path, changes: Sequence[str] = ()) -> R:
    """Return the recipe with the model of a folder as its start.

    Args:
      recipe: The recipe.
      folder: A model folder, ours or Hugging Face's, or a name on the Hub.
      changes: Changes to the config of the folder, as in `with_config`, such as "dropout=0.1".

    Raises:
      ValueError: If the architectures differ, if the folder has no tokenizer or lacks a part of the
        trunk, or if its weights do not fit the changed config.
    """
    folder = hub.resolve(folder)
    saved_cls, architecture = saved_class(folder), registry.named(recipe.architecture)
    if registry.of(saved_cls) is not architecture:
        raise ValueError(
            f"--init {folder} contains a {saved_cls.__name__}, but {recipe.name} trains a "
            f"{architecture.Model.__name__}: use a recipe of {registry.name_of(saved_cls)}"
        )
    read = _published if is_published(folder) else _ours
    config, params = read(folder, saved_cls, architecture.Model, recipe.config)
    if load_tokenizer(folder, config) is None:
        raise ValueError(f"--init {folder} has no tokenizer, which the text needs")
    recipe = with_config(replace(recipe, config=config), changes)
    shapes = flatten(abstract(architecture.Model(recipe.config)))
    wrong = [path for path, x in params.items() if x.shape != shapes[path].shape]
    if wrong:
        raise ValueError(
            f"--config does not fit the weights of --init {folder}: {wrong[0]} has shape "
            f"{params[wrong[0]].shape}, not {shapes[wrong[0]].shape}"
        )
    sums = json.dumps(arrays.fingerprint(params), sort_keys=True)
    initial = Initial(str(folder), params, hashlib.sha256(sums.encode()).hexdigest())
    return replace(recipe, initial=initial)


def _published(folder: Path, saved_cls: type[nn.Module], cls: type[nn.Module], config: Config):
    published = huggingface.read_config(folder)
    format = huggingface.find(published)
    # A model with two networks is published in parts.
    target = cls if cls in format.classes.values() else saved_cls
    new, ignore = huggingface.new_head(folder, format, target)
    own, params = huggingface.read_available(folder, format, target, new=new, ignore=ignore)
    if target is not cls:
        # A folder of one network need not describe the other, which is that of the recipe.
        same = {ours for ours, (theirs, _) in format.fields.items() if theirs == ours}
        own = replace(own, **{name: getattr(config, name) for name in same - published.keys()})
    return own, _in(cls, target, folder, own, params)


def _ours(folder: Path, saved_cls: type[nn.Module], cls: type[nn.Module], config: Config):
    own = own_config(folder)
    return own, _in(cls, saved_cls, folder, own, flatten(model_folder.read(folder)))


def _in(
    cls: type[nn.Module],
    saved_cls: type[nn.Module],
    folder: Path,
    config: Any,
    params: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Return the parameters that a model has in common with another one, by its own paths."""
    model = cls(config)
    paths = {path: path for path in flatten(abstract(model))}
    needed = {path for path in paths if path.startswith("trunk/")}
    if isinstance(model, Composite):
        tree, tasks = unflatten(paths), registry.of(cls).TASKS.values()
        inside = lambda part: flatten(model.part(part, config, tree)[1])
        # The network that tasks are built on is the one to start from.
        needed = {p for path, p in inside(next(iter(tasks))).items() if path.startswith("trunk/")}
        paths = paths if saved_cls is cls else inside(saved_cls)
    initial = {path: params[within] for within, path in paths.items() if within in params}
    missing = sorted(needed - initial.keys())
    if missing:
        raise ValueError(
            f"--init {folder} contains a {saved_cls.__name__} without {missing[0]}, which a "
            f"{cls.__name__} needs: {len(missing)} parameters are missing"
        )
    return initial
