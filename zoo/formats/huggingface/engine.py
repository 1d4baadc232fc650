"""Reads and writes Hugging Face folders through the weight tables of the models; needs no PyTorch.

A model's file says all there is to say of its published form:

    MODELS                  published class -> ours: what a config.json may call its architecture
    Model                   the class that pretraining trains
    published(config)       the fields of config.json, those that fix the mathematics included
    from_published(fields)  the Config
    PREFIX                  what the names of a bare trunk's tensors lack
    WEIGHTS                 our path -> (published name, layout), a row a parameter; {} is the layer
    TIED                    name of a copy -> name of the original: checked, never loaded twice
    IGNORED                 patterns of names that hold no weight (buffers of old versions)
    TASKS                   what it can be fine-tuned to -> our class, see zoo/heads.py
    GROUPS                  patterns of its paths from the input to the output, see train/ways.py
    TOKENIZER               the fields of tokenizer_config.json
    counters(tensors)       what to write beside the tensors though it holds no weight; mostly none

A layout reads "ours -> theirs" in the letters of the axes: "DHK -> (HK)D" is a torch.nn.Linear of
width D into H heads of K, stored outputs first. A name that ends in "[1/3]" means the first of
three equal slices of the last axis.

Nothing is loaded by halves: every parameter must be found, every tensor used, tied to another or on
the ignore list, each with its shape. All that is wrong is said at once.
"""

import json
import re
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

LINEAR = {"kernel": ("weight", "DE -> ED"), "bias": "bias"}  # the rows of a torch.nn.Linear


def read_config(folder) -> dict:
    """The fields of the folder's config.json."""
    path = Path(folder) / "config.json"
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise FileNotFoundError(f"{folder} has no config.json: not a Hugging Face folder") from None
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None


def read(folder, architecture, cls=None, *, labels=None, new=(), ignore=(), key=None):
    """Reads the weights of a folder into a model of a class, or of `Model`: (config, params).

    `labels` are those of its classes, None: what the folder says. `new` names parameters, by the
    beginning of their path, that the folder may lack and that are then drawn from `key`; `ignore`
    names published tensors, by the beginning of their name, to leave out. Raises ValueError that
    lists every missing, surplus or misshapen tensor.
    """
    fields = read_config(folder)
    config = architecture.from_published(fields)
    if hasattr(config, "labels"):
        config = replace(config, labels=tuple(labels or published_labels(fields)))
    for name, value in architecture.published(config).items():
        if name != "model_type" and "drop" not in name:
            found = fields.get(name)
            if found is not None and found != value:
                raise ValueError(f"{folder}/config.json has {name} = {found!r}; zoo has {value!r}")

    tensors = _Tensors(folder, architecture.PREFIX)
    unused = {name for name in tensors if not name.startswith(tuple(ignore))}
    wrong, params = [], {}
    model = (cls or architecture.Model)(config)
    for path, parameter in flatten(abstract(model)).items():
        name, layout = _row(architecture.WEIGHTS, path)
        name, part, parts = _slice(name)
        if name not in tensors:
            if path.startswith(tuple(new)):
                params[path] = None
            else:
                wrong.append(f"missing {name} (or ask for it with new=[{path!r}])")
            continue
        unused.discard(name)
        array = tensors[name]
        shape = _published_shape(layout, parameter.shape, parts)
        if array.shape != shape:
            wrong.append(f"{name} has shape {array.shape}, not {shape}")
        else:
            array = np.split(array, parts, axis=-1)[part]
            params[path] = _to_ours(layout, parameter.shape, array).astype(np.float32)
    for copy, original in architecture.TIED.items():
        if copy in unused and original in tensors:
            unused.discard(copy)
            if not np.array_equal(tensors[copy], tensors[original]):
                wrong.append(f"{copy} differs from {original}; here they are one")
    for name in sorted(unused):
        if not any(re.search(pattern, name) for pattern in architecture.IGNORED):
            wrong.append(f"surplus {name} (or leave it out with ignore=[{name!r}])")
    if wrong:
        held = " and ".join(fields.get("architectures", ()))
        raise ValueError(
            f"{folder}{held and f', which holds {held},'} does not fit {type(model).__name__}: "
            + "; ".join(wrong)
        )
    drawn_anew = [path for path, array in params.items() if array is None]
    if drawn_anew:
        if key is None:
            raise ValueError(f"{folder}: new parameters need a key to be drawn from")
        drawn = flatten(model.init(key, jnp.zeros((1, 8), jnp.int32))["params"])
        params |= {path: drawn[path] for path in drawn_anew}
    return config, unflatten(params)


def other_heads(folder, architecture, cls, labels) -> tuple[list[str], list[str]]:
    """What to tell `read` for a class whose head the folder may lack: `new` and `ignore`."""
    tensors = _Tensors(folder, architecture.PREFIX)
    config = architecture.from_published(read_config(folder))
    wanted = flatten(abstract(cls(replace(config, labels=labels))))
    names = {path: _slice(_row(architecture.WEIGHTS, path)[0])[0] for path in wanted}
    new = [path for path, name in names.items() if name not in tensors]
    heads = [path for path in architecture.WEIGHTS if not path.startswith("trunk/")]
    known = {_row(architecture.WEIGHTS, path)[0] for path in heads} | architecture.TIED.keys()
    ignore = [name for name in tensors if name in known - set(names.values())]
    return [path for path in new if not path.startswith("trunk/")], ignore


