"""Labelled examples from TensorFlow Datasets, read without TensorFlow.

Labels are class names. All functions raise the errors of `sources.tfds.rows` and of the
corresponding functions for files.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from train.data.examples import choices, multi_label, squad, tables, tagged
from train.data.examples.tables import Examples, Row
from train.data.sources import tfds


def read_texts(
    name: str, split: str, columns: Mapping[str, str], data_dir: Path | None = None
) -> Examples:
    """Return the `TextExample`s of a split; `columns` names features, as in `tables.read_texts`."""
    return tables.from_rows(_rows(name, split, data_dir), f"{name} ({split})", columns)


def read_labelled_texts(
    name: str, split: str, columns: Mapping[str, str], data_dir: Path | None = None
) -> Examples:
    """Return the `LabelledText`s of a split, as `multi_label.read_labelled_texts` does."""
    return multi_label.from_rows(_rows(name, split, data_dir), f"{name} ({split})", columns)


def read_choices(
    name: str, split: str, columns: Mapping[str, str], data_dir: Path | None = None
) -> Examples:
    """Return the `Choice`s of a split, as `choices.read_choices` does."""
    return choices.from_rows(_rows(name, split, data_dir), f"{name} ({split})", columns)


def read_tagged(
    name: str,
    split: str,
    columns: Mapping[str, str] | None = None,
    data_dir: Path | None = None,
) -> Examples:
    """Return the `TaggedSentence`s of a split; `columns` names features."""
    return tagged.from_rows(_rows(name, split, data_dir), f"{name} ({split})", columns or {})


def read_questions(
    name: str, split: str, group: str | None = None, data_dir: Path | None = None
) -> Examples:
    """Return the `Question`s of a split, such as those of "squad"."""
    return squad.from_rows(_rows(name, split, data_dir), f"{name} ({split})", group)


def _rows(name: str, split: str, data_dir: Path | None) -> Iterator[Row]:
    rows = tfds.rows(name, split, data_dir)
    return ((f"example {number} of {name} ({split})", row) for number, row in enumerate(rows))
