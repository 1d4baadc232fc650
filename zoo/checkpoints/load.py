"""Load a model folder, ours or Hugging Face's, or a file of a published format, and export one."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo import registry, tokenizers
from zoo.checkpoints import mapped, model_folder
from zoo.contracts import Composite
from zoo.direction import is_backward
from zoo.formats import files, huggingface
from zoo.layers import heads
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
    """Load a model folder, ours or Hugging Face's, or a file. Nothing is downloaded.

    A file is an n-gram model as ARPA, or word vectors as word2vec, GloVe and fastText write them,
    which are distinguished by their content. Word vectors of a file stay NumPy arrays, mapped into
    memory where the format allows: few of their rows are needed at a time, and a copy on the device
    would take the memory of the table once more.

    Loading is strict: every parameter must be found, and every tensor used.

    Args:
      folder: The folder or file.
      cls: The class to load it as, such as "ElectraGenerator" or its published name,
        "ElectraForMaskedLM"; None: the class that was saved. A trunk alone, such as "BertModel", is
        loaded from a folder with any head.
      new: Prefixes of parameter paths that a published folder may lack; these parameters are
        initialized from `key`.
      ignore: Prefixes of published tensor names to ignore.
      key: Required if parameters are initialized.

    Raises:
      ValueError: If parameters are missing, unexpected, or of the wrong shape; the message lists
        all of them.
    """
    folder = Path(folder)
    saved_cls = saved_class(folder)
    target = saved_cls if cls is None else _named_class(saved_cls, cls)
    if file_format := files.find(folder):
        if target is not saved_cls:
            raise ValueError(f"{folder}: a file of a {saved_cls.__name__} is no {target.__name__}")
        config, params, tokenizer = file_format.read(folder)
        return Loaded(target(config), params, tokenizer)
    if is_published(folder):
        format = huggingface.find(huggingface.read_config(folder))
        if target not in format.classes.values():
            raise ValueError(
                f"{folder}: {target.__name__} cannot be loaded from a Hugging Face folder"
            )
        if issubclass(target, heads.Trunk):
            ignore = *ignore, *huggingface.unread(folder, format, target)
        config, params = huggingface.read(folder, format, target, new=new, ignore=ignore, key=key)
    else:
        config, params = own_config(folder), model_folder.read(folder)
        model = saved_cls(config)
        if target is not saved_cls and isinstance(model, Composite):
            config, params = model.part(target, config, params)
        _check_shapes(folder, target(config), params)
    # On a CPU, device_put leaves tables in their mapped memory; asarray would copy them.
    place = jax.device_put if mapped.is_for(params) else jnp.asarray
    params = jax.tree.map(place, params)
    return Loaded(target(config), params, load_tokenizer(folder, config))


def is_published(folder: str | os.PathLike) -> bool:
    """Return whether a folder is a Hugging Face folder."""
    return Path(folder, "config.json").exists()


def saved_class(folder: str | os.PathLike) -> type[nn.Module]:
    """Return the class of the model that is saved in a folder or file."""
    if file_format := files.find(folder):
        return file_format.class_of(Path(folder))
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
    return _architecture(manifest).Config(**{name: _tuples(value) for name, value in fields})


def _tuples(value: Any) -> Any:
    """Return a value with tuples in place of lists, at any depth."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def load_tokenizer(folder: str | os.PathLike, config: Any) -> AnyTokenizer | None:
    """Return the tokenizer of a folder, or None; ValueError if its vocabulary is too large."""
    try:
        tokenizer = tokenizers.load(folder)
    except FileNotFoundError:
        return None
    size = tokenizer.get_vocab_size()
    stacked, _ = getattr(config, "stacked", (0, 0))  # the words of vectors beside a tagger's
    if size > max(config.vocab_size, stacked):
        raise ValueError(
            f"{folder}: the tokenizer has {size} tokens, but the vocabulary of the model has "
            f"{config.vocab_size}"
        )
    return tokenizer


def save(loaded: Loaded, folder: str | os.PathLike, trained_on: str | None = None) -> None:
    """Write a model, its parameters and its tokenizer as a model folder, which `load` reads.

    Args:
      loaded: The model.
      folder: The folder to write.
      trained_on: What a classifier was fine-tuned on, "texts" or "pairs"; None: not recorded.
    """
    model, params, tokenizer = loaded
    name, cls = registry.name_of(model), type(model).__name__
    model_folder.write(folder, name, model.config, params, tokenizer, cls, trained_on)


def trained_on(folder: str | os.PathLike) -> str | None:
    """Return "texts" or "pairs", what a classifier was fine-tuned on, or None if not recorded."""
    own = Path(folder, "model.json").exists() and not is_published(folder)
    return model_folder.manifest(folder).get("trained_on") if own else None


def export(loaded: Loaded, folder: str | os.PathLike, cls: str | None = None) -> None:
    """Write a model as a Hugging Face folder, which transformers loads, or as a file.

    An n-gram model is written as ARPA. The name of a file of word vectors decides its format: .txt
    and .vec are word2vec text, .glove.txt is GloVe text, and .bin is binary: fastText's for its
    models, and word2vec's for others. All tokens are written, special ones as well, so that the
    rows of the file are those of the model.

    Args:
      loaded: The result of `load`.
      folder: The folder to write; for n-grams and word vectors, the file.
      cls: The class to export it as; None: its own, or the first part of a model that is published
        in parts only.

    Raises:
      ValueError: If the model has no published form.
    """
    model, params, tokenizer = loaded
    if file_format := files.for_model(model, folder):
        return file_format.write(Path(folder), model, params, tokenizer)
    target = type(model) if cls is None else _named_class(type(model), cls)
    if cls is None and isinstance(model, Composite):
        target = next(c for c in registry.of(model).MODELS if huggingface.find_class(c))
    format = huggingface.find_class(target)
    if is_backward(model.config):
        raise ValueError("transformers reads forward only: use zoo.save to write a model folder")
    if format is None:
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
    huggingface.write(folder, format, model, params, tokenizer, fields)


def _architecture(manifest: dict) -> registry.Architecture:
    name = manifest["architecture"]
    return registry.named(RENAMED.get(name, name))


def _named_class(cls: type[nn.Module], name: str) -> type[nn.Module]:
    """Return a class by name from the architecture of another class."""
    classes = {other.__name__: other for other in registry.classes(registry.of(cls))}
    for format in huggingface.FORMATS:
        classes |= {name: c for name, c in format.classes.items() if c in classes.values()}
    if name not in classes:
        raise ValueError(f"unknown class {name!r}: use one of {', '.join(classes)}")
    return classes[name]


def _check_shapes(folder: Path, model: nn.Module, params: dict) -> None:
    expected = {p: x.shape for p, x in flatten(abstract(model)).items()}
    actual = {p: x.shape for p, x in flatten(params).items()}
    mismatches = [
        f"{path} has shape {actual.get(path)}, not {expected.get(path)}"
        for path in sorted(expected.keys() | actual.keys())
        if expected.get(path) != actual.get(path)
    ]
    if mismatches:
        raise ValueError(f"{folder} does not fit {type(model).__name__}: " + "; ".join(mismatches))