def write(folder, architecture, config, params, tokenizer_fields=None, cls=None) -> None:
    """Writes config.json, model.safetensors and tokenizer_config.json for transformers.

    `cls` is the class that the parameters are of, one of MODELS; None: the first of them.
    `tokenizer_fields` are what only the tokenizer knows, such as whether it lower-cases.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, dict[int, np.ndarray]] = {}
    for path, array in flatten(params).items():
        name, layout = _row(architecture.WEIGHTS, path)
        name, part, _ = _slice(name)
        tensors.setdefault(name, {})[part] = _to_theirs(layout, np.asarray(array))
    whole = {
        name: np.concatenate([parts[i] for i in range(len(parts))], axis=-1)
        if len(parts) > 1
        else np.ascontiguousarray(parts[0])
        for name, parts in tensors.items()
    }
    if hasattr(architecture, "counters"):
        whole |= architecture.counters(whole)
    save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})
    held = [name for name, found in architecture.MODELS.items() if cls in (None, found)]
    described = {"architectures": held[:1], **architecture.published(config)}
    if hasattr(config, "labels") and cls in architecture.TASKS.values():
        described["id2label"] = {str(i): label for i, label in enumerate(config.labels)}
        described["label2id"] = {label: i for i, label in enumerate(config.labels)}
        if len(config.labels) == 1:
            described["problem_type"] = "regression"
    for name, fields in (
        ("config.json", described),
        ("tokenizer_config.json", architecture.TOKENIZER | (tokenizer_fields or {})),
    ):
        (folder / name).write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")


def abstract(model):
    """A model's parameters as a nested dict of jax.ShapeDtypeStruct; nothing is computed."""
    tokens = jax.ShapeDtypeStruct((1, 8), jnp.int32)
    return jax.eval_shape(model.init, jax.random.key(0), tokens)["params"]


def nested(rows: dict, ours: str, theirs: str) -> dict:
    """Rows of a weight table, those of one layer say, each under a path and a name."""
    found = {}
    for path, row in rows.items():
        name, *layout = (row,) if isinstance(row, str) else row
        found[f"{ours}/{path}"] = (f"{theirs}.{name}", *(layout or [None]))
    return found


def flatten(tree) -> dict:
    """A nested dict as one dict, "a/b/c" -> leaf."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def unflatten(leaves: dict) -> dict:
    """The nested dict of which `flatten` made one."""
    tree: dict = {}
    for path, leaf in leaves.items():
        *parents, last = path.split("/")
        branch = tree
        for name in parents:
            branch = branch.setdefault(name, {})
        branch[last] = leaf
    return tree


class _Tensors:
    """The tensors of a folder, sharded or not, each read when asked for."""

    def __init__(self, folder, prefix: str):
        folder = Path(folder)
        index = folder / "model.safetensors.index.json"
        if index.exists():
            files = {folder / name for name in json.loads(index.read_text())["weight_map"].values()}
        else:
            files = {folder / "model.safetensors"}
        for file in files:
            if not file.exists():
                pickles = sorted(p.name for p in folder.glob("*.bin"))
                hint = f"; {pickles[0]} is a pickle, which can run code: refused" if pickles else ""
                raise FileNotFoundError(f"no such file: {file}{hint}")
        self._where = {}
        for file in sorted(files):
            try:
                # The flax framework, because NumPy alone has no bfloat16.
                opened = safe_open(file, framework="flax")
            except SafetensorError as error:
                raise ValueError(f"{file} is damaged: {error}") from None
            for name in opened.keys():  # noqa: SIM118
                self._where[name] = (opened, name)
        if not any(name.startswith(prefix) for name in self._where):
            self._where = {prefix + name: where for name, where in self._where.items()}
        # Files from before 2019 call the scale and bias of a norm gamma and beta.
        for old, now in ((".gamma", ".weight"), (".beta", ".bias")):
            self._where = {
                name.removesuffix(old) + now if name.endswith(old) else name: where
                for name, where in self._where.items()
            }

    def __iter__(self):
        return iter(self._where)

    def __contains__(self, name):
        return name in self._where

    def __getitem__(self, name) -> np.ndarray:
        opened, published = self._where[name]
        return np.asarray(opened.get_tensor(published))


def published_labels(fields: dict) -> list[str]:
    """The names of the classes in a config.json."""
    count = fields.get("num_labels", 2)
    names = fields.get("id2label") or {str(i): f"LABEL_{i}" for i in range(count)}
    return [names[number] for number in sorted(names, key=int)]


def _row(weights: dict, path: str) -> tuple[str, str | None]:
    """The published name and the layout of one of our parameters."""
    layer = re.search(r"_(\d+)/", path)
    row = weights[path if layer is None else path.replace(layer[0], "_{}/")]
    name, layout = (row, None) if isinstance(row, str) else row
    return (name if layer is None else name.format(layer[1])), layout


def _slice(name: str) -> tuple[str, int, int]:
    """The name of the whole tensor, which part of it (from 0), of how many."""
    part = re.fullmatch(r"(.*)\[(\d)/(\d)\]", name)
    return (part[1], int(part[2]) - 1, int(part[3])) if part else (name, 0, 1)


def _axes(layout: str, shape) -> tuple[list[int], list[list[int]]]:
    """The order in which theirs lists our axes, and which of ours share one of theirs."""
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
