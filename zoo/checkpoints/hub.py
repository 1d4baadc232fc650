"""Names on the Hugging Face Hub, whose files are fetched into a cache when they are first used.

A name is a string such as "google-bert/bert-base-uncased", or "gpt2" for the oldest models, if no
file or folder is there; NAME@REVISION is its branch, tag or commit. A Path is never a name. Only
the files that are read are fetched, by huggingface_hub, whose environment variables set from where,
as whom and where to: HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_OFFLINE and others. If the Hub cannot
be reached, the files that are in the cache are used.
"""

import os
import re
from pathlib import Path

from zoo.checkpoints.repository import Repository, only_errors_logged
from zoo.formats import huggingface
from zoo.formats.huggingface import tensors
from zoo.tokenizers import folder as tokenizer_folder

# Only the oldest repositories have no owner; names with dots, of files, are none of theirs.
NAME = re.compile(
    r"""(?=[^@]{1,96}(@|$))
    (?P<repository> \w+([.-]\w+)* / \w+([.-]\w+)* | [a-z0-9]+(-[a-z0-9]+)*)
    (@ (?P<revision> \w[\w-]*([./][\w-]+)*))?""",
    re.ASCII | re.VERBOSE,
)
PUBLISHED, OURS = "config.json", "model.json"


def resolve(name: str | os.PathLike, revision: str | None = None) -> Path:
    """Return the folder or file of a model; that of a name on the Hub is fetched.

    Args:
      name: A folder or file, or a name on the Hub.
      revision: The branch, tag or commit; None: that of NAME@REVISION, or the main branch.

    Raises:
      OSError: If a name is neither here nor on the Hub, or if what it needs cannot be fetched.
      ValueError: If a folder or file gets a revision, or a name two, or if the architecture is not
        supported.
    """
    repository = _repository(name, revision)
    if repository is None:
        return Path(name)
    with only_errors_logged():
        if config := repository.fetch(PUBLISHED):
            published = huggingface.read_config(config.parent)
            if "model_type" in published:
                huggingface.find(published)  # before gigabytes are fetched
            _fetch_tokenizer(repository)
            _fetch_weights(repository)
            return config.parent
        if model := repository.fetch(OURS):
            _fetch_tokenizer(repository)
            repository.fetch_folder("params")
            return model.parent
        raise repository.lacks(f"{PUBLISHED} and {OURS}")


def resolve_tokenizer(name: str | os.PathLike) -> Path:
    """Return the folder of a tokenizer; of a name on the Hub, only its tokenizer is fetched.

    Raises:
      OSError: If a name is neither here nor on the Hub, or if what it needs cannot be fetched.
    """
    repository = _repository(name)
    if repository is None:
        return Path(name)
    with only_errors_logged():
        if folder := _fetch_tokenizer(repository):
            return folder
        expected = ", ".join(" with ".join(names) for names in tokenizer_folder.FILES)
        raise repository.lacks(f"a tokenizer: looked for {expected}")


def _repository(name: str | os.PathLike, revision: str | None = None) -> Repository | None:
    """Return the repository that a name stands for, or None for a folder or file.

    Raises:
      ValueError: If a revision is given that the name cannot have.
    """
    match = None
    if isinstance(name, str) and not os.path.lexists(name):
        match = NAME.fullmatch(name if revision is None else f"{name}@{revision}")
    if match is None and revision is not None:
        raise ValueError(f"{name} is not a name on the Hub that can have the revision {revision!r}")
    return match and Repository(match["repository"], match["revision"] or "main")


def _fetch_tokenizer(repository: Repository) -> Path | None:
    """Fetch the tokenizer that would be read, and return its folder, or None."""
    for names in tokenizer_folder.FILES:
        if all(repository.fetch(name) for name in names):
            for name in tokenizer_folder.SETTINGS:
                repository.fetch(name)
            return repository.folder
    return None


def _fetch_weights(repository: Repository) -> None:
    """Fetch the weights that would be read: those of one format, in one file or in many."""
    for name in tensors.FILES:
        if repository.fetch(name):
            return
        if index := repository.fetch(f"{name}.index.json"):
            for shard in dict.fromkeys(tensors.weight_map(index).values()):
                if not repository.fetch(shard):
                    raise repository.lacks(f"{shard}, which {index.name} names")
            return
    raise repository.lacks(f"weights: expected one of {', '.join(tensors.FILES)}")
