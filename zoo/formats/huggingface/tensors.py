"""The tensors of a Hugging Face folder, whichever of its three kinds of files they are in."""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from zoo import untrusted
from zoo.formats import msgpack, pickle
from zoo.formats.huggingface.format import Format

Read = Callable[[], np.ndarray]  # reads one tensor when it is needed


def _safetensors(file: Path) -> dict[str, Read]:
    try:
        # NumPy alone has no types such as bfloat16, and JAX none of 64 bits.
        opened, jax_opened = (safe_open(file, framework=name) for name in ("numpy", "flax"))
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged: {error}") from None

    def read(name: str) -> np.ndarray:
        is_wide = opened.get_slice(name).get_dtype().endswith("64")
        return np.asarray((opened if is_wide else jax_opened).get_tensor(name))

    return {name: partial(read, name) for name in opened.keys()}  # noqa: SIM118


def _pickle(file: Path) -> dict[str, Read]:
    tensors = pickle.read(file)
    others = [name for name, value in tensors.items() if not isinstance(value, np.ndarray)]
    if others:
        raise ValueError(f"{file} has {others[0]!r}, which is no tensor: give the weights alone")
    return {name: partial(tensors.__getitem__, name) for name in tensors}


def _msgpack(file: Path) -> dict[str, Read]:
    tensors = msgpack.read(file)
    return {name: partial(tensors.__getitem__, name) for name in tensors}


# The first that exists is read; each may have an index instead, NAME.index.json, for many files.
FILES = {
    "model.safetensors": _safetensors,
    "pytorch_model.bin": _pickle,
    "flax_model.msgpack": _msgpack,
}


class Tensors(Mapping[str, np.ndarray]):
    """The tensors of a folder by name; each is read on access.

    Args:
      folder: The folder.
      format: Its format.

    Raises:
      FileNotFoundError: If the folder has no weights, or lacks a file of its index.
      ValueError: If a file is damaged, or the index names what is not there.
    """

    def __init__(self, folder: str | os.PathLike, format: Format):
        tensors = _open(Path(folder))
        if not any(name.startswith(format.prefix) for name in tensors):  # a bare trunk
            tensors = {format.prefix + name: read for name, read in tensors.items()}
        # Files from before 2019 name the scale and bias of a norm gamma and beta.
        for old, now in ((".gamma", ".weight"), (".beta", ".bias")):
            tensors = {
                name.removesuffix(old) + now if name.endswith(old) else name: read
                for name, read in tensors.items()
            }
        for copy, original in format.tied.items():  # of the two, transformers may store either
            if copy in tensors and original not in tensors:
                tensors[original] = tensors.pop(copy)
        self._tensors = tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> np.ndarray:
        return self._tensors[name]()


def _open(folder: Path) -> dict[str, Read]:
    for name, open_file in FILES.items():
        if (folder / name).exists():
            return open_file(folder / name)
        index = folder / f"{name}.index.json"
        if index.exists():
            return _open_shards(index, open_file)
    raise FileNotFoundError(f"{folder} has no weights: expected one of {', '.join(FILES)}")


def _open_shards(index: Path, open_file: Callable[[Path], dict[str, Read]]) -> dict[str, Read]:
    """Return the tensors that an index names, each from the file that it names for it."""
    names, shards = weight_map(index), {}
    for file in dict.fromkeys(names.values()):
        path = index.parent / file
        if not path.exists():
            raise FileNotFoundError(f"no such file: {path}, which {index.name} names")
        shards[file] = open_file(path)
    for name, file in names.items():
        if name not in shards[file]:
            raise ValueError(f"{index} names {name} in {file}, but it is not there")
    return {name: shards[file][name] for name, file in names.items()}


def weight_map(index: Path) -> dict[str, str]:
    """Return the name of the file of every tensor that an index names.

    Raises:
      ValueError: If it is not an index, or names a file that is not in its folder.
    """
    try:
        entries = untrusted.read_json(index)["weight_map"].items()
        names = {name: str(file) for name, file in entries}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{index} is not an index: it needs a weight_map") from None
    for file in names.values():
        if Path(file).name != file or (index.parent / file).is_dir():
            raise ValueError(f"{index} names {file!r}, which is not a file of its folder")
    return names
