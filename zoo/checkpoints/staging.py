"""Files of a model that replace others in their folder all at once.

They are written into `.draft` in the folder, so that a full disk or a kill leaves the old files as
they were. The complete draft is renamed to `.ready`; from then on, what is left is to remove old
files and to move new ones, which whoever writes or reads the folder next completes.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
from jax.experimental import multihost_utils

from zoo.checkpoints.existing import files, remove

# Without them no folder is read: they are moved last.
LAST = ("config.json", "model.json")
REPLACED = "replaced.json"  # in the draft: the names of what it replaces


@contextlib.contextmanager
def draft(folder: str | os.PathLike, replaced: Sequence[str]) -> Iterator[Path]:
    """Give a folder for new files, which on exit replace old ones of `folder`.

    All processes must call this; the first one moves the files.

    Args:
      folder: The folder to write, which is created if necessary.
      replaced: Patterns of its files and folders that are removed. All others are kept, unless a
        new one has the same name.

    Raises:
      OSError: If the folder cannot be written.
    """
    folder = Path(folder).absolute()
    draft, is_first = folder / ".draft", jax.process_index() == 0
    if is_first:
        folder.mkdir(parents=True, exist_ok=True)
        complete(folder)
        _clear(folder)
        draft.mkdir()
    _wait_for_all("a folder has been cleared")
    try:
        yield draft
        if is_first:
            (draft / REPLACED).write_text(json.dumps(files(folder, replaced)))
            draft.rename(folder / ".ready")  # from here on, readers get the new files
            complete(folder)
    finally:
        if is_first:
            _clear(folder)
    _wait_for_all("a folder has been written")


@contextlib.contextmanager
def draft_of_file(file: str | os.PathLike) -> Iterator[Path]:
    """Give a file for a new content, which on exit replaces `file`.

    The names of both end in the same way. A pipe or a device is given as it is.

    Raises:
      OSError: If the file cannot be written.
    """
    file = Path(file)
    if file.exists() and not file.is_file():
        yield file
        return
    draft = file.with_name(f".draft-{os.getpid()}-{file.name}")
    try:
        yield draft
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def complete(folder: str | os.PathLike) -> None:
    """Complete a finished draft, of this process or of one that was killed."""
    folder = Path(folder)
    ready = folder / ".ready"
    if not ready.exists():
        return
    with _locked(folder):
        replaced = ready / REPLACED
        if replaced.exists():
            remove(folder, json.loads(replaced.read_text()))
            replaced.unlink()
        for path in sorted(ready.glob("*"), key=lambda path: path.name in LAST):
            remove(folder, [path.name])
            path.rename(folder / path.name)
        with contextlib.suppress(FileNotFoundError):  # another process has completed it
            ready.rmdir()


def _clear(folder: Path) -> None:
    """Remove drafts that were not finished."""
    remove(folder, files(folder, (".draft*",)))


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on a folder; it is released when its process ends."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        # Some file systems have no locks; there, do not read a folder while it is being written.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _wait_for_all(what: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)
