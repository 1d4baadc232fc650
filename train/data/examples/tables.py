"""Labelled texts and pairs of texts from a file: one example per row or JSON object.

`tagged` reads sentences with a label per word, `squad` reads questions about a text, and `tfds`
reads all of these from TensorFlow Datasets.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from train.data.sources import text

Row = tuple[str, dict[str, Any]]  # its location, such as "line 3 of FILE", and its fields

KNOWN = {  # column names in public datasets, in lower case
    "text": (
        *("sentence", "text", "sentence1", "premise", "question", "question1", "#1 string"),
        *("sentence_a", "review"),
    ),
    "pair": ("sentence2", "hypothesis", "pair", "question2", "#2 string", "sentence_b", "text2"),
    "label": (
        *("label", "score", "gold_label", "similarity", "class", "quality", "relatedness_score"),
        *("entailment_judgment", "stars"),
    ),
}
UNLABELLED = ("", "-")  # SNLI writes "-" where its annotators disagree


class Examples(NamedTuple):
    """The examples of a file or dataset, and notes on what was changed or dropped."""

    examples: tuple
    notes: tuple[str, ...] = ()


class TextExample(NamedTuple):
    """A text or a pair of texts, and its label as written in the file; None: unlabelled."""

    text: str
    pair: str | None
    label: str | None
    group: str = ""  # the value of the column that groups examples


def read_texts(
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    skipped: list[str] | None = None,
) -> Examples:
    """Return the `TextExample`s of a table or of JSON objects: UTF-8, plain or `.gz`.

    A `.csv` has commas and quotes, a `.jsonl` or `.json` one object per line, and any other file
    tabs and no quoting, as in GLUE. The first line of a table is a header if it contains a known
    name or one of `columns`; otherwise the columns are named by their numbers: "1", "2" and so on.

    The examples are pairs if there is a column for the pair: the one that `columns` names, or one
    with a known name unless `columns` names only a text. Rows whose label is empty or "-" are
    dropped.

    Args:
      path: The file.
      columns: The columns or fields of "text", "pair" and "label", if their names are not in
        `KNOWN`, and of "group" to read one.
      skipped: Where the reasons go for which rows are skipped: another number of columns, or an
        empty text. None: such a row is an error.

    Raises:
      FileNotFoundError: If the file does not exist.
      ValueError: If the file is not UTF-8, a `.gz` is truncated, a column is missing or ambiguous,
        a row has more or fewer columns than the first, a text is empty, or no row has a label.
    """
    path, columns = Path(path), columns or {}
    return from_rows(read_rows(path, columns, skipped), str(path), columns, skipped)


def read_rows(
    path: Path, columns: Mapping[str, str], skipped: list[str] | None = None
) -> Iterator[Row]:
    """Return the rows of a table or of JSON objects, as `read_texts` reads them."""
    if suffix(path) in (".jsonl", ".json"):
        return objects(path, skipped)
    return _table(path, columns, skipped)


def refuse(reason: str, skipped: list[str] | None) -> None:
    """Raise ValueError with the reason against a row, or keep the reason if rows are skipped."""
    if skipped is None:
        raise ValueError(reason)
    skipped.append(reason)


def parse_columns(settings: Sequence[str]) -> dict[str, str]:
    """Return the column of each role, from settings such as "label=Quality"."""
    pairs = [setting.partition("=")[::2] for setting in settings]
    if twice := repeated(role for role, _ in pairs):
        raise ValueError(f"--columns has {twice}= twice: leave out one of them")
    columns = dict(pairs)
    invalid = [role for role, column in columns.items() if role not in KNOWN or not column]
    if invalid:
        raise ValueError(
            f"--columns {invalid[0]}: use ROLE=COLUMN, where ROLE is one of {', '.join(KNOWN)}"
        )
    return columns


def from_rows(
    rows: Iterable[Row],
    source: str,
    columns: Mapping[str, str],
    skipped: list[str] | None = None,
) -> Examples:
    """Return the `TextExample`s of the rows of a source, as `read_texts` does."""
    fields: dict[str, str] = {}
    examples, unlabelled = [], 0
    for location, row in rows:
        fields = fields or roles_of(row, source, columns)
        if missing := [field for field in fields.values() if field not in row]:
            raise ValueError(f"{location} has no field {missing[0]!r}, but the first row has it")
        label = text_of(row[fields["label"]])
        if label.lower() == "nan":
            raise ValueError(
                f"{location} has the label {label!r}, a missing value: remove the row, or leave "
                "its label empty"
            )
        if label in UNLABELLED:
            unlabelled += 1
            continue
        if empty := empty_text(row, location, fields):
            refuse(empty, skipped)
            continue
        text, pair, group = texts_of(row, fields)
        examples.append(TextExample(text, pair, label, group))
    count = len(examples) + unlabelled
    if not examples:
        raise ValueError(
            f"none of the {count} rows of {source} has a label" if count else f"no rows in {source}"
        )
    note = f"{unlabelled} of the {count} rows of {source} have no label and are dropped"
    return Examples(tuple(examples), (note,) if unlabelled else ())


def empty_text(row: Mapping[str, Any], location: str, fields: Mapping[str, str]) -> str | None:
    """Return which text of a row is none, given the field of each role, or None."""
    for role in ("text", "pair"):
        content = row[fields[role]] if role in fields else "none is needed"
        if not isinstance(content, str) or not content.strip():
            return f"{location} has no text in {fields[role]!r}: remove the row"
    return None


def texts_of(row: Mapping[str, Any], fields: Mapping[str, str]) -> tuple[str, str | None, str]:
    """Return the text, the second text and the group of a row, given the field of each role."""
    group = text_of(row[fields["group"]]) if "group" in fields else ""
    return row[fields["text"]], row[fields["pair"]] if "pair" in fields else None, group


def text_of(value: Any) -> str:
    """Return a field as text: numbers and booleans in JSON notation, "" for None."""
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value)


def roles_of(
    row: dict, source: str, columns: Mapping[str, str], roles: Sequence[str] = ("text", "label")
) -> dict[str, str]:
    """Return the field of each role in the examples."""
    roles = [*roles]
    if "pair" in columns or ("text" not in columns and _candidates(row, "pair", columns)):
        roles.insert(1, "pair")
    group = group_field(row, source, columns)
    return {role: _field(row, role, source, roles, columns) for role in roles} | group


def group_field(row: Mapping[str, Any], source: str, columns: Mapping[str, str]) -> dict[str, str]:
    """Return {"group": field} if a column of groups is named.

    Raises:
      ValueError: If the row has no such field.
    """
    if "group" not in columns:
        return {}
    if columns["group"] not in row:
        raise ValueError(
            f"--group {columns['group']}: {source} has no such column, but {', '.join(row)}"
        )
    return {"group": columns["group"]}


def _candidates(row: dict, role: str, columns: Mapping[str, str]) -> list[str]:
    if role in columns:
        return [field for field in row if field == columns[role]]
    return [field for field in row if field.strip().lower() in KNOWN[role]]


def _field(row: dict, role: str, source: str, roles, columns: Mapping[str, str]) -> str:
    candidates = _candidates(row, role, columns)
    if len(candidates) == 1:
        return candidates[0]
    fields = ", ".join(f"{field} ({str(value)[:20]!r})" for field, value in row.items())
    raise ValueError(
        f"{source} has {'multiple columns' if candidates else 'no column'} for the {role}: choose "
        f"from {fields} with --columns {' '.join(f'{name}=NAME' for name in roles)}"
    )


def repeated(names: Iterable[str]) -> str | None:
    """Return the first name that occurs more than once, or None."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def suffix(path: Path) -> str:
    """Return the suffix that determines the format: ".tsv" for "a.tsv.gz"."""
    return path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix


