"""Pairs of texts in the forms that the commands take them."""

from collections.abc import Sequence
from pathlib import Path

from train.data.sources import parallel_text
from train.data.sources.parallel_text import PairSource


def pairs(files: Sequence[Path], fields: tuple[str, str] | None = None) -> PairSource:
    """Return the pairs of two line files, or of one .tsv or .jsonl.

    Args:
      files: The files.
      fields: Which fields of a .jsonl are source and target.

    Raises:
      ValueError: For more files, or fields of files that have none.
    """
    if len(files) > 2:
        raise ValueError(f"pairs stand in two files of lines or in one table, not in {len(files)}")
    if len(files) == 2:
        if fields:
            raise ValueError("--fields are for a .jsonl, which holds both sides")
        return parallel_text.lines(*files)
    (file,) = files
    return parallel_text.table(file, fields)
