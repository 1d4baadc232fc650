"""One process writes a folder; the next gets its name, and takes over when it ends."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from zoo.checkpoints.lock import locked

HOLD = """
import sys
from zoo.checkpoints.lock import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


def start(folder) -> subprocess.Popen:
    """Return a process that holds the lock of a folder until a line is written to it."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        env={**os.environ, "PYTHONPATH": "."},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_process_names_the_first(tmp_path):
    process = start(tmp_path / "run")
    with pytest.raises(BlockingIOError) as error, locked(tmp_path / "run"):
        pass
    message = str(error.value)
    assert message.startswith(
        f"{tmp_path / 'run'} is being written by process {process.pid} on {socket.gethostname()}, "
        "started 20"
    )
    assert message.endswith(": wait until it ends, stop it, or choose another folder")
    process.communicate("\n")
    assert not (tmp_path / "run").exists()
    with locked(tmp_path / "run"):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    process = start(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    with locked(tmp_path):
        assert f"process {os.getpid()} " in (tmp_path / ".lock").read_text()
    assert not list(tmp_path.iterdir())


def test_a_process_may_ask_again_for_what_it_holds(tmp_path):
    with locked(tmp_path / "a" / "b"):
        with locked(tmp_path / "a" / "b"):
            pass
        assert (tmp_path / "a" / "b" / ".lock").exists()
        (tmp_path / "a" / "file").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]
