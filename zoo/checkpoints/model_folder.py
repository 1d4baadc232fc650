"""What a model folder holds: written whole or not at all, read with every bit checked.

    model.json       architecture, class, config, version; shape, dtype and fingerprint of every
                     parameter
    params/          the parameters
    tokenizer.json   the tokenizer, where there is one
    checkpoints/     only in the folder of a run: one folder a step, see train/checkpoint.py

There are no pickles here, and none is ever opened.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import warnings
from pathlib import Path

import jax
from jax.experimental import multihost_utils

from zoo import tokenizers
from zoo.checkpoints.arrays import Damaged, describe, fingerprint, load, read_record, save
from zoo.params import unflatten
from zoo.version import __version__

__all__ = ["Damaged", "fingerprint", "manifest", "read", "steps", "write"]


def write(folder, architecture, config, params=None, tokenizer=None, cls=None) -> None:
    """Writes a model folder; whoever stops it leaves the old folder or the new one.

    `architecture` is a name, `config` a dataclass, `params` a nested dict of arrays, on one device
    or on many, `cls` the name of their class where that is not the one that pretraining trains.
    Without `params` it is the folder of a run that has only begun: `read` then takes the newest
    good step. Whatever else lies in the folder stays. Raises OSError.
    """
    folder = Path(folder).absolute()
    draft = folder / ".draft"
    if jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        _move_in(folder)
        for leftover in folder.glob(".draft*"):
            shutil.rmtree(leftover)
    _wait_for_all("a model folder has been cleared")
    model = {
        "architecture": architecture,
        "class": cls,
        "config": dataclasses.asdict(config),
        "zoo": __version__,
        "tokenizer": None if tokenizer is None else tokenizers.fingerprint(tokenizer),
        "parameters": None if params is None else describe(params),
    }
    if params is not None:
        save(draft, {"params": params}).finish()
    if jax.process_index() == 0:
        draft.mkdir(exist_ok=True)
        (draft / "model.json").write_text(json.dumps(model, indent=2) + "\n")
        if tokenizer is not None:
            tokenizers.save(tokenizer, draft)
        draft.rename(folder / ".ready")  # from here on the folder is the new one, whatever happens
        _move_in(folder)
    _wait_for_all("a model folder has been written")


def manifest(folder) -> dict:
    """What model.json says: architecture, class, config, zoo, tokenizer, parameters.

    Raises FileNotFoundError for a folder that is not there or is no model folder, ValueError for a
    model.json that cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder}")
    _move_in(folder)
    path = folder / "model.json"
    if not path.exists():
        reason = "it has no model.json"
        if (folder / "config.json").exists():
            reason = f"but it may be Hugging Face's: try `zoo import {folder} OUT`"
        raise FileNotFoundError(f"{folder} is not a model folder: {reason}")
    try:
        model = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None
    fields = ("architecture", "class", "config", "zoo", "tokenizer", "parameters")
    missing = [name for name in fields if not isinstance(model, dict) or name not in model]
    if missing:
        raise ValueError(f"{path} was not written by zoo: it lacks {', '.join(missing)}")
    return model


def read(folder) -> dict:
    """The parameters of a model folder: a nested dict of NumPy arrays, each bit as it was saved.

    They are in `params/`; in a run that is still going or was killed, in its newest good step, of
    which only the parameters are read; it warns of newer ones. Raises Damaged, with the parameter.
    """
    folder = Path(folder)
    parameters = manifest(folder)["parameters"]
    if parameters is not None and (folder / "params").is_dir():
        return unflatten(load(folder / "params", parameters))
    damage = []
    for step in reversed(steps(folder)):
        path = folder / "checkpoints" / str(step)
        try:
            params = load(path / "params", read_record(path)["params"])
        except Damaged as error:
            damage.append(str(error))
            continue
        for problem in damage:
            warnings.warn(f"{problem}; step {step} is read instead", stacklevel=2)
        return unflatten(params)
    if damage:
        raise Damaged(f"{folder} has no good step: " + "; ".join(damage))
    raise FileNotFoundError(f"{folder} has no parameters: neither params/ nor a saved step")


def steps(folder) -> list[int]:
    """The numbers of the steps that a run has saved, oldest first."""
    return sorted(int(p.name) for p in Path(folder, "checkpoints").glob("*") if p.name.isdecimal())


def _move_in(folder) -> None:
    """Ends a finished write, this process's or one that was killed right then."""
    ready = folder / ".ready"
    if not ready.exists():
        return
    with _alone_in(folder):
        if (ready / "model.json").exists():
            model = json.loads((ready / "model.json").read_text("utf-8"))
            for name, part in (("params", "parameters"), ("tokenizer.json", "tokenizer")):
                if (ready / name).exists() or model[part] is None:
                    _remove(folder / name)
                if (ready / name).exists():
                    (ready / name).rename(folder / name)
            (ready / "model.json").rename(folder / "model.json")
        shutil.rmtree(ready, ignore_errors=True)


@contextlib.contextmanager
def _alone_in(folder):
    """Lets one process at a time into a folder; the lock is gone when its holder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        # Some file systems have no locks; there, nobody should read a folder as it is written.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _remove(path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _wait_for_all(what: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)
