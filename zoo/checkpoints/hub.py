"""Names on the Hugging Face Hub, whose files are fetched into a cache when they are first used.

A name is a string such as "google-bert/bert-base-uncased", or "gpt2" for the oldest models, if no
file or folder is there; NAME@REVISION is its branch, tag or commit. A Path is never a name. Only
the files that are read are fetched, by huggingface_hub, whose environment variables set from where,
as whom and where to: HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_OFFLINE and others. If the Hub cannot
be reached, the files that are in the cache are used.
"""

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoo.formats import huggingface
from zoo.formats.huggingface import tensors
from zoo.tokenizers import folder as tokenizer_folder

# Only the oldest repositories have no owner; names with dots, of files, are none of theirs.
NAME = re.compile(
    r"(?P<repository>\w+([.-]\w+)*/\w+([.-]\w+)*|[a-z0-9]+(-[a-z0-9]+)*)(@(?P<revision>[\w./-]+))?",
    re.ASCII,
)
PUBLISHED, OURS = "config.json", "model.json"


def resolve(name: str | os.PathLike, revision: str | None = None) -> Path:
    """Return the folder or file of a model; that of a name on the Hub is fetched.

    Args:
      name: A folder or file, or a name on the Hub.
      revision: The branch, tag or commit; None: that of NAME@REVISION, or the main branch.

    Raises:
      OSError: If a name is neither here nor on the Hub, or if what it needs cannot be fetched.
      ValueError: If there is no such name to have a revision, or if it has two, or if the
        architecture is not supported.
    """
    repository = _repository(name, revision)
    if repository is None:
        return Path(name)
    with _only_errors_logged():
        if config := repository.fetch(PUBLISHED):
            huggingface.find(huggingface.read_config(config.parent))  # before gigabytes are fetched
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
    with _only_errors_logged():
        if folder := _fetch_tokenizer(repository):
            return folder
        expected = ", ".join(" with ".join(names) for names in tokenizer_folder.FILES)
        raise repository.lacks(f"a tokenizer: looked for {expected}")


def _repository(name: str | os.PathLike, revision: str | None = None) -> "_Repository | None":
    """Return the repository that a name stands for, or None for a folder or file."""
    match = NAME.fullmatch(name) if isinstance(name, str) and not os.path.lexists(name) else None
    if match is None:
        if revision is not None:
            raise ValueError(f"{name} is no name on the Hub, so it has no revision {revision!r}")
        return None
    if revision is not None and match["revision"] is not None:
        raise ValueError(f"{name} names a revision: leave out revision={revision!r}")
    return _Repository(match["repository"], revision or match["revision"] or "main")


def _fetch_tokenizer(repository: "_Repository") -> Path | None:
    """Fetch the tokenizer that would be read, and return its folder, or None."""
    for names in tokenizer_folder.FILES:
        if all(repository.fetch(name) for name in names):
            for name in tokenizer_folder.SETTINGS:
                repository.fetch(name)
            return repository.folder
    return None


def _fetch_weights(repository: "_Repository") -> None:
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


