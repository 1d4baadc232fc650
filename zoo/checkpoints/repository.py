"""A repository on the Hugging Face Hub: its files, fetched into the cache by huggingface_hub.

That library is imported where it is needed, as few programs need it. Its errors have many lines,
and those of the connection are of another library; here, each becomes an OSError of one line.
"""

import contextlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COMMIT = re.compile("[0-9a-f]{40}")


class Repository:
    """A repository on the Hub, at the commit that its revision had when it was first asked."""

    def __init__(self, name: str, revision: str):
        from huggingface_hub import constants

        self.name, self.revision = name, revision
        self.endpoint, self.cache = constants.ENDPOINT, constants.HF_HUB_CACHE
        self.commit = revision if COMMIT.fullmatch(revision) else None
        self.folder: Path | None = None  # in the cache, with the files of the commit
        self.was_asked = False
        self.unreachable: Exception | None = None  # why only the cache is used

    def fetch(self, file: str) -> Path | None:
        """Return a file in the cache, or None if it is not in the repository.

        If the Hub cannot be reached, None also means that it is not in the cache.

        Raises:
          OSError: If the Hub refuses, or the connection breaks.
        """
        import huggingface_hub
        from huggingface_hub.errors import EntryNotFoundError

        if self.commit is not None:
            cached = huggingface_hub.try_to_load_from_cache(self.name, file, revision=self.commit)
            if cached is not None:  # if it is no path, the file is known to be missing
                return self._found(cached, file) if isinstance(cached, str) else None
        if not self.was_asked:
            self._ask(file)
        try:
            path = huggingface_hub.hf_hub_download(
                self.name,
                file,
                revision=self.commit or self.revision,
                local_files_only=self.unreachable is not None,
            )
        except EntryNotFoundError as error:
            if self.unreachable is not None or _status(error) == 404:
                return None
            raise self._failure(error.__cause__ or error) from None
        except Exception as error:
            raise self._failure(error) from None
        return self._found(path, file)

    def _found(self, path: str, file: str) -> Path:
        """Keep the commit of the first file for those that follow."""
        self.folder = Path(path).parents[file.count("/")]
        self.commit = self.folder.name
        return Path(path)

    def fetch_folder(self, folder: str) -> None:
        """Fetch all files of a folder, of which the Hub has a list.

        Raises:
          OSError: As `fetch`; also if there are no such files.
        """
        import huggingface_hub

        files = []
        if self.unreachable is None:
            try:
                about = huggingface_hub.HfApi().model_info(self.name, revision=self.commit)
                files = [file.rfilename for file in about.siblings or ()]
            except Exception as error:
                self._check_unreachable(error)
        for file in files:
            if file.startswith(f"{folder}/"):
                self.fetch(file)
        if self.folder is None or not (self.folder / folder).is_dir():
            raise self.lacks(f"{folder}/")

    def lacks(self, what: str) -> OSError:
        """Return the error of a file that is needed and not there."""
        if self.unreachable is not None:
            return self._failure(self.unreachable)
        where = f"on the Hub ({self._url()}) it lacks"
        return FileNotFoundError(f"{self.name} is not a folder here, and {where} {what}")

    def _ask(self, file: str) -> None:
        """Ask for a file once, to find out whether the Hub is there: a download asks many times.

        Raises:
          OSError: If the Hub refuses.
        """
        import huggingface_hub
        from huggingface_hub import errors

        self.was_asked = True
        of_repository = errors.RepositoryNotFoundError | errors.RevisionNotFoundError
        url = huggingface_hub.hf_hub_url(self.name, file, revision=self.revision)
        try:
            huggingface_hub.get_hf_file_metadata(url)
        except Exception as error:
            if _status(error) != 404 or isinstance(error, of_repository):
                self._check_unreachable(error)

    def _check_unreachable(self, error: Exception) -> None:
        """Use only the cache from now on, or raise OSError if the Hub was reached and refused."""
        status = _status(error)
        if status is not None and status != 429 and status < 500:
            raise self._failure(error) from None
        self.unreachable = error

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
                f"{here} the Hub ({self._url()}) refuses the token: set another HF_TOKEN"
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
def only_errors_logged() -> Iterator[None]:
    """Keep huggingface_hub from logging advice and attempts; errors are raised as one line."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
