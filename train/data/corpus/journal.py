"""Arrays on disk that grow shard by shard and survive a kill at any moment.

Each array is a file of its own. When a shard is safe in all of them, a line in `journal.jsonl` says
how far they reach; what lies beyond the last line was never there.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

BITS = "bits"  # the type of an array of booleans that takes a bit each, the low bit first


class Entry(NamedTuple):
    """A line of the journal."""

    lengths: dict[str, int]  # values in each array
    state: dict  # what the next shard must know
    fingerprint: str  # sha256 over all shards so far
    whole: bool  # there will be no other


def read(folder: Path) -> tuple[dict, list[Entry]]:
    """The header and the entries of a journal. A last line cut short by a kill does not count.

    Raises FileNotFoundError where there is no journal.
    """
    lines = (folder / "journal.jsonl").read_text("utf-8").splitlines(keepends=True)
    header, *entries = [json.loads(line) for line in lines if line.endswith("\n")]
    return header, [Entry(**entry) for entry in entries]


def reaches(folder: Path, types: dict[str, str], entry: Entry) -> bool:
    """Whether the files are as long as an entry says."""
    return all(
        _path(folder, name, type).exists()
        and _path(folder, name, type).stat().st_size >= _size(entry.lengths[name], type)
        for name, type in types.items()
    )


def resume(folder: Path, types: dict[str, str], header: dict) -> Entry | None:
    """The last entry that the files reach, the journal cut back to it; None where there is none.

    Raises ValueError where the folder has a journal with another header.
    """
    entries: list[Entry] = []
    if (folder / "journal.jsonl").exists():
        found, entries = read(folder)
        other = [key for key in header if found.get(key) != header[key]]
        if other:
            raise ValueError(
                f"{folder} holds the data of another {' and '.join(other)}: "
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
    whole: bool = False,
) -> Entry:
    """Adds a shard to every array and, once it is on disk, a line to the journal: the new entry."""
    before = last.lengths if last else dict.fromkeys(types, 0)
    digest = hashlib.sha256(last.fingerprint.encode() if last else b"")
    with writing(folder):
        for name, type in types.items():
            values = np.asarray(arrays[name]).astype(bool if type == BITS else type)
            digest.update(values.tobytes())
            _extend(_path(folder, name, type), type, before[name], values)
        lengths = {name: before[name] + len(arrays[name]) for name in types}
        entry = Entry(lengths, state, digest.hexdigest(), whole)
        with (folder / "journal.jsonl").open("a") as journal:
            journal.write(json.dumps(entry._asdict()) + "\n")
            journal.flush()
            os.fsync(journal.fileno())
    return entry


def open(folder: Path, types: dict[str, str]) -> dict[str, np.ndarray]:
    """The arrays, mapped into memory; bits as the bytes that hold them."""
    return {
        name: np.asarray(np.memmap(_path(folder, name, type), _dtype(type), "r"))
        for name, type in types.items()
    }


@contextlib.contextmanager
def writing(folder: Path):
    """Says in one line where the disk refused."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write the corpus: {error.strerror}; "
            "once there is room, run again and it goes on from where it stopped",
            str(folder),
        ) from error


def _extend(path: Path, type: str, length: int, values: np.ndarray) -> None:
    """Writes values behind the first `length` ones of a file, over whatever was there."""
    with path.open("r+b" if path.exists() else "w+b") as file:
        if type == BITS:
            # The last byte may be part full: it is read back and filled up.
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
