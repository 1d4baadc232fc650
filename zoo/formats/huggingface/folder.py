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
from zoo.formats.huggingface.format import Format, Row, Tokenizer
from zoo.formats.huggingface.tensors import Tensors
from zoo.formats.weights import problem
from zoo.params import abstract, flatten, unflatten

# Not a field of transformers, which keeps what it does not know; named as its scripts name it.
NULL_THRESHOLD = "null_score_diff_threshold"
# Fields that would take long before the first tensor is missing, and the most that they may be.
LARGEST = {
    **dict.fromkeys(
        (
            *("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers"),
            *("encoder_layers", "decoder_layers", "num_hidden_groups", "inner_group_num", "depths"),
        ),
        256,
    ),
    "num_labels": 1 << 20,
}


def read_config(folder: str | os.PathLike) -> dict[str, Any]:
    """Return the fields of a folder's config.json."""
    path = Path(folder) / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"{folder} has no config.json: expected a Hugging Face folder")
    untrusted.check_folder(folder)
    published = untrusted.read_object(path)
    for name, most in LARGEST.items():
        value = published.get(name)
        numbers = value if isinstance(value, list) else [value]
        if value is not None and not all(type(n) is int and 0 <= n <= most for n in numbers):
            raise ValueError(f"{path}: {name} is {value!r:.40}, not a number up to {most:,}")
    return published


def published_labels(published: Mapping[str, Any]) -> list[str]:
    """Return the names of the classes in a config.json."""
    count = published.get("num_labels", 2)
    names = published.get("id2label") or {str(i): f"LABEL_{i}" for i in range(count)}
    if not isinstance(names, dict) or not all(str(number).isdecimal() for number in names):
        raise ValueError("config.json: id2label must have a name for each number from 0 on")
    labels = [names[number] for number in sorted(names, key=int)]
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
    published = read_config(folder)
    config = _to_config(folder, format, published)
    if _has(config, "labels"):
        config = replace(config, labels=tuple(labels or published_labels(published)))
    if _has(config, "null_threshold"):
        config = replace(config, null_threshold=published.get(NULL_THRESHOLD))
    _check_constants(folder, format, config, published)

    tensors = Tensors(folder, format)
    unused = {name for name in tensors if not name.startswith(tuple(ignore))}
    problems: list[str] = []
    params: dict[str, Any] = {}
    for path, parameter in flatten(abstract(cls(config))).items():
        name, layout = _row(format.weights, path)
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
        architectures = " and ".join(published.get("architectures", ()))
        contents = f", which contains {architectures}," if architectures else ""
        raise ValueError(f"{folder}{contents} does not fit {cls.__name__}: " + "; ".join(problems))
    return config, params


def _to_config(folder: str | os.PathLike, format: Format, published: Mapping[str, Any]) -> Any:
    """Return our config for a config.json; ValueError if a field is of the wrong type."""
    try:
        config = format.to_config(published)
    except (TypeError, ArithmeticError, AttributeError, LookupError):
        raise ValueError(f"{folder}/config.json has a field of the wrong type") from None
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if not untrusted.fits(value, field.type):
            raise ValueError(f"{folder}/config.json: {field.name} cannot be {value!r:.60}")
    return config


def new_head(
    folder: str | os.PathLike,
    format: Format,
    cls: type[nn.Module],
    labels: Sequence[str] | None = None,
) -> tuple[list[str], list[str]]:
    """Return the arguments `new` and `ignore` of `read` for a class whose head may be missing."""
    tensors = Tensors(folder, format)
    config = _to_config(folder, format, read_config(folder))
    if labels is not None:
        config = replace(config, labels=labels)
    names = {
        path: _slice(_row(format.weights, path)[0])[0] for path in flatten(abstract(cls(config)))
    }
    new = [path for path, name in names.items() if name not in tensors]
    heads = [path for path in format.weights if not path.startswith("trunk/")]
    of_heads = {_row(format.weights, path)[0] for path in heads} | format.tied.keys()
    ignore = [name for name in tensors if name in of_heads - set(names.values())]
    return [path for path in new if not path.startswith("trunk/")], ignore


def unread(folder: str | os.PathLike, format: Format, cls: type[nn.Module]) -> list[str]:
    """Return the tensors of a folder that only other classes of its format have."""
    config = _to_config(folder, format, read_config(folder))
    of_class = lambda cls: {
        _slice(_row(format.weights, path)[0])[0] for path in flatten(abstract(cls(config)))
    }
    of_all = set().union(*map(of_class, format.classes.values()))
    return [name for name in Tensors(folder, format) if name in of_all - of_class(cls)]


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
        name, layout = _row(format.weights, path)
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


def _check_constants(folder, format: Format, config: Any, published: Mapping[str, Any]) -> None:
    """Raise ValueError if config.json asks for different mathematics."""
    activation, _ = format.fields.get("activation", ((), None))
    for name, value in format.describe(config).items():
        if name == "model_type" or name == activation or "drop" in name:
            continue
        theirs = published.get(name)
        if theirs is not None and theirs != value:
            raise ValueError(
                f"{folder}/config.json has {name} = {theirs!r}; zoo supports {value!r} only"
            )


def _row(weights: Mapping[str, Row], path: str) -> tuple[str, str | None]:
    """Return the published name and the layout of one of our parameters."""
    layer = re.search(r"_(\d+)/", path)
    row = weights[path if layer is None else path.replace(layer[0], "_{}/")]
    name, layout = (row, None) if isinstance(row, str) else row
    return (name if layer is None else name.format(layer[1])), layout


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
