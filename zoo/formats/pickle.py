"""Files of torch.save, read without PyTorch and without running anything that is in them.

A pickle is a program, which may call any function. Here it may name only the few classes that
tensors are made of, and none of them is called: each stands for a function of this file. A format
may allow more classes, each read as a `Record`. The opcodes are checked before, so that a pickle
cannot ask for more memory than its file has, nor for more of the stack.

There are three forms: a zip archive (since PyTorch 1.6), a stream of pickles followed by the
numbers (0.4 to 1.5), and a tar archive (before).
"""

import os
import pickle
import pickletools
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, BytesIO, FileIO
from pathlib import Path
from typing import IO, Any, NamedTuple

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
STREAM = b"\x8a\x0a" + MAGIC.to_bytes(10, "little")  # as a pickle, after some bytes of protocol
ZIP = b"PK\x03\x04"
LARGEST = 1 << 24  # bytes of a pickle without the numbers; a thousand layers take one million
MOST_OPCODES = 1 << 21  # of a pickle; a tensor takes 45, a word of a vocabulary two
LONGEST = 100  # bytes that are stored as a text; those of a character are four at most
DEEPEST = 100  # levels of values within values; Python crashes at the hash of some 100,000
REFUSED = ("EXT1", "EXT2", "EXT4", "INST", "OBJ", "NEWOBJ_EX")
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
        if not isinstance(storage, Storage) or len(shape) != len(strides) or len(shape) > 32:
            raise pickle.UnpicklingError("a tensor is not built from a storage and a shape")
        sizes = [offset, *shape, *strides]
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
        if storage.first < 0 or storage.length < 0:
            raise pickle.UnpicklingError("a storage of negative length")
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


class Record:
    """An object of a class of another library: its attributes, and nothing of what it can do."""

    attributes: dict[Any, Any]

    def __new__(cls, *_: Any) -> "Record":
        """Return an object without attributes; pickles do not call `__init__`."""
        record = super().__new__(cls)
        record.attributes = {}
        return record

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("an object whose attributes are no dictionary")
        self.attributes = state


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _latin1(text: str, encoding: str) -> bytes:
    """Return bytes, which older pickles have as a text."""
    if not isinstance(text, str) or encoding != "latin1" or len(text) > LONGEST:
        raise pickle.UnpicklingError("bytes that are not stored as a short text")
    return text.encode("latin1")


class Dictionary(dict):
    """In place of an OrderedDict; its attributes, the versions of layers, are not kept."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """Keep nothing."""


def _dictionary(items: Any = ()) -> Dictionary:
    """Return a dictionary; its items are moved, so that no pickle can multiply them."""
    dictionary = Dictionary(items)
    if items:
        items.clear()
    return dictionary


def _size(shape: Sequence[int]) -> tuple[int, ...]:
    if len(shape) > 32:
        raise pickle.UnpicklingError(f"a tensor of {len(shape)} axes")
    return tuple(shape)


Names = Mapping[tuple[str, str], Any]  # module and name in a pickle -> what stands for it here

ALLOWED: Names = {
    ("collections", "OrderedDict"): _dictionary,
    ("torch", "Size"): _size,
    ("torch._utils", "_rebuild_tensor"): lambda *parts: Tensor(*parts[:4]),
    ("torch._utils", "_rebuild_tensor_v2"): lambda *parts: Tensor(*parts[:4]),
    ("torch._utils", "_rebuild_parameter"): _parameter,
    **{("torch", name): StorageType(np.dtype(dtype)) for name, dtype in TYPES.items()},
    **{("torch", name.replace("Storage", "Tensor")): None for name in TYPES},  # in tar archives
}
# Plain values that a pickle may need a name for, for formats whose objects have them.
PLAIN: Names = {
    ("_codecs", "encode"): _latin1,
    ("collections", "defaultdict"): lambda *_: {},
    ("builtins", "int"): None,
    ("__builtin__", "int"): None,
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes], persistent_load: Callable[[Any], Any], allowed: Names):
        super().__init__(file, encoding="latin1")
        self._persistent_load, self._allowed = persistent_load, allowed

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._allowed:
            raise ValueError(
                f"it names {module}.{name}, which is no part of a tensor: zoo reads weights only, "
                "and runs nothing from a file"
            )
        return self._allowed[module, name]

    def persistent_load(self, pid: Any) -> Any:
        return self._persistent_load(pid)


class _File(BufferedReader):
    """A file that never sets aside more memory for a read than it has bytes."""

    def __init__(self, path: Path):
        super().__init__(FileIO(path))
        self._size = os.stat(path).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(-1 if size is None or size < 0 else min(size, self._size))


def is_file(path: str | Path) -> bool:
    """Return whether a file is one of torch.save, by its first bytes; tar archives are not."""
    with open(path, "rb") as file:
        start = file.read(32)
    if not start.startswith(ZIP):
        return start.startswith(b"\x80") and STREAM in start
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except ERRORS:
        return False


def read(path: str | Path, records: Names | None = None) -> dict[str, Any]:
    """Return the dictionary in a file of torch.save; tensors are NumPy arrays.

    Containers within it, numbers and texts stay as they are.

    Args:
      path: The file.
      records: More names that the file may have, such as those of classes, each with `Record`.

    Raises:
      ValueError: If the file is damaged, is no such file, or names anything else.
    """
    return _read(Path(path), lambda file: _arrays(_parse(file, records)(), {}))


def outline(path: str | Path, records: Names | None = None) -> dict[str, Any]:
    """Return the dictionary in a file like `read`, quickly: no numbers of its tensors are read.

    A tensor is a `Tensor`, without its numbers unless the file is a tar archive.
    """
    return _read(Path(path), lambda file: _parse(file, records).value)


def read_texts(path: str | Path) -> list[str]:
    """Return the list of texts in a pickle.

    Raises:
      ValueError: If the file holds anything else.
    """
    path = Path(path)
    with _errors(path, "a pickle of a list"), _File(path) as file:
        texts = _load(file, {})
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{path} is not a list of texts: expected the words in the order of ids")
    return texts


def _read(path: Path, parse: Callable[[IO[bytes]], Any]) -> dict[str, Any]:
    with _errors(path, "a file of tensors by torch.save"), _File(path) as file:
        value = parse(file)
    if not isinstance(value, dict):
        raise ValueError(f"{path} has a {type(value).__name__}, but weights are a dictionary")
    return value


@contextmanager
def _errors(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a damaged file causes into a ValueError of one line."""
    try:
        yield
    except ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is not {what}: {reason}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


