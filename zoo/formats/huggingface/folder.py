"""Read and write Hugging Face folders with the tables of a format; without PyTorch.

Loading is strict: every parameter must be found with its shape, and every tensor must be used, tied
to another, or ignored. One error reports everything that is wrong.
"""

import dataclasses
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import chex
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from safetensors import SafetensorError
from safetensors.numpy import save_file

from zoo import registry, untrusted
from zoo.formats.huggingface.check import check_config, label_problems
from zoo.formats.huggingface.format import NULL_THRESHOLD, Format, Tokenizer
from zoo.formats.huggingface.tensors import Tensors
from zoo.formats.weights import problem
from zoo.params import abstract, flatten, unflatten

CONFIG = "config.json"
BERT_CONFIG = "bert_config.json"  # in BERT's own release, without a model_type


def config_file(folder: str | os.PathLike) -> Path | None:
    """Return the file of a folder that has the fields of its model, or None."""
    files = [Path(folder) / name for name in (CONFIG, BERT_CONFIG)]
    return next((file for file in files if file.exists()), None)


def read_config(folder: str | os.PathLike) -> dict[str, Any]:
    """Return the fields of a folder's config.json, or of the bert_config.json of old versions."""
    path = config_file(folder)
    if path is None:
        raise FileNotFoundError(f"{folder} has no {CONFIG}: expected a Hugging Face folder")
    untrusted.check_folder(folder)
    published = untrusted.read_object(path)
    return ({"model_type": "bert"} if path.name == BERT_CONFIG else {}) | published


def published_labels(published: Mapping[str, Any]) -> list[str]:
    """Return the names of the classes in a config.json."""
    if problems := label_problems(published):
        raise ValueError("config.json has " + "; ".join(problems))
    count = published.get("num_labels")
    default = {str(i): f"LABEL_{i}" for i in range(2 if count is None else count)}
    names = published.get("id2label") or default
    labels = [str(names[number]) for number in sorted(names, key=int)]
    if len(set(labels)) < len(labels):
        twice, _ = Counter(labels).most_common(1)[0]
        raise ValueError(f"config.json: id2label has the name {twice!r} twice: rename one")
    return labels


def read(
    folder: str | os.PathLike,
    format: Format,
    cls: type[nn.Module],
    *,
    labels: Sequence[str] | None = None,
    new: Sequence[str] = (),
    ignore: Sequence[str] = (),
    key: chex.PRNGKey | None = None,
    unchecked: bool = False,
) -> tuple[Any, dict]:
    """Return the config and the parameters of a model in a folder.

    Args:
      folder: The folder.
      format: Its format.
      cls: The class of the model, one that the format supports.
      labels: The names of the classes; None: those of the folder.
      new: Prefixes of parameter paths that the folder may lack; these are initialized from `key`.
      ignore: Prefixes of published tensor names to ignore.
      key: Required if parameters are initialized.
      unchecked: Whether weights may be integers or not finite.

    Raises:
      ValueError: If tensors are missing, unexpected, of the wrong shape, or have values that are
        no weights; the message lists all of them.
    """
    config, params = read_available(
        folder, format, cls, labels=labels, new=new, ignore=ignore, unchecked=unchecked
    )
    model = cls(config)
    missing = [path for path in flatten(abstract(model)) if path not in params]
    if missing:
        if key is None:
            raise ValueError(f"{folder}: new parameters need a key for initialization")
        initial = flatten(model.init(key, jnp.zeros((1, 8), jnp.int32))["params"])
        params |= {path: initial[path] for path in missing}
    return config, unflatten(params)


