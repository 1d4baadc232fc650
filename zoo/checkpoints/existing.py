"""What is in the place where something is to be written, and may not be lost or mixed with it."""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

# Of a model, ours or one of another library. Left beside those of another model, a reader may take
# them for its own.
MODEL_FILES = (
    *("model.json", "params", "config.json", "generation_config.json", "*.safetensors"),
    *("*.safetensors.index.json", "pytorch_model*", "flax_model*", "tf_model*"),
    *("tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt"),
    *("*.bpe", "encoder*.json", "spiece.model", "source.spm", "target.spm"),
)
# Of a run. Left beside those of another run, it would seem to be continued.
RUN_FILES = (
    *("checkpoints", "seed_[0-9]*", "manifest.json", "log.jsonl", "curves.png", "results.json"),
    "not_finite_batch_*.npz",
)
ALL_FILES = (*MODEL_FILES, *RUN_FILES)


def check_file(file: str | os.PathLike, *, overwrite: bool = False) -> None:
    """Raise OSError if a file cannot be written, or has a content that would be lost.

    Args:
      file: The file to write. A pipe or a device is always free.
      overwrite: Whether an existing file may be replaced.

    Raises:
      FileExistsError: If the file exists, unless it may be replaced.
      IsADirectoryError: If it is a folder.
    """
    file = Path(file)
    if file.is_dir():
        raise IsADirectoryError(f"{file} is a folder: give the name of a file")
    if file.is_file() and file.stat().st_size and not overwrite:
        raise FileExistsError(f"{file} exists: {_choices('file')}")


def check_folder(folder: str | os.PathLike, *, overwrite: bool = False) -> None:
    """Raise OSError if a folder cannot be written, or holds a model or a run.

    Args:
      folder: The folder to write. Other files in it do not matter: they are kept.
      overwrite: Whether a model or a run in it may be replaced.

    Raises:
      FileExistsError: If the folder holds a model or a run, unless it may be replaced.
      NotADirectoryError: If it is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: give the name of a folder")
    content = None if overwrite else find(folder)
    if content:
        raise FileExistsError(f"{folder} holds {content}: {_choices('folder')}")


def find(folder: str | os.PathLike) -> str | None:
    """Return what a folder holds of a model or a run, such as "a run at step 20", or None.

    A run that was stopped before it saved a step holds nothing.
    """
    folder = Path(folder)
    if saved := steps(folder):
        return f"a run at step {saved[-1]}"
    if any(folder.glob("seed_[0-9]*/checkpoints")):
        return "runs of more than one seed"
    model = folder / "model.json"
    if model.exists():
        return None if _has_just_started(model) else "a model"
    if (folder / "config.json").exists():
        return "a Hugging Face model"
    names = files(folder, MODEL_FILES)
    return f"{names[0]}, a file of a model" if names else None


def files(folder: str | os.PathLike, patterns: Iterable[str]) -> list[str]:
    """Return the names of the files and folders in a folder that match some patterns."""
    paths = (path for pattern in patterns for path in sorted(Path(folder).glob(pattern)))
    return list(dict.fromkeys(path.name for path in paths))


def steps(folder: str | os.PathLike) -> list[int]:
    """Return the numbers of the steps that a run has saved, oldest first."""
    return sorted(int(p.name) for p in Path(folder, "checkpoints").glob("*") if p.name.isdecimal())


def remove(folder: str | os.PathLike, names: Iterable[str]) -> None:
    """Remove files and folders in a folder by name, as far as they exist."""
    for name in names:
        path = Path(folder, name)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _has_just_started(model: Path) -> bool:
    """Return whether a model.json belongs to a run without any saved parameters."""
    try:
        return json.loads(model.read_text("utf-8"))["parameters"] is None
    except (ValueError, KeyError, TypeError):
        return False


def _choices(kind: str) -> str:
    return f"choose another {kind}, or replace it with --overwrite (in Python: overwrite=True)"
