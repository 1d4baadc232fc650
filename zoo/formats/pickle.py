"""Files of torch.save, read without PyTorch and without running anything that is in them.

A pickle is a program, which may call any function. Here it may name only the few classes that
tensors are made of, and none of them is called: each stands for a function of this file. The
opcodes are checked before, so that a pickle cannot ask for more memory than its file has.

There are three forms: a zip archive (since PyTorch 1.6), a stream of pickles followed by the
numbers (0.4 to 1.5), and a tar archive (before).
"""

import pickle
import pickletools
import struct
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import jax.numpy as jnp
import numpy as np

TYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
MAGIC = 0x1950A86A20F9469CFC6C  # begins a stream
LARGEST = 1 << 26  # bytes of a pickle without the numbers; a thousand layers take one million
REFUSED = ("EXT1", "EXT2", "EXT4", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX")
ERRORS = (  # of a damaged file
    *(pickle.UnpicklingError, zipfile.BadZipFile, tarfile.TarError, struct.error, EOFError),
    *(KeyError, TypeError, AttributeError, IndexError, OverflowError, MemoryError, RecursionError),
    *(UnicodeDecodeError, NotImplementedError),
)


@dataclass(frozen=True)
class StorageType:
    """The name of a class of storages, such as torch.FloatStorage."""

    dtype: np.dtype


class Storage:
    """A run of numbers that tensors are cut from: `length` of those of `key`, from `first` on.

    In a stream the numbers come after the tensors, so they are set later.
    """

    def __init__(
        self,
        key: str,
        dtype: np.dtype,
        length: int,
        first: int = 0,
        numbers: np.ndarray | None = None,
    ):
        self.key, self.dtype, self.length, self.first = key, dtype, length, first
        self.numbers = numbers


class Tensor:
    """A part of a storage, whose numbers may be read later."""

    __slots__ = ("offset", "shape", "storage", "strides")

    def __init__(self, storage: Storage, offset: int, shape: Sequence[int], strides: Sequence[int]):
        sizes = [offset, *shape, *strides]
        if not isinstance(storage, Storage) or len(shape) != len(strides) or len(shape) > 32:
            raise pickle.UnpicklingError("a tensor is not built from a storage and a shape")
        if any(not isinstance(size, int) or size < 0 for size in sizes):
            raise pickle.UnpicklingError("a tensor has a size that is not a number")
        self.storage, self.offset = storage, offset
        self.shape, self.strides = tuple(shape), tuple(strides)

    def array(self) -> np.ndarray:
        """Return the tensor, a view of its storage.

        Raises:
          UnpicklingError: If it is not within the storage, or larger than it.
        """
        storage = self.storage
        assert storage.numbers is not None
        numbers = storage.numbers[storage.first : storage.first + storage.length]
        if 0 in self.shape:
            return np.zeros(self.shape, storage.dtype)
        spans = [(n - 1) * step for n, step in zip(self.shape, self.strides, strict=True)]
        count = int(np.prod(self.shape, dtype=object))
        if self.offset + sum(spans) >= len(numbers) or count > len(numbers):
            raise pickle.UnpicklingError("a tensor is not within its storage")
        steps = [step * numbers.itemsize for step in self.strides]
        return np.lib.stride_tricks.as_strided(
            numbers[self.offset :], self.shape, steps, writeable=False
        )


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor"): lambda *parts: Tensor(*parts[:4]),
    ("torch._utils", "_rebuild_tensor_v2"): lambda *parts: Tensor(*parts[:4]),
    ("torch._utils", "_rebuild_parameter"): _parameter,
    **{("torch", name): StorageType(np.dtype(dtype)) for name, dtype in TYPES.items()},
    **{("torch", name.replace("Storage", "Tensor")): None for name in TYPES},  # in tar archives
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes], persistent_load: Callable[[Any], Any]):
        super().__init__(file, encoding="latin1")
        self._persistent_load = persistent_load

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise ValueError(
                f"it names {module}.{name}, which is no part of a tensor: zoo reads weights only, "
                "and runs nothing from a file"
            )
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        return self._persistent_load(pid)