def read_available(
    folder: str | os.PathLike,
    format: Format,
    cls: type[nn.Module],
    *,
    labels: Sequence[str] | None = None,
    new: Sequence[str] = (),
    ignore: Sequence[str] = (),
    unchecked: bool = False,
) -> tuple[Any, dict[str, Any]]:
    """Return the config of a folder and the parameters that it has of a model, by path.

    The arguments and errors are those of `read`.
    """
    published, config, tensors = _open(folder, format)
    if _has(config, "labels"):
        config = replace(config, labels=tuple(labels or published_labels(published)))
    if _has(config, "null_threshold"):
        config = replace(config, null_threshold=published.get(NULL_THRESHOLD))
    unused = {name for name in tensors if not name.startswith(tuple(ignore))}
    problems: list[str] = []
    params: dict[str, Any] = {}
    for path, parameter in flatten(abstract(cls(config))).items():
        name, layout = format.row(config, path)
        name, part, parts = _slice(name)
        if name not in tensors:
            if not path.startswith(tuple(new)):
                problems.append(f"missing {name} (to initialize it, use new=[{path!r}])")
            continue
        unused.discard(name)
        array = tensors[name]
        shape = _published_shape(layout, parameter.shape, parts)
        if array.shape != shape:
            problems.append(f"{name} has shape {array.shape}, not {shape}")
        elif not unchecked and part == 0 and (wrong := problem(name, array)):
            problems.append(wrong)
        else:
            array = np.split(array, parts, axis=-1)[part]
            params[path] = _to_ours(layout, parameter.shape, array).astype(np.float32)
    for copy, original in format.tied.items():
        if copy in unused and original in tensors:
            unused.discard(copy)
            if not np.array_equal(tensors[copy], tensors[original]):
                problems.append(f"{copy} differs from {original}; they must be equal")
    for name in sorted(unused):
        if not any(re.search(pattern, name) for pattern in format.ignored):
            problems.append(f"unexpected {name} (to ignore it, use ignore=[{name!r}])")
    if problems:
        architectures = " and ".join(map(str, published.get("architectures") or ()))
        contents = f", which contains {architectures}," if architectures else ""
        raise ValueError(f"{folder}{contents} does not fit {cls.__name__}: " + "; ".join(problems))
    return config, params


def new_head(
    folder: str | os.PathLike,
    format: Format,
    cls: type[nn.Module],
    labels: Sequence[str] | None = None,
) -> tuple[list[str], list[str]]:
    """Return the arguments `new` and `ignore` of `read` for a class whose head may be missing."""
    _, config, tensors = _open(folder, format)
    if labels is not None:
        config = replace(config, labels=labels)
    names = _names(format, cls, config)
    new = [path for path, name in names.items() if name not in tensors]
    heads = [path for path in format.rows(config) if not path.startswith("trunk/")]
    of_heads = {format.row(config, path)[0] for path in heads} | format.tied.keys()
    ignore = [name for name in tensors if name in of_heads - set(names.values())]
    return [path for path in new if not path.startswith("trunk/")], ignore


def unread(folder: str | os.PathLike, format: Format, cls: type[nn.Module]) -> list[str]:
    """Return the tensors of a folder that only other classes of its format have.

    They are none if the folder lacks one that this class has: then it is not of this class.
    """
    _, config, tensors = _open(folder, format)
    of_class = lambda cls: set(_names(format, cls, config).values())
    own = of_class(cls)
    if not own <= tensors.keys() or own >= tensors.keys():
        return []
    of_all = set().union(*map(of_class, format.classes.values()))
    return [name for name in tensors if name in of_all - own]


