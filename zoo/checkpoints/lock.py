"""The lock of a folder, so that two processes never write into one at the same time."""

import contextlib
import datetime
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import jax

FILE = ".lock"  # who holds the lock; the kernel releases it when that process ends

_held: set[Path] = set()  # the folders whose lock this process holds


@contextlib.contextmanager
def locked(folder: str | os.PathLike) -> Iterator[None]:
    """Hold the lock of a folder, which is created if necessary, and removed if it stays empty.

    The first of many processes of one run holds it. In a process that holds it already, nothing
    happens. On a file system without locks there is no protection.

    Raises:
      BlockingIOError: If another process holds the lock; the message names it.
    """
    folder = Path(folder).absolute()
    if folder.resolve() in _held or jax.process_index() > 0:
        yield
        return
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: give the name of a folder")
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    handle = _acquire(folder)
    _held.add(folder.resolve())
    try:
        yield
    finally:
        _held.discard(folder.resolve())
        (folder / FILE).unlink(missing_ok=True)
        os.close(handle)
        with contextlib.suppress(OSError):  # what is not empty stays
            for path in new:
                path.rmdir()


def _acquire(folder: Path) -> int:
    """Return the open and locked file, with the name of this process as its content."""
    file = folder / FILE
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 1000).decode("utf-8", "replace") or "another process"
            os.close(handle)
            raise BlockingIOError(
                f"{folder} is being written by {holder}: wait until it ends, stop it, or choose "
                "another folder"
            ) from None
        except OSError:
            pass  # no locks here
        if _is_same(handle, file):
            break
        os.close(handle)  # its holder has just removed it
    os.truncate(handle, 0)
    started = datetime.datetime.now(datetime.UTC).isoformat(" ", timespec="seconds")
    holder = f"process {os.getpid()} on {socket.gethostname()}, started {started}"
    os.write(handle, holder.encode())
    return handle


def _is_same(handle: int, file: Path) -> bool:
    """Return whether a file still has the name under which it was opened."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(file))
    except FileNotFoundError:
        return False
