"""The model folder: written atomically, and verified by checksums when read.

    model.json       architecture, class, config, version; shape, dtype and fingerprint of every
                     parameter; checksums of model.json itself and of tokenizer.json
    params/          the parameters; tables of counts or word vectors are .npy files, mapped into
                     memory
    tokenizer.json   the tokenizer, if there is one
    checkpoints/     only in the folder of a run: one folder per step, see train/checkpoint.py

No file is a pickle, and pickles are never opened.
"""

import dataclasses
import hashlib
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import jax

from zoo import tokenizers, untrusted
from zoo.checkpoints import mapped, staging
from zoo.checkpoints.arrays import Damaged, describe, fingerprint, load, read_record, save
from zoo.checkpoints.existing import steps
from zoo.params import unflatten
from zoo.version import __version__

__all__ = ["Damaged", "check_tokenizer", "fingerprint", "manifest", "read", "steps", "write"]

FILES = ("model.json", "params", "tokenizer.json")
ARRAYS = "arrays"  # in a draft: what Orbax writes
RESTORE = 'restore it, or, if that is on purpose, delete "checksums" from model.json'

# The fields of model.json and their types.
FIELDS: dict[str, type | tuple[type, ...]] = {
    "architecture": str,
    "class": (str, type(None)),
    "config": dict,
    "zoo": str,
    "tokenizer": (str, type(None)),
    "parameters": (dict, type(None)),
}


def write(
    folder,
    architecture,
    config,
    params=None,
    tokenizer=None,
    cls=None,
    replaced=FILES,
    trained_on=None,
) -> None:
    """Write a model folder, atomically: if interrupted, either the old or the new one remains.

    Args:
      folder: The folder to write.
      architecture: The name of the architecture.
      config: Its config, a dataclass.
      params: A nested dict of arrays, on any number of devices. None: the folder of a run that has
        just started; `read` then uses the newest intact step.
      tokenizer: The tokenizer, or None.
      cls: The name of the model's class; None: the one that pretraining trains.
      replaced: Patterns of the files that are replaced; by default those of a model folder. Other
        files in the folder are kept.
      trained_on: What a classifier was fine-tuned on, "texts" or "pairs"; None: not recorded.

    Raises:
      OSError: If the folder cannot be written.
    """
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
    with staging.draft(folder, replaced) as draft:
        if params is not None and mapped.is_for(params):
            mapped.save(draft / "params", params)
        elif params is not None:
            save(draft / ARRAYS, {"params": params}).finish()
        if jax.process_index() == 0:
            if (draft / ARRAYS).exists():
                (draft / ARRAYS / "params").rename(draft / "params")
                shutil.rmtree(draft / ARRAYS)  # what describes several pytrees
            if tokenizer is not None:
                tokenizers.save(tokenizer, draft)
            text = json.dumps(model | {"checksums": _checksums(draft, model)}, indent=2)
            (draft / "model.json").write_text(text + "\n")


def manifest(folder) -> dict:
    """Return the content of model.json.

    Its fields are architecture, class, config, zoo, tokenizer, parameters, and, unless an earlier
    version wrote it, checksums.

    Raises:
      Damaged: If the file was changed after it was written.
      FileNotFoundError: If the folder does not exist or is not a model folder.
      ValueError: If model.json cannot be parsed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder}")
    staging.complete(folder)
    path = folder / "model.json"
    if not path.exists():
        reason = "it has no model.json"
        if (folder / "config.json").exists():
            reason = f"but it may be a Hugging Face folder: try `zoo import {folder} OUT`"
        raise FileNotFoundError(f"{folder} is not a model folder: {reason}")
    untrusted.check_folder(folder)
    model = untrusted.read_object(path)
    missing = [name for name in FIELDS if name not in model]
    if missing:
        raise ValueError(f"{path} was not written by zoo: missing {', '.join(missing)}")
    wrong = [name for name, kind in FIELDS.items() if not isinstance(model[name], kind)]
    if not wrong and not all(map(_is_description, (model["parameters"] or {}).values())):
        wrong = ["parameters"]
    checksums = model.get("checksums", {})  # earlier versions wrote none
    if not wrong and not isinstance(checksums, dict):
        wrong = ["checksums"]
    if wrong:
        raise ValueError(f"{path} was not written by zoo: {wrong[0]} is not what it writes there")
    if checksums and checksums.get("model.json") != _sha256(_canonical(model)):
        raise Damaged(f"{path} was changed after it was written: {RESTORE}")
    return model


def _is_description(entry: Any) -> bool:
    """Return whether an entry of parameters is that of an array, as `describe` returns it."""
    if not isinstance(entry, dict) or entry.keys() != {"shape", "dtype", "fingerprint"}:
        return False
    shape, dtype = entry["shape"], entry["dtype"]
    is_shape = isinstance(shape, list) and all(type(n) is int and 0 <= n < 1 << 40 for n in shape)
    return is_shape and isinstance(dtype, str) and isinstance(entry["fingerprint"], int)


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


def check_tokenizer(folder, tokenizer) -> None:
    """Raise Damaged unless the tokenizer of a model folder is the one that was written with it.

    Args:
      folder: The model folder.
      tokenizer: What was read from it; None: no tokenizer was found.
    """
    model, file = manifest(folder), Path(folder) / "tokenizer.json"
    expected = model.get("checksums", {}).get(file.name)
    if expected is None:  # no tokenizer, or not to be checked
        return
    if tokenizer is None:
        raise Damaged(f"{file} is missing: {RESTORE}")
    # A file that was only formatted in another way is the same tokenizer.
    same = file.exists() and expected == _sha256(file.read_bytes())
    if not same and tokenizers.fingerprint(tokenizer) != model["tokenizer"]:
        raise Damaged(f"{file} is not the tokenizer of this model: {RESTORE}")


def _checksums(folder: Path, model: dict) -> dict[str, str]:
    """Return the checksums of the files of a model folder, which the arrays have on their own."""
    file = folder / "tokenizer.json"
    of_tokenizer = {file.name: _sha256(file.read_bytes())} if file.exists() else {}
    as_read = json.loads(json.dumps(model))
    return {"model.json": _sha256(_canonical(as_read)), **of_tokenizer}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _canonical(model: dict) -> bytes:
    """Return what the checksum of model.json is of: all but the checksums themselves."""
    rest = {name: value for name, value in model.items() if name != "checksums"}
    return json.dumps(rest, sort_keys=True).encode()
