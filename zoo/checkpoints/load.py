"""Load a model folder, a file of a published format or a name on the Hub, and export a model."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.errors import FlaxError

from zoo import registry, tokenizers, untrusted
from zoo.checkpoints import existing, hub, mapped, model_folder, staging
from zoo.checkpoints.lock import locked
from zoo.contracts import Composite
from zoo.direction import is_backward
from zoo.formats import files, huggingface, weights
from zoo.params import DEPTHS, abstract, flatten
from zoo.tokenizers import AnyTokenizer, Tokenizer

# Names of architectures in model folders of earlier versions.
RENAMED = {"marian": "transformer", "t5v1_1": "t5_v1_1"}
MOST_LAYERS = 256  # whatever the number of parameters; ALBERT's layers share theirs


class Loaded(NamedTuple):
    """A model, its parameters and its tokenizer, or None where the folder has none."""

    model: nn.Module
    params: dict
    tokenizer: AnyTokenizer | None


def load(
    folder: str | os.PathLike,
    *,
    cls: str | None = None,
    revision: str | None = None,
    architecture: str | None = None,
    new: Sequence[str] = (),
    ignore: Sequence[str] = (),
    key: chex.PRNGKey | None = None,
    unchecked: bool = False,
) -> Loaded:
    """Load a model folder, ours or Hugging Face's, or a file, or a name on the Hugging Face Hub.

    A name is a string such as "google-bert/bert-base-uncased", or "gpt2", where no folder or file
    has this name; a Path is never one. Its files are fetched into the cache of huggingface_hub, as
    its environment variables say: HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and others. Only
    for a name is anything downloaded, and nothing in the files is ever executed.

    A file is an n-gram model as ARPA, word vectors as word2vec, GloVe and fastText write them, or a
    recurrent model of AllenNLP (ELMo), Flair or fastai (AWD-LSTM), which are distinguished by their
    content. Word vectors of a file stay NumPy arrays, mapped into memory where the format allows:
    few of their rows are needed at a time, and a copy on the device would take the memory of the
    table once more.

    Loading is strict: every parameter must be found, every tensor used, and every weight a finite
    float. Only tables that are mapped into memory are not checked for that: it would read all of a
    file of fastText, and make loading a model folder of word vectors a quarter slower.

    Args:
      folder: The folder or file, or the name; NAME@REVISION is one of its revisions.
      cls: The class to load it as, such as "ElectraGenerator" or its published name,
        "ElectraForMaskedLM"; None: the class that was saved. The heads of other classes in a
        published folder are left out if those of this class are all there.
      revision: The branch, tag or commit of a name, as in NAME@REVISION. None: its main branch.
      architecture: The architecture of a published folder whose config.json has no model_type, such
        as "bert".
      new: Prefixes of parameter paths that a published folder may lack; these parameters are
        initialized from `key`.
      ignore: Prefixes of published tensor names to ignore.
      key: Required if parameters are initialized.
      unchecked: Load weights that are integers or not finite too, to look at them.

    Raises:
      OSError: If the folder, file or name is not there, or a name cannot be fetched.
      ValueError: If parameters are missing, unexpected, of the wrong shape, or have values that are
        no weights; the message lists all of them.
    """
    folder = hub.resolve(folder, revision)
    if cls is not None and is_published(folder):  # config.json may name a class of somebody's own
        format = huggingface.find(huggingface.read_config(folder), architecture)
        saved_cls = next(iter(format.classes.values()))
    else:
        saved_cls = saved_class(folder, architecture)
    target = saved_cls if cls is None else _named_class(saved_cls, cls)
    if file_format := files.find(folder):
        if target is not saved_cls:
            raise ValueError(f"{folder}: a file of a {saved_cls.__name__} is no {target.__name__}")
        config, params, tokenizer = file_format.read(folder, unchecked)
        return Loaded(target(config), params, tokenizer)
    if is_published(folder):
        format = huggingface.find(huggingface.read_config(folder), architecture)
        if target not in format.classes.values():
            raise ValueError(
                f"{folder}: {target.__name__} cannot be loaded from a Hugging Face folder"
            )
        ignore = *ignore, *huggingface.unread(folder, format, target)
        config, params = huggingface.read(
            folder, format, target, new=new, ignore=ignore, key=key, unchecked=unchecked
        )
    else:
        config, params = own_config(folder), model_folder.read(folder)
        model = saved_cls(config)
        if target is not saved_cls and isinstance(model, Composite):
            config, params = model.part(target, config, params)
        _check_shapes(folder, target(config), params)
        if not unchecked and not mapped.is_for(params):
            _check_values(folder, params)
    # On a CPU, device_put leaves tables in their mapped memory; asarray would copy them.
    place = jax.device_put if mapped.is_for(params) else jnp.asarray
    params = jax.tree.map(place, params)
    return Loaded(target(config), params, load_tokenizer(folder, config))


def is_published(folder: str | os.PathLike) -> bool:
    """Return whether a folder is a Hugging Face folder.

    Raises:
      ValueError: If it is a model folder of ours as well.
    """
    staging.complete(folder)
    file = huggingface.config_file(folder)
    if file and Path(folder, "model.json").exists():
        raise ValueError(
            f"{folder} has both {file.name}, of a Hugging Face model, and model.json, of a model "
            "of zoo: remove the one whose model is not meant"
        )
    return file is not None


def saved_class(folder: str | os.PathLike, architecture: str | None = None) -> type[nn.Module]:
    """Return the class of the model that is saved in a folder or file, or under a name.

    Args:
      folder: The folder or file, or the name.
      architecture: The architecture of a published folder whose config.json has no model_type.
    """
    folder = hub.resolve(folder)
    if file_format := files.find(folder):
        return file_format.class_of(folder)
    if is_published(folder):
        published = huggingface.read_config(folder)
        return huggingface.find(published, architecture).class_of(published)
    manifest = model_folder.manifest(folder)
    model, name = _architecture(manifest).Model, manifest["class"]
    return model if name is None else _named_class(model, name)


def own_config(folder: str | os.PathLike) -> Any:
    """Return the config in a model.json, with the lists of JSON turned back into tuples."""
    manifest = model_folder.manifest(folder)
    config_class = _architecture(manifest).Config
    values = {name: _tuples(value) for name, value in manifest["config"].items()}
    kinds = {field.name: field.type for field in dataclasses.fields(config_class)}
    most = max(MOST_LAYERS, len(manifest["parameters"] or ()))  # a layer has parameters
    for name, value in values.items():
        if name not in kinds or not untrusted.fits(value, kinds[name]):
            raise ValueError(f"{folder}/model.json: {name} cannot be {value!r:.60}")
        if name in DEPTHS.values() and value > most:
            raise ValueError(f"{folder}/model.json: {name} is {value:,}, but at most {most:,} fit")
    return config_class(**values)


def _tuples(value: Any) -> Any:
    """Return a value with tuples in place of lists, at any depth."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def load_tokenizer(folder: str | os.PathLike, config: Any) -> AnyTokenizer | None:
    """Return the tokenizer of a folder, or None.

    The ids of special tokens in config.json must be those of the tokenizer, except `pad_token_id`:
    padding is masked, whatever its id. (T5's and Marian's `decoder_start_token_id` and RoBERTa's
    `pad_token_id`, which numbers its positions, belong to the config of the model.)

    Raises:
      ValueError: If a token has an id outside of the vocabulary, config.json gives a special
        token another id, or it is not the tokenizer that was saved with a model of ours.
    """
    try:
        tokenizer = tokenizers.load(folder)
    except FileNotFoundError:
        tokenizer = None
    if not is_published(folder):
        model_folder.check_tokenizer(folder, tokenizer)
    if tokenizer is None:
        return None
    stacked, _ = getattr(config, "stacked", (0, 0))  # the words of vectors beside a tagger's
    text, id = tokenizers.last_token(tokenizer)
    if id >= max(config.vocab_size, stacked):
        raise ValueError(
            f"{folder}: the tokenizer has {id + 1} tokens, the last one {text!r:.60}, but the "
            f"vocabulary of the model has {config.vocab_size}"
        )
    if is_published(folder):
        _check_special_ids(Path(folder), tokenizer)
    return tokenizer


