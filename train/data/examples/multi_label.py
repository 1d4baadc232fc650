"""Texts and pairs of texts that have any number of labels each."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from train.data.examples.tables import (
    Examples,
    Row,
    empty_text,
    read_rows,
    refuse,
    roles_of,
    text_of,
    texts_of,
)

LABELS = ("labels", "label", "categories", "classes")  # known names of a column with all labels
FLAGS = {"0": False, "1": True, "false": False, "true": True}


class LabelledText(NamedTuple):
    """A text or a pair of texts, and its labels."""

    text: str
    pair: str | None
    labels: tuple[str, ...]
    group: str = ""  # the value of the column that groups examples


def read_labelled_texts(
    path: Path, columns: Mapping[str, str], skipped: list[str] | None = None
) -> Examples:
    """Return the `LabelledText`s of a table or of JSON objects: UTF-8, plain or `.gz`.

    The labels of a text are in one column, `columns["label"]` or one of `LABELS`: a list in JSON,
    or a text with commas between labels. Otherwise every column that has only 0 and 1 is a label.

    Raises:
      FileNotFoundError: If the file does not exist.
      ValueError: As `tables.read_texts`, or if no text has a label.
    """
    return from_rows(read_rows(path, columns, skipped), str(path), columns, skipped)


def from_rows(
    rows: Iterable[Row],
    source: str,
    columns: Mapping[str, str],
    skipped: list[str] | None = None,
) -> Examples:
    """Return the `LabelledText`s of the rows of a source, as `read_labelled_texts` does."""
    rows = list(rows)
    if not rows:
        raise ValueError(f"no rows in {source}")
    first = rows[0][1]
    named = columns.get("label") or next(
        (field for field in first if field.strip().lower() in LABELS), None
    )
    others = {role: column for role, column in columns.items() if role != "label"}
    fields = roles_of(first, source, others, ("text",))
    for location, row in rows:
        if missing := [field for field in first if field not in row]:
            raise ValueError(f"{location} has no field {missing[0]!r}, but the first row has it")
    flags = [
        field
        for field in first
        if field not in fields.values() and all(_flag(row[field]) is not None for _, row in rows)
    ]
    if named is not None and named not in first:
        raise ValueError(f"{source} has no column {named!r} for the label, but {', '.join(first)}")
    if named is None and not flags:
        raise ValueError(
            f"{source} has no labels: name the column that has them with --columns label=NAME, or "
            "give one column with 0 or 1 for each label"
        )
    examples = []
    for location, row in rows:
        if empty := empty_text(row, location, fields):
            refuse(empty, skipped)
            continue
        text, pair, group = texts_of(row, fields)
        labels = (
            tuple(field for field in flags if _flag(row[field]))
            if named is None
            else _split(row[named])
        )
        examples.append(LabelledText(text, pair, labels, group))
    if not any(example.labels for example in examples):
        raise ValueError(f"none of the {len(rows)} rows of {source} has a label")
    return Examples(tuple(examples))


def _flag(value: Any) -> bool | None:
    return FLAGS.get(text_of(value).lower()) if isinstance(value, str | int | bool) else None


def _split(value: Any) -> tuple[str, ...]:
    names = [text_of(x) for x in value] if isinstance(value, list) else text_of(value).split(",")
    return tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
