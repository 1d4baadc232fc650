"""Arrays on disk that grow shard by shard; a process can be killed at any time without data loss.

Each array is a separate file. Once a shard is on disk in all of them, a line in `journal.jsonl`
records the length of each array. Data beyond the last recorded length are ignored.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

BITS = "bits"  # the type of a packed array of booleans, one bit each, low bit first


class Entry(NamedTuple):
    """One line of the journal."""

    lengths: dict[str, int]  # number of values in each array
    state: dict  # state of the caller, needed to continue with the next shard
    fingerprint: str  # sha256 over all shards so far
    whole: bool  # whether this is the last entry


def read(folder: Path) -> tuple[dict, list[Entry]]:
    """Return the header and the entries of a journal, without a last line truncated by a kill.

    Raises:
      FileNotFoundError: If there is no journal.
    """
    lines = (folder / "journal.jsonl").read_text("utf-8").splitlines(keepends=True)
    header, *entries = [json.loads(line) for line in lines if line.endswith("\n")]
    return header, [Entry(**entry) for entry in entries]


def reaches(folder: Path, types: dict[str, str], entry: Entry) -> bool:
    """Return whether the files contain all data that an entry records."""
    return all(
        _path(folder, name, type).exists()
        and _path(folder, name, type).stat().st_size >= _size(entry.lengths[name], type)
        for name, type in types.items()
    )


def check(folder: Path, types: Mapping[str, str], entries: Sequence[Entry]) -> None:
    """Raise ValueError if the files of finished arrays are not as they were written.

    The size and the times of each file are compared with those at the last check, which takes no
    time. Only if they differ, such as after a first write, or in a copy, all values are read and
    compared with the fingerprints of the journal.

    Args:
      folder: The folder of the arrays.
      types: The type of each array.
      entries: The entries of the journal, the last of which ends the arrays.
    """
    last, checked = entries[-1], folder / "checked.json"
    files = {name: _path(folder, name, type).stat() for name, type in types.items()}
    # A write or an exchange changes at least one of them.
    stamps: dict[str, Any] = {
        name: [file.st_size, file.st_mtime_ns, file.st_ctime_ns] for name, file in files.items()
    }
    stamps["fingerprint"] = last.fingerprint
    with contextlib.suppress(OSError, ValueError):
        if json.loads(checked.read_text("utf-8")) == stamps:
            return
    sizes = {name: _size(last.lengths[name], type) for name, type in types.items()}
    wrong = [name for name, file in files.items() if file.st_size != sizes[name]]
    changed = ", ".join(wrong) or _first_difference(folder, types, entries)
    if changed:
        raise ValueError(
            f"the corpus in {folder} was changed after it was written ({changed}): delete that "
            "folder, and it is prepared again"
        )
    draft = folder / f"checked.{os.getpid()}"
    with contextlib.suppress(OSError):  # a folder that cannot be written is checked every time
        draft.write_text(json.dumps(stamps) + "\n", "utf-8")
        draft.replace(checked)


def _first_difference(
    folder: Path, types: Mapping[str, str], entries: Sequence[Entry]
) -> str | None:
    """Return which shard differs from its fingerprint, or None."""
    before, fingerprint = dict.fromkeys(types, 0), ""
    for number, entry in enumerate(entries):
        digest = hashlib.sha256(fingerprint.encode())
        for name, type in types.items():
            digest.update(_read(folder, name, type, before[name], entry.lengths[name]).tobytes())
        before, fingerprint = entry.lengths, digest.hexdigest()
        if fingerprint != entry.fingerprint:
            return f"shard {number} of {len(entries)}"
    return None


def _read(folder: Path, name: str, type: str, start: int, stop: int) -> np.ndarray:
    """Return the values of an array from `start` to `stop`, as they were appended."""
    first = start // 8 if type == BITS else start
    count = -(-stop // 8) - first if type == BITS else stop - start
    dtype = _dtype(type)
    file = _path(folder, name, type)
    values = np.fromfile(file, dtype, count, offset=first * dtype.itemsize)
    if type != BITS:
        return values
    return np.unpackbits(values, bitorder="little")[start % 8 :][: stop - start].astype(bool)


def resume(folder: Path, types: dict[str, str], header: dict) -> Entry | None:
    """Truncate the journal to the last entry that the files contain, and return that entry.

    Returns:
      The entry, or None if the files contain no complete entry.

    Raises:
      ValueError: If the folder has a journal with another header.
    """
    entries: list[Entry] = []
    if (folder / "journal.jsonl").exists():
        old_header, entries = read(folder)
        differences = [key for key in header if old_header.get(key) != header[key]]
        if differences:
            raise ValueError(
                f"{folder} contains the data of another {' and '.join(differences)}: "
                "choose another folder, or delete this one"
            )
        while entries and not reaches(folder, types, entries[-1]):
            entries.pop()
    draft = folder / "journal.draft"
    lines = [header, *(entry._asdict() for entry in entries)]
    with writing(folder):
        draft.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
        os.replace(draft, folder / "journal.jsonl")
    return entries[-1] if entries else None


def append(
    folder: Path,
    types: Mapping[str, str],
    last: Entry | None,
    arrays: Mapping[str, np.ndarray | Sequence[int]],
    state: dict,
    *,
    is_last: bool = False,
) -> Entry:
    """Append a shard to every array, then a line to the journal, and return the new entry.

    The line is written only after the arrays are on disk.
    """
    before = last.lengths if last else dict.fromkeys(types, 0)
    digest = hashlib.sha256(last.fingerprint.encode() if last else b"")
    with writing(folder):
        for name, type in types.items():
            values = np.asarray(arrays[name]).astype(bool if type == BITS else type)
            digest.update(values.tobytes())
            _extend(_path(folder, name, type), type, before[name], values)
        lengths = {name: before[name] + len(arrays[name]) for name in types}
        entry = Entry(lengths, state, digest.hexdigest(), is_last)
        with (folder / "journal.jsonl").open("a") as journal:
            journal.write(json.dumps(entry._asdict()) + "\n")
            journal.flush()
            os.fsync(journal.fileno())
    return entry


def open(folder: Path, types: dict[str, str]) -> dict[str, np.ndarray]:
    """Return the arrays, memory-mapped; packed booleans are returned as bytes."""
    return {
        name: np.asarray(np.memmap(_path(folder, name, type), _dtype(type), "r"))
        for name, type in types.items()
    }


def read_part(array: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Return a copy of values of an array that may be memory-mapped, from `start` to `stop`.

    A map is not read but its file: the pages of a map that were read count as memory of the
    process, so that one pass over a corpus would count all of it.
    """
    source = array.base
    if isinstance(source, np.memmap) and source.filename and len(source) == len(array):
        offset = start * array.itemsize
        return np.fromfile(source.filename, array.dtype, stop - start, offset=offset)
    return array[start:stop].copy()