def _check_special_ids(folder: Path, tokenizer: AnyTokenizer) -> None:
    published = huggingface.read_config(folder)
    for role, text in tokenizers.special_tokens(folder).items():
        stated, id = published.get(f"{role}_id"), tokenizer.token_to_id(text)
        ids = stated if isinstance(stated, list) else [stated]
        if role != "pad_token" and None not in (stated, id) and id not in ids:
            raise ValueError(
                f"{folder}: config.json has {role}_id = {stated!r:.40}, but the tokenizer's "
                f"{role}, {text!r:.60}, has the id {id}: correct one of them"
            )


def save(loaded: Loaded, folder: str | os.PathLike, *, overwrite: bool = False) -> None:
    """Write a model, its parameters and its tokenizer as a model folder, which `load` reads.

    Args:
      loaded: The result of `load`.
      folder: The folder to write. Files in it that belong to no model are kept.
      overwrite: Whether a model or a run in it may be replaced.

    Raises:
      FileExistsError: If the folder holds a model or a run, unless it may be replaced.
      OSError: If it cannot be written; then what it held is unchanged.
    """
    model, params, tokenizer = loaded
    name, cls = registry.name_of(model), type(model).__name__
    with locked(folder):
        existing.check_folder(folder, overwrite=overwrite)
        replaced = existing.ALL_FILES
        model_folder.write(folder, name, model.config, params, tokenizer, cls, replaced)