class _Parsed(NamedTuple):
    """The value in a file, and what reads the numbers of its storages."""

    value: Any
    read_numbers: Callable[[], None]

    def __call__(self) -> Any:
        self.read_numbers()
        return self.value


def _parse(file: IO[bytes], records: Names | None) -> _Parsed:
    allowed = {**ALLOWED, **(records or {})}
    start = file.read(len(ZIP))
    file.seek(0)
    if start == ZIP:
        return _parse_zip(file, allowed)
    is_tar = tarfile.is_tarfile(file)
    file.seek(0)
    return (_parse_tar if is_tar else _parse_stream)(file, allowed)


def _load(
    file: IO[bytes], allowed: Names, persistent_load: Callable[[Any], Any] | None = None
) -> Any:
    """Return the value of the next pickle of a file, after a check of its opcodes."""
    start = file.tell()
    depths = _Depths()
    for count, (opcode, argument, position) in enumerate(pickletools.genops(file)):
        if opcode.name in REFUSED:
            raise ValueError(f"its pickle has {opcode.name}, which no tensor needs")
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and (argument or 0) > count:
            raise pickle.UnpicklingError("a memo that is larger than the pickle")
        if position is not None and position - start > LARGEST:
            raise pickle.UnpicklingError(f"a pickle of more than {LARGEST} bytes")
        if count == MOST_OPCODES:
            raise pickle.UnpicklingError(f"a pickle of more than {MOST_OPCODES} values")
        if depths.after(opcode, argument) > DEEPEST:
            raise pickle.UnpicklingError(f"values within values, more than {DEEPEST} deep")
    end = file.tell()
    file.seek(start)

    def refuse(pid: Any) -> Any:
        raise pickle.UnpicklingError("a storage where none belongs")

    content = BytesIO(file.read(end - start))
    return _Unpickler(content, persistent_load or refuse, allowed).load()


class _Depths:
    """How deep the values on the stack of a pickle are nested, followed without building them."""

    def __init__(self) -> None:
        self._stack: list[int | None] = []  # None is a mark
        self._memo: dict[int, int] = {}

    def after(self, opcode: pickletools.OpcodeInfo, argument: Any) -> int:
        """Return the depth of the topmost value after an opcode.

        Raises:
          UnpicklingError: If the opcode needs values that are not there.
        """
        name = opcode.name
        if name in ("GET", "BINGET", "LONG_BINGET"):
            self._stack.append(self._memo.get(argument, 0))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            place = len(self._memo) if argument is None else argument
            self._memo[place] = self._stack[-1] or 0
        elif name == "DUP":
            self._stack.append(self._stack[-1])
        elif name == "MARK":
            self._stack.append(None)
        else:
            self._build(opcode)
        return self._stack[-1] or 0 if self._stack else 0

    def _build(self, opcode: pickletools.OpcodeInfo) -> None:
        """Replace the values that an opcode takes from the stack by those that it puts there."""
        before, taken = opcode.stack_before, []
        if pickletools.markobject in before:
            while (depth := self._stack.pop()) is not None:
                taken.append(depth)
            before = before[: before.index(pickletools.markobject)]
        grows = bool(before) and opcode.name not in ("POP", "REDUCE", "TUPLE1", "TUPLE2", "TUPLE3")
        below = [self._stack.pop() or 0 for _ in before]
        if grows and len(below) + len(taken) > 1:  # the lowest is a container that gets the others
            container, inner = below[-1], [*below[:-1], *taken]
            self._stack.append(max(container, 1 + max(inner)))
            return
        for _ in opcode.stack_after:
            self._stack.append(1 + max([*below, *taken], default=-1))