def lines(path: Path) -> list[str]:
    r"""Return all lines of a file without their endings: "\n" or "\r\n".

    A lone "\r" is part of a line, unless the file has no other endings.
    """
    content = _content(path)
    return re.split(r"\r?\n" if "\n" in content else r"\r", content) if content else []


def _content(path: Path) -> str:
    return "".join(text.blocks(path)).rstrip("\r\n")


def objects(path: Path, skipped: list[str] | None = None) -> Iterator[Row]:
    """Yield the rows of a file with one JSON object per line.

    Raises:
      ValueError: If a line is not a JSON object.
    """
    for number, line in enumerate(lines(path), 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            refuse(f"line {number} of {path} is not a JSON object: write one per line", skipped)
            continue
        yield f"line {number} of {path}", row


def _table(path: Path, columns: Mapping[str, str], skipped: list[str] | None) -> Iterator[Row]:
    if suffix(path) == ".csv":
        rows = _quoted(path)
    else:
        rows = ((number, line.split("\t")) for number, line in enumerate(lines(path), 1))
    number, first = next(rows, (0, []))
    names = first
    requested = {column for column in columns.values() if not column.isdecimal()}
    known = set(chain.from_iterable(KNOWN.values()))
    if number and not (requested & set(first) or known & {cell.strip().lower() for cell in first}):
        names = [str(column) for column, _ in enumerate(first, 1)]
        yield f"line {number} of {path}", dict(zip(names, first, strict=True))
    if twice := repeated(names):
        raise ValueError(f"line {number} of {path} names the column {twice!r} twice: rename one")
    for number, row in rows:
        if len(row) != len(names):
            refuse(
                f"line {number} of {path} has {len(row)} columns, "
                f"but the first row has {len(names)}",
                skipped,
            )
            continue
        yield f"line {number} of {path}", dict(zip(names, row, strict=True))


def _quoted(path: Path) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(_content(path), newline=""), strict=True)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num} of {path} is not CSV: {error}") from error