def read(path: str | Path) -> dict[str, Any]:
    """Return the dictionary in a file of torch.save; tensors are NumPy arrays.

    Containers within it, numbers and texts stay as they are.

    Raises:
      ValueError: If the file is damaged, is no such file, or names anything but tensors.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(4)
            file.seek(0)
            if start == b"PK\x03\x04":
                value = _read_zip(file)
            elif tarfile.is_tarfile(path):
                value = _read_tar(file)
            else:
                value = _read_stream(file)
            value = _arrays(value)
    except ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is not a file of tensors by torch.save: {reason}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} has a {type(value).__name__}, but weights are a dictionary")
    return value


def _load(file: IO[bytes], persistent_load: Callable[[Any], Any] | None = None) -> Any:
    """Return the value of the next pickle of a file, after a check of its opcodes."""
    start = file.tell()
    for count, (opcode, argument, position) in enumerate(pickletools.genops(file)):
        if opcode.name in REFUSED:
            raise ValueError(f"its pickle has {opcode.name}, which no tensor needs")
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and (argument or 0) > count:
            raise pickle.UnpicklingError("a memo that is larger than the pickle")
        if position is not None and position - start > LARGEST:
            raise pickle.UnpicklingError(f"a pickle of more than {LARGEST} bytes")
    end = file.tell()
    file.seek(start)

    def refuse(pid: Any) -> Any:
        raise pickle.UnpicklingError("a storage where none belongs")

    return _Unpickler(BytesIO(file.read(end - start)), persistent_load or refuse).load()


def _read_zip(file: IO[bytes]) -> Any:
    archive = zipfile.ZipFile(file)
    entries = {entry.filename: entry for entry in archive.infolist()}
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
        raise ValueError("its entries are compressed, which torch.save does not do")
    pickles = [name for name in entries if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError("it is a zip archive without one data.pkl, so not by torch.save")
    root = pickles[0].removesuffix("data.pkl")
    order = archive.read(f"{root}byteorder") if f"{root}byteorder" in entries else b"little"
    if order.strip() != b"little":
        raise ValueError(f"its numbers are stored in {order.decode()} byte order")
    storages: dict[str, Storage] = {}

    def storage(pid: Any) -> Storage:
        kind, storage_type, key, _, length = pid
        if kind != "storage" or not isinstance(storage_type, StorageType):
            raise pickle.UnpicklingError("an object that is no storage")
        if key not in storages:
            numbers = np.frombuffer(archive.read(f"{root}data/{key}"), storage_type.dtype)
            storages[key] = Storage(key, storage_type.dtype, min(length, len(numbers)), 0, numbers)
        return storages[key]

    return _load(BytesIO(archive.read(pickles[0])), storage)


def _read_stream(file: IO[bytes]) -> Any:
    if _load(file) != MAGIC:
        raise pickle.UnpicklingError("it does not begin as one")
    _load(file)  # the version of the format
    if not _load(file).get("little_endian", True):
        raise ValueError("its numbers are stored in big byte order")
    storages: list[Storage] = []

    def storage(pid: Any) -> Storage:
        kind, storage_type, key, _, length, view = pid
        if kind != "storage" or not isinstance(storage_type, StorageType):
            raise pickle.UnpicklingError("an object that is no storage")
        _, first, length = view or (None, 0, length)
        storages.append(Storage(key, storage_type.dtype, length, first))
        return storages[-1]

    value = _load(file, storage)
    keys, types = _load(file), {storage.key: storage.dtype for storage in storages}
    numbers = {key: _read_numbers(file, types[key]) for key in keys}
    for one in storages:
        one.numbers = numbers[one.key]
    return value


def _read_tar(file: IO[bytes]) -> Any:
    archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115  # `file` is closed
    objects: dict[int, Any] = {}
    part = _entry(archive, "storages")
    for _ in range(_load(part)):
        key, _, storage_type = _load(part)
        numbers = _read_numbers(part, storage_type.dtype)
        objects[key] = Storage(str(key), storage_type.dtype, len(numbers), 0, numbers)
    for view, key, first, length in _load(part):
        of = objects[key]
        objects[view] = Storage(of.key, of.dtype, length, of.first + first, of.numbers)
    part = _entry(archive, "tensors")
    for _ in range(_load(part)):
        key, storage, _ = _load(part)
        rank, _ = struct.unpack("<ii", part.read(8))
        if not 0 <= rank <= 32:
            raise pickle.UnpicklingError(f"a tensor of {rank} axes")
        *sizes, offset = struct.unpack(f"<{2 * rank + 1}q", part.read(8 * (2 * rank + 1)))
        objects[key] = Tensor(objects[storage], offset, sizes[:rank], sizes[rank:])
    return _load(_entry(archive, "pickle"), lambda pid: objects[int(pid)])


def _entry(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    entry = archive.extractfile(name)
    if entry is None:
        raise pickle.UnpicklingError(f"a tar archive whose {name} is no file")
    return BytesIO(entry.read())


def _read_numbers(file: IO[bytes], dtype: np.dtype) -> np.ndarray:
    """Return a storage: its length in eight bytes, then its numbers."""
    (length,) = struct.unpack("<q", file.read(8))
    if length < 0:
        raise pickle.UnpicklingError("a storage of negative length")
    content = file.read(length * dtype.itemsize)
    if len(content) < length * dtype.itemsize:
        raise EOFError("it is truncated")
    return np.frombuffer(content, dtype)


def _arrays(value: Any) -> Any:
    """Return a value with an array in place of every tensor, in plain dictionaries."""
    if isinstance(value, Tensor):
        return value.array()
    if isinstance(value, Mapping):
        return {key: _arrays(item) for key, item in dict(value).items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_arrays, value))
    return value