def write(
    folder: str | os.PathLike,
    format: Format,
    model: nn.Module,
    params: chex.ArrayTree,
    tokenizer: Tokenizer | None = None,
    tokenizer_fields: Mapping[str, Any] | None = None,
) -> None:
    """Write config.json, model.safetensors and tokenizer_config.json for transformers.

    Args:
      folder: The folder to write.
      format: The format of the model's class.
      model: The model.
      params: Its parameters.
      tokenizer: Provides the ids of special tokens in config.json.
      tokenizer_fields: The fields of tokenizer_config.json; None: those of the format.

    Raises:
      ValueError: If the format cannot express the model's config.
      OSError: If the folder cannot be written.
    """
    folder = Path(folder)
    name, problem = format.published_class(type(model))
    config_fields = {
        "architectures": [name],
        **format.from_config(model.config),
        **format.special_ids(model.config, tokenizer),
        **_label_fields(model),
        **({"problem_type": problem} if problem else {}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, dict[int, np.ndarray]] = {}
    for path, array in flatten(params).items():
        name, layout = format.row(model.config, path)
        name, part, _ = _slice(name)
        tensors.setdefault(name, {})[part] = _to_theirs(layout, np.asarray(array))
    arrays = {
        name: np.concatenate([parts[i] for i in range(len(parts))], axis=-1)
        if len(parts) > 1
        else np.ascontiguousarray(parts[0])
        for name, parts in tensors.items()
    }
    arrays |= format.buffers(arrays)
    try:
        save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    except SafetensorError as error:  # such as for a full disk
        raise OSError(f"{folder / 'model.safetensors'} was not written: {error}") from None
    for name, fields in (
        ("config.json", config_fields),
        (
            "tokenizer_config.json",
            format.tokenizer if tokenizer_fields is None else tokenizer_fields,
        ),
    ):
        (folder / name).write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")


def _has(config: Any, name: str) -> bool:
    return any(field.name == name for field in dataclasses.fields(config))


def _label_fields(model: nn.Module) -> dict[str, Any]:
    """Return the config.json fields of a head: the class names, and when there is no answer."""
    if not _has(model.config, "labels") or type(model) not in registry.of(model).TASKS.values():
        return {}
    if getattr(model.config, "null_threshold", None) is not None:
        return {NULL_THRESHOLD: model.config.null_threshold}
    labels = model.config.labels
    fields: dict[str, Any] = {
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
    }
    return fields | ({"problem_type": "regression"} if len(labels) == 1 else {})


def _open(
    folder: str | os.PathLike, format: Format
) -> tuple[dict[str, Any], Any, Mapping[str, np.ndarray]]:
    """Return the fields of a folder's config.json, the config of the model, and the tensors."""
    published = read_config(folder)
    config = check_config(folder, format, published)
    tensors = Tensors(folder, format)
    return published, format.fit(config, tensors), tensors


def _names(format: Format, cls: type[nn.Module], config: Any) -> dict[str, str]:
    """Return the parameters of a class, and the published tensors that have them."""
    paths = flatten(abstract(cls(config)))
    return {path: _slice(format.row(config, path)[0])[0] for path in paths}


def _slice(name: str) -> tuple[str, int, int]:
    """Return the name of the whole tensor, the index of the slice, and the number of slices."""
    part = re.fullmatch(r"(.*)\[(\d)/(\d)\]", name)
    return (part[1], int(part[2]) - 1, int(part[3])) if part else (name, 0, 1)


def _axes(layout: str, shape) -> tuple[list[int], list[list[int]]]:
    """Return our axes in the published order, and our axes grouped by published axis."""
    ours, theirs = layout.split(" -> ")
    groups = [group.strip("()") for group in re.findall(r"\(\w+\)|\w", theirs)]
    where = {letter: axis for axis, letter in enumerate(ours)}
    return [where[x] for group in groups for x in group], [[where[x] for x in g] for g in groups]


def _published_shape(layout, shape, parts: int) -> tuple[int, ...]:
    if layout is not None:
        shape = [int(np.prod([shape[a] for a in group])) for group in _axes(layout, shape)[1]]
    return (*shape[:-1], shape[-1] * parts)


def _to_ours(layout, shape, array):
    if layout is None:
        return array
    order, _ = _axes(layout, shape)
    return array.reshape([shape[axis] for axis in order]).transpose(np.argsort(order))


def _to_theirs(layout, array):
    if layout is None:
        return array
    order, _ = _axes(layout, array.shape)
    return array.transpose(order).reshape(_published_shape(layout, array.shape, 1))