class _Repository:
    """A repository on the Hub, at the commit that its revision had when it was first asked."""

    def __init__(self, name: str, revision: str):
        from huggingface_hub import constants  # imported where it is needed: few calls do

        self.name, self.revision = name, revision
        self.endpoint, self.cache = constants.ENDPOINT, constants.HF_HUB_CACHE
        self.commit: str | None = None
        self.folder: Path | None = None  # in the cache, of the files of the commit
        self.unreachable: Exception | None = None  # why only the cache is used

    def fetch(self, file: str) -> Path | None:
        """Return a file in the cache, or None if it is not in the repository.

        If the Hub cannot be reached, None also means that it is not in the cache.

        Raises:
          OSError: If the Hub refuses, or the connection breaks.
        """
        import huggingface_hub
        from huggingface_hub.errors import EntryNotFoundError

        if self.commit is None and self.unreachable is None:
            self._reach(file)
        revision = self.commit or self.revision
        cached = huggingface_hub.try_to_load_from_cache(self.name, file, revision=revision)
        if self.commit and cached is not None and not isinstance(cached, str):
            return None  # known to be missing
        try:
            path = huggingface_hub.hf_hub_download(
                self.name, file, revision=revision, local_files_only=self.unreachable is not None
            )
        except EntryNotFoundError as error:
            if self.unreachable is not None or _status(error) == 404:
                return None
            raise self._failure(error.__cause__ or error) from None
        except Exception as error:
            raise self._failure(error) from None
        self.folder = Path(path).parents[file.count("/")]
        self.commit = self.folder.name
        return Path(path)

    def fetch_folder(self, folder: str) -> None:
        """Fetch all files of a folder, which needs a list of them."""
        import huggingface_hub

        if self.unreachable is not None:
            return
        try:
            about = huggingface_hub.HfApi().model_info(self.name, revision=self.commit)
        except Exception as error:
            raise self._failure(error) from None
        files = [file.rfilename for file in about.siblings or ()]
        files = [file for file in files if file.startswith(f"{folder}/")]
        if not files:
            raise self.lacks(f"{folder}/")
        for file in files:
            self.fetch(file)

    def lacks(self, what: str) -> OSError:
        """Return the error of a file that is needed and not there."""
        if self.unreachable is not None:
            return self._failure(self.unreachable)
        where = f"on the Hub ({self._url()}) it lacks"
        return FileNotFoundError(f"{self.name} is not a folder here, and {where} {what}")

    def _reach(self, file: str) -> None:
        """Ask once for a file, without the many attempts of a download, if the Hub is there.

        Raises:
          OSError: If the Hub refuses.
        """
        import huggingface_hub
        from huggingface_hub import errors

        of_repository = errors.RepositoryNotFoundError | errors.RevisionNotFoundError
        url = huggingface_hub.hf_hub_url(self.name, file, revision=self.revision)
        try:
            huggingface_hub.get_hf_file_metadata(url)
        except Exception as error:  # those of the connection are of a library of huggingface_hub
            status = _status(error)
            if status is None or status == 429 or status >= 500:
                self.unreachable = error
            elif status != 404 or isinstance(error, of_repository):
                raise self._failure(error) from None

    def _url(self) -> str:
        revision = "" if self.revision == "main" else f"/tree/{self.revision}"
        return f"{self.endpoint}/{self.name}{revision}"

    def _failure(self, error: BaseException) -> OSError:
        """Return an error of huggingface_hub, which has many lines, as one line."""
        from huggingface_hub import errors

        here = f"{self.name} is not a folder here, and"
        if isinstance(error, errors.OfflineModeIsEnabled):
            return FileNotFoundError(
                f"{here} not in the cache {self.cache}: unset HF_HUB_OFFLINE to fetch it"
            )
        if isinstance(error, errors.GatedRepoError):
            return PermissionError(
                f"{here} gated on the Hub: ask for access at {self._url()}, and set HF_TOKEN"
            )
        if isinstance(error, errors.RepositoryNotFoundError):
            return FileNotFoundError(
                f"{here} not on the Hub ({self._url()}); if it is private, set HF_TOKEN"
            )
        if isinstance(error, errors.RevisionNotFoundError):
            return FileNotFoundError(f"{here} on the Hub it has no revision {self.revision!r}")
        status = _status(error)
        if status in (401, 403):
            return PermissionError(
                f"{here} the Hub ({self._url()}) refuses the token: set HF_TOKEN to one that may read it"
            )
        if isinstance(error, OSError) and error.errno is not None:  # such as a full disk
            return error
        reason = f"status {status}" if status else str(error).strip().partition("\n")[0]
        return OSError(
            f"{here} the Hub cannot be reached ({self._url()}): {reason or type(error).__name__}"
        )


def _status(error: BaseException) -> int | None:
    """Return the HTTP status of an answer that became an error or its cause, or None."""
    for each in (error, error.__cause__):
        response: Any = getattr(each, "response", None)
        if response is not None:
            return response.status_code
    return None


@contextlib.contextmanager
def _only_errors_logged() -> Iterator[None]:
    """Keep huggingface_hub from logging advice and attempts; errors are raised as one line."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
