"""Texts with two or more endings, or questions with answers, of which one is right."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from train.data.examples.tables import (
    UNLABELLED,
    Examples,
    Row,
    group_field,
    read_rows,
    refuse,
    text_of,
)

# Known names of fields. In SWAG, "sent2" begins every ending.
CONTEXTS = ("sent1", "context", "startphrase", "premise", "article", "question", "ctx")
ENDINGS = ("endings", "choices", "options", "answers")
NUMBERED = re.compile(r"(?:ending|choice|option|answer)_?(\d+)")
LABELS = ("label", "gold", "answer", "correct")


class Choice(NamedTuple):
    """A text, its endings, and the number of the right one."""

    context: str
    endings: tuple[str, ...]
    label: int
    group: str = ""  # the value of the column that groups examples


def read_choices(
    path: Path, columns: Mapping[str, str], skipped: list[str] | None = None
) -> Examples:
    """Return the `Choice`s of a table or of JSON objects: UTF-8, plain or `.gz`.

    The text is in the column `columns["text"]` or one of `CONTEXTS`. The endings are a list in
    JSON, in one of `ENDINGS`, or in columns such as "ending0", "ending1" and so on. The label is
    the number of the right ending from 0, or its text. Rows without a label are dropped.

    Raises:
      FileNotFoundError: If the file does not exist.
      ValueError: If a column is missing, or the label or the number of endings is wrong.
    """
    return from_rows(read_rows(path, columns, skipped), str(path), columns, skipped)


def from_rows(
    rows: Iterable[Row],
    source: str,
    columns: Mapping[str, str],
    skipped: list[str] | None = None,
) -> Examples:
    """Return the `Choice`s of the rows of a source, as `read_choices` does."""
    examples: list[Choice] = []
    unlabelled = 0
    for location, row in rows:
        context = _field(row, location, "text", columns, CONTEXTS)
        label = text_of(row[_field(row, location, "label", columns, LABELS)])
        group = [text_of(row[name]) for name in group_field(row, location, columns).values()]
        if label in UNLABELLED or label == "-1":
            unlabelled += 1
            continue
        prefix = f"{row['sent2']} " if context == "sent1" and row.get("sent2") else ""
        endings = tuple(prefix + ending for ending in _endings(row, location))
        if not (isinstance(row[context], str) and row[context].strip() and all(endings)):
            refuse(f"{location} has an empty text or ending: remove the row", skipped)
            continue
        if examples and len(endings) != len(examples[0].endings):
            raise ValueError(
                f"{location} has {len(endings)} endings, but the first row has "
                f"{len(examples[0].endings)}: all must have the same number"
            )
        texts = [ending[len(prefix) :] for ending in endings]
        number = int(label) if label.isdecimal() else texts.index(label) if label in texts else -1
        if not 0 <= number < len(endings):
            raise ValueError(
                f"{location} has the label {label!r}, which is neither one of its endings nor a "
                f"number from 0 to {len(endings) - 1}"
            )
        examples.append(Choice(row[context], endings, number, *group))
    count = len(examples) + unlabelled
    if not examples:
        raise ValueError(
            f"none of the {count} rows of {source} has a label" if count else f"no rows in {source}"
        )
    note = f"{unlabelled} of the {count} rows of {source} have no label and are dropped"
    return Examples(tuple(examples), (note,) if unlabelled else ())


def _field(
    row: Mapping[str, Any], location: str, role: str, columns: Mapping[str, str], known: tuple
) -> str:
    names = (columns[role],) if role in columns else known
    field = next((name for name in names if name in row), None)
    if field is None:
        raise ValueError(
            f"{location} has no field {' or '.join(names)}, but {', '.join(row)}: name it with "
            f"--columns {role}=NAME"
        )
    return field


def _endings(row: Mapping[str, Any], location: str) -> list[str]:
    listed = next((row[name] for name in ENDINGS if isinstance(row.get(name), list)), None)
    if listed is None:
        matches = ((NUMBERED.fullmatch(name), ending) for name, ending in row.items())
        numbered = {int(match[1]): ending for match, ending in matches if match}
        listed = [numbered[number] for number in sorted(numbered)]
    if len(listed) < 2:
        raise ValueError(
            f"{location} has no two endings: use a list in {' or '.join(ENDINGS)}, or columns like "
            "ending0 and ending1"
        )
    return [text_of(ending) for ending in listed]
