"""The model folder: written atomically, and verified by checksums when read.

    model.json       architecture, class, config, version; shape, dtype and fingerprint of every
                     parameter
    params/          the parameters; tables of counts or word vectors are .npy files, mapped into
                     memory
    tokenizer.json   the tokenizer, if there is one
    checkpoints/     only in the folder of a run: one folder per step, see train/checkpoint.py

No file is a pickle, and pickles are never opened.
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
from zoo.checkpoints import mapped
from zoo.checkpoints.arrays import Damaged, describe, fingerprint, load, read_record, save
from zoo.params import unflatten
from zoo.version import __version__

__all__ = ["Damaged", "fingerprint", "manifest", "read", "steps", "write"]


def write(
    folder, architecture, config, params=None, tokenizer=None, cls=None, trained_on=None
) -> None:
    """Write a model folder, atomically: if interrupted, either the old or the new one remains.

    Other files in the folder are kept.

    Args:
      folder: The folder to write.
      architecture: The name of the architecture.
      config: Its config, a dataclass.
      params: A nested dict of arrays, on any number of devices. None: the folder of a run that has
        just started; `read` then uses the newest intact step.
      tokenizer: The tokenizer, or None.
      cls: The name of the model's class; None: the one that pretraining trains.
      trained_on: What a classifier was fine-tuned on, "texts" or "pairs"; None: not recorded.

    Raises:
      OSError: If the folder cannot be written.
    """
    folder = Path(folder).absolute()
    draft = folder / ".draft"
    if jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        _complete_write(folder)
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
    if trained_on is not None:
        model["trained_on"] = trained_on
    if params is not None and mapped.is_for(params):
        mapped.save(draft / "params", params)
    elif params is not None:
        save(draft, {"params": params}).finish()
    if jax.process_index() == 0:
        draft.mkdir(exist_ok=True)
        (draft / "model.json").write_text(json.dumps(model, indent=2) + "\n")
        if tokenizer is not None:
            tokenizers.save(tokenizer, draft)
        draft.rename(folder / ".ready")  # the commit point: from here on, readers get the new files
        _complete_write(folder)
    _wait_for_all("a model folder has been written")


def manifest(folder) -> dict:
    """Return the content of model.json.

    Its fields are architecture, class, config, zoo, tokenizer and parameters.

    Raises:
      FileNotFoundError: If the folder does not exist or is not a model folder.
      ValueError: If model.json cannot be parsed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder}")
    _complete_write(folder)
    path = folder / "model.json"
    if not path.exists():
        reason = "it has no model.json"
        if (folder / "config.json").exists():
            reason = f"but it may be a Hugging Face folder: try `zoo import {folder} OUT`"
        raise FileNotFoundError(f"{folder} is not a model folder: {reason}")
    try:
        model = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None
    fields = ("architecture", "class", "config", "zoo", "tokenizer", "parameters")
    missing = [name for name in fields if not isinstance(model, dict) or name not in model]
    if missing:
        raise ValueError(f"{path} was not written by zoo: missing {', '.join(missing)}")
    return model


def read(folder) -> dict:
    """Return the parameters of a model folder: a nested dict of NumPy arrays, verified.

    They are read from `params/`, or, for a run that is still going or was killed, from its newest
    intact step, with a warning for each newer step that is damaged.

    Raises:
      Damaged: If a parameter is damaged; the message names it.
      FileNotFoundError: If the folder has no parameters.
    """
    folder = Path(folder)
    parameters = manifest(folder)["parameters"]
    if parameters is not None and (folder / "params").is_dir():
        stored = mapped.load if mapped.is_in(folder / "params") else load
        return unflatten(stored(folder / "params", parameters))
    damage = []
    for step in reversed(steps(folder)):
        path = folder / "checkpoints" / str(step)
        try:
            params = load(path / "params", read_record(path)["params"])
        except Damaged as error:
            damage.append(str(error))
            continue
        for problem in damage:
            warnings.warn(f"{problem}; using step {step} instead", stacklevel=2)
        return unflatten(params)
    if damage:
        raise Damaged(f"{folder} has no intact step: " + "; ".join(damage))
    raise FileNotFoundError(f"{folder} has no parameters: neither params/ nor a saved step")


def steps(folder) -> list[int]:
    """Return the numbers of the steps that a run has saved, oldest first."""
    return sorted(int(p.name) for p in Path(folder, "checkpoints").glob("*") if p.name.isdecimal())


def _complete_write(folder) -> None:
    """Complete a finished write, of this process or of one that was killed before the move."""
    ready = folder / ".ready"
    if not ready.exists():
        return
    with _locked(folder):
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
def _locked(folder):
    """Hold an exclusive lock on a folder; it is released when its process ends."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        # Some file systems have no locks; there, do not read a folder while it is being written.
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