def _parse_zip(file: IO[bytes], allowed: Names) -> _Parsed:
    archive = zipfile.ZipFile(file)
    entries = {entry.filename: entry for entry in archive.infolist()}
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
        raise ValueError("its entries are compressed, which torch.save does not do")
    if sum(entry.file_size for entry in archive.infolist()) > file.seek(0, os.SEEK_END):
        raise ValueError("its entries overlap: together they are larger than the file")
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
        is_named = isinstance(key, str) and isinstance(storage_type, StorageType)
        if kind != "storage" or not is_named:
            raise pickle.UnpicklingError("an object that is no storage")
        if key not in storages:
            storages[key] = Storage(key, storage_type.dtype, length)
        return storages[key]

    def read_numbers() -> None:
        for key, one in storages.items():
            one.numbers = np.frombuffer(archive.read(f"{root}data/{key}"), one.dtype)

    return _Parsed(_load(BytesIO(archive.read(pickles[0])), allowed, storage), read_numbers)


def _parse_stream(file: IO[bytes], allowed: Names) -> _Parsed:
    if _load(file, {}) != MAGIC:
        raise pickle.UnpicklingError("it does not begin as one")
    _load(file, {})  # the version of the format
    if not _load(file, {}).get("little_endian", True):
        raise ValueError("its numbers are stored in big byte order")
    storages: list[Storage] = []

    def storage(pid: Any) -> Storage:
        kind, storage_type, key, _, length, view = pid
        if kind != "storage" or not isinstance(storage_type, StorageType):
            raise pickle.UnpicklingError("an object that is no storage")
        _, first, length = view or (None, 0, length)
        storages.append(Storage(key, storage_type.dtype, length, first))
        return storages[-1]

    def read_numbers() -> None:
        keys, types = _load(file, {}), {storage.key: storage.dtype for storage in storages}
        numbers = {key: _read_numbers(file, types[key]) for key in keys}
        for one in storages:
            one.numbers = numbers[one.key]

    return _Parsed(_load(file, allowed, storage), read_numbers)


def _parse_tar(file: IO[bytes], allowed: Names) -> _Parsed:
    archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115  # `file` is closed
    objects: dict[int, Any] = {}
    part = _entry(archive, "storages")
    for _ in range(_load(part, {})):
        key, _, storage_type = _load(part, allowed)
        numbers = _read_numbers(part, storage_type.dtype)
        objects[key] = Storage(str(key), storage_type.dtype, len(numbers), 0, numbers)
    for view, key, first, length in _load(part, {}):
        of = objects[key]
        objects[view] = Storage(of.key, of.dtype, length, of.first + first, of.numbers)
    part = _entry(archive, "tensors")
    for _ in range(_load(part, {})):
        key, storage, _ = _load(part, allowed)
        rank, _ = struct.unpack("<ii", part.read(8))
        if not 0 <= rank <= 32:
            raise pickle.UnpicklingError(f"a tensor of {rank} axes")
        *sizes, offset = struct.unpack(f"<{2 * rank + 1}q", part.read(8 * (2 * rank + 1)))
        objects[key] = Tensor(objects[storage], offset, sizes[:rank], sizes[rank:])
    value = _load(_entry(archive, "pickle"), allowed, lambda pid: objects[int(pid)])
    return _Parsed(value, lambda: None)  # they came first


def _entry(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    member = archive.getmember(name)
    if not member.isreg() or member.issparse():  # links, and holes of any size
        raise pickle.UnpicklingError(f"a tar archive whose {name} is no file")
    entry = archive.extractfile(member)
    assert entry is not None, "of a regular file"
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


def _arrays(value: Any, done: dict[int, Any]) -> Any:
    """Return a value with an array in place of every tensor, in plain dictionaries.

    `done` has what became of each container by its id: one that is there twice is converted once.
    """
    if isinstance(value, Tensor):
        return value.array()
    if not isinstance(value, Mapping | list | tuple | Record):
        return value
    if id(value) not in done:
        if isinstance(value, Record):
            done[id(value)] = value
            value.attributes = _arrays(value.attributes, done)
        elif isinstance(value, Mapping):
            done[id(value)] = {key: _arrays(item, done) for key, item in dict(value).items()}
        else:
            done[id(value)] = type(value)(_arrays(item, done) for item in value)
    return done[id(value)]