@contextlib.contextmanager
def writing(folder: Path):
    """Raise a one-line OSError if the disk cannot be written inside this context."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write the corpus: {error.strerror}; "
            "free some space and run the same command again to continue",
            str(folder),
        ) from error


def _extend(path: Path, type: str, length: int, values: np.ndarray) -> None:
    """Write values after the first `length` ones of a file, replacing what follows them."""
    with path.open("r+b" if path.exists() else "w+b") as file:
        if type == BITS:
            # The last byte may be partly filled: read it back and complete it.
            file.seek(length // 8)
            byte = np.frombuffer(file.read(length % 8 > 0), np.uint8)
            head = np.unpackbits(byte, bitorder="little")[: length % 8]
            values = np.packbits(np.concatenate([head, values]), bitorder="little")
            length -= length % 8
        file.truncate(_size(length, type))
        file.seek(0, os.SEEK_END)
        file.write(values.tobytes())
        file.flush()
        os.fsync(file.fileno())


def _path(folder: Path, name: str, type: str) -> Path:
    return folder / f"{name}.{type}"


def _dtype(type: str) -> np.dtype:
    return np.dtype(np.uint8 if type == BITS else type)


def _size(length: int, type: str) -> int:
    return -(-length // 8) if type == BITS else length * np.dtype(type).itemsize