def trained_on(folder: str | os.PathLike) -> str | None:
    """Return "texts" or "pairs", what a classifier was fine-tuned on, or None if not recorded."""
    own = Path(folder, "model.json").exists() and not is_published(folder)
    return model_folder.manifest(folder).get("trained_on") if own else None


def export(
    loaded: Loaded,
    folder: str | os.PathLike,
    cls: str | None = None,
    *,
    overwrite: bool = False,
) -> None:
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
      overwrite: Whether a file, or a model or a run in a folder, may be replaced.

    Raises:
      ValueError: If the model has no published form.
      FileExistsError: If the file exists, or the folder holds a model or a run, unless it may be
        replaced.
      OSError: If it cannot be written; then what was there is unchanged.
    """
    model, params, tokenizer = loaded
    if file_format := files.for_model(model, folder):
        existing.check_file(folder, overwrite=overwrite)
        with staging.draft_of_file(folder) as draft:
            return file_format.write(draft, model, params, tokenizer)
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
    with locked(folder):
        existing.check_folder(folder, overwrite=overwrite)
        with staging.draft(folder, existing.ALL_FILES) as draft:
            fields = None
            if tokenizer is not None:
                tokenizers.save(tokenizer, draft)
            if isinstance(tokenizer, Tokenizer):
                fields = tokenizers.config(tokenizer, format.tokenizer)
            huggingface.write(draft, format, model, params, tokenizer, fields)


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
    try:
        expected = {p: x.shape for p, x in flatten(abstract(model)).items()}
    except (TypeError, ArithmeticError, FlaxError):  # such as a width of 0
        raise ValueError(f"{folder}: the config in model.json describes no model") from None
    actual = {p: x.shape for p, x in flatten(params).items()}
    mismatches = [
        f"{path} has shape {actual.get(path)}, not {expected.get(path)}"
        for path in sorted(expected.keys() | actual.keys())
        if expected.get(path) != actual.get(path)
    ]
    if mismatches:
        raise ValueError(f"{folder} does not fit {type(model).__name__}: " + "; ".join(mismatches))


def _check_values(folder: Path, params: dict) -> None:
    checked = (weights.problem(path, np.asarray(x)) for path, x in flatten(params).items())
    if problems := [problem for problem in checked if problem]:
        raise ValueError(f"{folder}: " + "; ".join(problems))
