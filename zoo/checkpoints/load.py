"""Load a model folder, ours or Hugging Face's, and export one."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo import registry, tokenizers
from zoo.checkpoints import model_folder
from zoo.contracts import Composite
from zoo.formats import huggingface
from zoo.params import abstract, flatten
from zoo.tokenizers import AnyTokenizer

# Names of architectures in model folders of earlier versions.
RENAMED = {"marian": "transformer", "t5v1_1": "t5_v1_1"}


class Loaded(NamedTuple):
    """A model, its parameters and its tokenizer, or None where the folder has none."""

    model: nn.Module
    params: dict
    tokenizer: AnyTokenizer | None


def load(
    folder: str | os.PathLike,
    *,
    cls: str | None = None,
    new: Sequence[str] = (),
    ignore: Sequence[str] = (),
    key: chex.PRNGKey | None = None,
) -> Loaded:
    """Load a model folder, ours or Hugging Face's. Nothing is downloaded.

    Every parameter must be found and every tensor used.

    Args:
      folder: The folder.
      cls: The class to load it as, such as "ElectraGenerator"; None: what the folder holds.
      new: Prefixes of parameter paths that a published folder may lack; these parameters are
        initialized from `key`.
      ignore: Prefixes of published tensor names to ignore.
      key: Required if parameters are initialized.

    Raises:
      ValueError: With every parameter that is missing, unexpected, or of the wrong shape.
    """
    folder = Path(folder)
    held = held_class(folder)
    target = held if cls is None else _named_class(held, cls)
    if is_published(folder):
        known = huggingface.find(huggingface.read_config(folder))
        if target not in known.classes.values():
            raise ValueError(
                f"{folder}: {target.__name__} cannot be loaded from a Hugging Face folder"
            )
        config, params = huggingface.read(folder, known, target, new=new, ignore=ignore, key=key)
    else:
        config, params = own_config(folder), model_folder.read(folder)
        whole = held(config)
        if target is not held and isinstance(whole, Composite):
            config, params = whole.part(target, config, params)
        _check_shapes(folder, target(config), params)
    params = jax.tree.map(jnp.asarray, params)
    return Loaded(target(config), params, load_tokenizer(folder, config))


def is_published(folder: str | os.PathLike) -> bool:
    """Return whether a folder is a Hugging Face folder."""
    return Path(folder, "config.json").exists()


def held_class(folder: str | os.PathLike) -> type[nn.Module]:
    """Return the class of the model in a folder."""
    if is_published(folder):
        published = huggingface.read_config(folder)
        return huggingface.find(published).class_of(published)
    manifest = model_folder.manifest(folder)
    architecture = _architecture(manifest)
    name = manifest["class"]
    return architecture.Model if name is None else _named_class(architecture.Model, name)


def own_config(folder: str | os.PathLike) -> Any:
    """Return the config in a model.json, with the lists of JSON turned back into tuples."""
    manifest = model_folder.manifest(folder)
    fields = manifest["config"].items()
    values = {name: tuple(x) if isinstance(x, list) else x for name, x in fields}
    return _architecture(manifest).Config(**values)


def load_tokenizer(folder: str | os.PathLike, config: Any) -> AnyTokenizer | None:
    """Return the tokenizer of a folder, or None; ValueError if its vocabulary is too large."""
    try:
        tokenizer = tokenizers.load(folder)
    except FileNotFoundError:
        return None
    size = tokenizer.get_vocab_size()
    if size > config.vocab_size:
        raise ValueError(
            f"{folder}: the tokenizer has {size} tokens, but the vocabulary of the model has "
            f"{config.vocab_size}"
        )
    return tokenizer


def save(loaded: Loaded, folder: str | os.PathLike) -> None:
    """Write a model, its parameters and its tokenizer as a model folder, which `load` reads."""
    model, params, tokenizer = loaded
    name, cls = registry.name_of(model), type(model).__name__
    model_folder.write(folder, name, model.config, params, tokenizer, cls)


def export(loaded: Loaded, folder: str | os.PathLike, cls: str | None = None) -> None:
    """Write a model as a Hugging Face folder, which transformers loads.

    Args:
      loaded: What `load` returned.
      folder: The folder to write.
      cls: The class to export it as; None: its own, or the first part of a model that is published
        in parts only.

    Raises:
      ValueError: If the model has no published form.
    """
    model, params, tokenizer = loaded
    target = type(model) if cls is None else _named_class(type(model), cls)
    if cls is None and isinstance(model, Composite):
        target = next(c for c in registry.of(model).MODELS if huggingface.find_class(c))
    known = huggingface.find_class(target)
    if known is None:
        raise ValueError(
            f"transformers has no {target.__name__}: use zoo.save to write a model folder instead"
        )
    if target is not type(model):
        if not isinstance(model, Composite):
            raise ValueError(f"a {type(model).__name__} cannot be exported as {target.__name__}")
        config, params = model.part(target, model.config, params)
        model = target(config)
    fields = {}
    if tokenizer is not None:
        tokenizers.save(tokenizer, folder)
        lowercase = tokenizers.lowercase(tokenizer)
        if lowercase is not None:  # otherwise transformers would use its own default
            fields["do_lower_case"] = lowercase
    huggingface.write(folder, known, model, params, tokenizer, fields)


def _architecture(manifest: dict) -> registry.Architecture:
    name = manifest["architecture"]
    return registry.named(RENAMED.get(name, name))


def _named_class(held: type[nn.Module], name: str) -> type[nn.Module]:
    """Return a class by name from the architecture of another class."""
    classes = {cls.__name__: cls for cls in registry.classes(registry.of(held))}
    if name not in classes:
        raise ValueError(f"unknown class {name!r}: use one of {', '.join(classes)}")
    return classes[name]


def _check_shapes(folder: Path, model: nn.Module, params: dict) -> None:
    expected = {p: x.shape for p, x in flatten(abstract(model)).items()}
    held = {p: x.shape for p, x in flatten(params).items()}
    mismatches = [
        f"{path} has shape {held.get(path)}, not {expected.get(path)}"
        for path in sorted(expected.keys() | held.keys())
        if expected.get(path) != held.get(path)
    ]
    if mismatches:
        raise ValueError(f"{folder} does not fit {type(model).__name__}: " + "; ".join(mismatches))
