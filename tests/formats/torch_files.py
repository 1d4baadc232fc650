"""Files in the forms of torch.save, written by hand, for tests without PyTorch."""

import io
import pickle
import struct
import tarfile
import zipfile

import numpy as np

STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage"}
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001


def name_of(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def value(x) -> bytes:
    """Return the opcodes of a plain value."""
    return pickle.dumps(x, 2)[2:-1]  # without the protocol and the stop


def tensor(array: np.ndarray, key: str, view=()) -> bytes:
    """Return the opcodes of a tensor whose numbers are in the storage `key`."""
    storage = (
        b"("
        + value("storage")
        + name_of("torch", STORAGES[str(array.dtype)])
        + b"".join(map(value, (key, "cpu", array.size, *view)))
        + b"tQ"
    )
    strides = tuple(step // array.itemsize for step in array.strides)
    parts = storage + b"".join(map(value, (0, array.shape, strides, False)))
    hooks = name_of("collections", "OrderedDict") + b")R"
    return name_of("torch._utils", "_rebuild_tensor_v2") + b"(" + parts + hooks + b"tR"


def dictionary(items: dict[str, bytes]) -> bytes:
    return b"\x80\x02}(" + b"".join(value(k) + v for k, v in items.items()) + b"u."


def write_zip(path, arrays: dict[str, np.ndarray], content: bytes | None = None, **options):
    keys = {name: str(i) for i, name in enumerate(arrays)}
    with zipfile.ZipFile(path, "w", **options) as archive:
        program = dictionary({name: tensor(a, keys[name]) for name, a in arrays.items()})
        archive.writestr("archive/data.pkl", content or program)
        for name, array in arrays.items():
            archive.writestr(f"archive/data/{keys[name]}", array.tobytes())


def write_stream(path, arrays: dict[str, np.ndarray]):
    keys = {name: str(i) for i, name in enumerate(arrays)}
    program = dictionary({name: tensor(a, keys[name], (None,)) for name, a in arrays.items()})
    header = [MAGIC, VERSION, {"little_endian": True}]
    numbers = [struct.pack("<q", array.size) + array.tobytes() for array in arrays.values()]
    heads = [pickle.dumps(x, 2) for x in header]
    path.write_bytes(b"".join([*heads, program, pickle.dumps(list(keys.values()), 2), *numbers]))


def write_tar(path, arrays: dict[str, np.ndarray]):
    storages, tensors, items = [value_of(len(arrays))], [value_of(len(arrays))], {}
    for number, (name, array) in enumerate(arrays.items()):
        storage_class = name_of("torch", STORAGES[str(array.dtype)])
        head = b"(" + value(number) + value("cpu") + storage_class + b"t."
        storages.append(b"\x80\x02" + head + struct.pack("<q", array.size) + array.tobytes())
        tensor_class = name_of("torch", STORAGES[str(array.dtype)].replace("Storage", "Tensor"))
        head = b"(" + value(100 + number) + value(number) + tensor_class + b"t."
        strides = [step // array.itemsize for step in array.strides]
        sizes = struct.pack(f"<{2 * array.ndim + 1}q", *array.shape, *strides, 0)
        tensors.append(b"\x80\x02" + head + struct.pack("<ii", array.ndim, 0) + sizes)
        items[name] = value(str(100 + number)) + b"Q"
    storages.append(value_of([]))
    parts = {"storages": storages, "tensors": tensors, "pickle": [dictionary(items)]}
    with tarfile.open(path, "w") as archive:
        for name, content in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(b"".join(content))
            archive.addfile(info, io.BytesIO(b"".join(content)))


def value_of(x) -> bytes:
    return pickle.dumps(x, 2)
