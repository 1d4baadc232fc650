"""manifest.json: a description of a run, sufficient to identify and repeat it."""

import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import jax

import zoo

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tokenizers", "numpy")


def write_manifest(folder: str | os.PathLike, **fields) -> dict:
    """Write manifest.json into the folder of a run, and return its contents.

    Command, directory, time, revision, versions and devices are added automatically.

    Args:
      folder: The folder of the run; created if necessary.
      **fields: More about the run: recipe, seed, and the fingerprints of data and tokenizer.
    """
    manifest = {
        **fields,
        "command": shlex.join(sys.orig_argv),
        "directory": os.getcwd(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "revision": _revision(),
        **environment(),
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / "manifest.json.new"
    unfinished.write_text(json.dumps(manifest, indent=2, default=str) + "\n", encoding="utf-8")
    unfinished.replace(folder / "manifest.json")
    return manifest


def environment() -> dict[str, dict]:
    """Return the versions of the libraries, and the devices that JAX uses."""
    devices = jax.devices()
    return {
        "versions": {"zoo": zoo.__version__, "python": platform.python_version()}
        | {library: importlib.metadata.version(library) for library in LIBRARIES},
        "devices": {
            "kind": devices[0].device_kind,
            "count": len(devices),
            "processes": jax.process_count(),
        },
    }


def describe() -> str:
    """Return the day, the machine and the versions in one line, for the last cell of a notebook."""
    here = environment()
    device = f"{here['devices']['count']} x {here['devices']['kind']}, {os.cpu_count()} CPU cores"
    versions = ", ".join(f"{name} {version}" for name, version in here["versions"].items())
    return f"{datetime.date.today()}; {device}; {versions}"


def _revision():
    """Return the commit of this code, with "-dirty" if modified; None outside of a repository."""
    here = Path(__file__)
    git = ["git", "-C", str(here.parent)]
    # An installed copy may be inside another repository, which does not track it.
    if _output([*git, "ls-files", "--error-unmatch", here.name]) is None:
        return None
    return _output([*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"])


def _output(command):
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
