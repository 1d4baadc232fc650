"""Files of others: checked before they are opened, and read in bounded time and memory.

What is no regular file may never end (a device), may never begin (a pipe that nobody writes to), or
is gone when it is read for the second time (a pipe). A compressed file may be a thousand times as
large as it looks.
"""

import gzip
import io
import json
import math
import os
import stat
import types
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args, get_origin

LARGEST_JSON = 1 << 28  # bytes; the largest tokenizer.json of a published model has 2 ** 25
FREE = 1 << 26  # bytes that a compressed file may have whatever its ratio
RATIO = 100  # of a file beyond that; gzip shortens text to a third
MOST_RATIO = 1032  # that gzip can reach, with zeros


def check_file(path: str | os.PathLike, kind: str = "") -> None:
    """Raise an error with one line unless a path is that of a regular file.

    Args:
      path: The path.
      kind: What the file is, such as "text", for the message.

    Raises:
      OSError: If there is no such file, or it is a folder, a pipe or a device.
    """
    kind = f"{kind} file" if kind else "file"
    if not _exists(path):
        raise FileNotFoundError(f"no such {kind}: {path}")
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{path} is a folder, but a {kind} is needed")
    if stat.S_ISFIFO(mode):
        raise OSError(
            f"{path} is a pipe, whose content is gone once it is read: write it to a file, and "
            "give that"
        )
    if not stat.S_ISREG(mode):
        raise OSError(f"{path} is a device or a socket, not a file: give a file")


def is_pipe(path: str | os.PathLike) -> bool:
    """Return whether a path is that of a pipe, such as `<(zcat file)`."""
    return _exists(path) and stat.S_ISFIFO(os.stat(path).st_mode)


def check_folder(folder: str | os.PathLike) -> None:
    """Raise OSError if a folder holds pipes, devices or sockets, which no model folder needs."""
    for path in Path(folder).iterdir():
        if path.exists() and not path.is_dir():
            check_file(path)


def read_json(path: str | os.PathLike, largest: int = LARGEST_JSON) -> Any:
    """Return the content of a JSON file.

    Raises:
      OSError: If it cannot be read.
      ValueError: If it is not JSON, has more than `largest` bytes, or is nested too deeply.
    """
    check_file(path)
    if (size := os.path.getsize(path)) > largest:
        raise ValueError(f"{path} has {size:,} bytes: expected at most {largest:,}")
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except RecursionError:
        raise ValueError(f"{path} is not valid JSON: it is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 at byte {error.start}") from None
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None


def read_object(path: str | os.PathLike, largest: int = LARGEST_JSON) -> dict[str, Any]:
    """Return the fields of a JSON file; the errors are those of `read_json`, and for no object."""
    content = read_json(path, largest)
    if not isinstance(content, dict):
        raise ValueError(f"{path} has no fields: expected a JSON object, not {content!s:.40}")
    return content


def fits(value: Any, kind: Any) -> bool:
    """Return whether a value from JSON is of the type of a field of a config."""
    if isinstance(kind, types.UnionType):
        return any(fits(value, part) for part in get_args(kind))
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    if kind is int:
        return type(value) is int and abs(value) < 1 << 31
    return isinstance(value, get_origin(kind) or kind)


def open_gzip(raw: BinaryIO, path: str | os.PathLike) -> BinaryIO:
    """Return the decompressed content of an open file.

    Reading it raises ValueError, with the path, if the file is damaged or decompresses to more than
    RATIO times its size.
    """
    return io.BufferedReader(_Gzip(raw, path))


class _Gzip(io.RawIOBase):
    def __init__(self, raw: BinaryIO, path: str | os.PathLike):
        self._raw, self._path, self._count = raw, path, 0
        self._file = gzip.GzipFile(fileobj=raw)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            count = self._file.readinto(buffer)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{self._path} is not a complete gzip file: {error}") from None
        self._count += count
        if self._count > FREE and self._count > RATIO * self._raw.tell():
            raise ValueError(
                f"{self._path} decompresses to more than {RATIO} times its size, which no text "
                "does: decompress it yourself if you trust it"
            )
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def _exists(path: str | os.PathLike) -> bool:
    return os.path.exists(path)  # False for a name that is too long, unlike the method of Path
