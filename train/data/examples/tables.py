"""Examples of a task from a file: a text or two and their label, a row or an object a line.

`tagged` has sentences whose words have labels, `questions` questions to a text, and `prepared` all
of these from TensorFlow Datasets.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from train.data.sources import text

Row = tuple[str, dict[str, Any]]  # where it stands, as in "line 3 of FILE", and its fields

KNOWN = {  # how public datasets call what has a role, in lower case
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
UNLABELLED = ("", "-")  # the second is what SNLI has where its annotators do not agree


class Examples(NamedTuple):
    """What a file holds, and what there is to say of it, a line each."""

    examples: tuple
    remarks: tuple[str, ...] = ()


class Text(NamedTuple):
    """One text, or two; `label` is the string that the file has."""

    text: str
    pair: str | None
    label: str | None


def texts(path, roles: tuple[str, ...], columns: dict[str, str] | None = None) -> Examples:
    """The `Text`s of a table or of objects, UTF-8, by the suffix of the file; also as `.gz`.

    A `.csv` has commas and quotes, a `.jsonl` or `.json` an object a line, and any other file tabs
    and no quoting, as GLUE has it. The first line of a table is a header where it has a known name
    or one of `columns`; else the columns are called by their numbers: "1", "2" and so on. A single
    column is the text.

    Args:
      roles: what every row must have, of "text", "pair" and "label"; the others are None. Rows
        whose label is empty or "-" are left out where a label is asked for.
      columns: role -> the name of its column or field, where it is none of `KNOWN`.

    Raises FileNotFoundError for a file that is not there; ValueError for bytes that are not UTF-8,
    a `.gz` that is cut short, a role without a column or with several, a row with more or fewer
    columns than the first, a text that is empty or none, and where no rows are left.
    """
    path, columns = Path(path), columns or {}
    if suffix(path) in (".jsonl", ".json"):
        return of_rows(objects(path), path, roles, columns)
    return of_rows(_table(path, columns), path, roles, columns)


def of_rows(rows: Iterable[Row], name, roles: tuple[str, ...], columns: dict) -> Examples:
    """The `Text`s of rows of whatever is called `name`; the rest is that of `texts`."""
    if unknown := set(columns) - set(KNOWN):
        raise ValueError(f"--columns knows {', '.join(KNOWN)}, not {', '.join(sorted(unknown))}")
    fields, found, unlabelled = {}, [], 0
    for place, row in rows:
        fields = fields or {role: _field(row, role, name, roles, columns) for role in roles}
        if missing := [field for field in fields.values() if field not in row]:
            raise ValueError(f"{place} has no field {missing[0]!r}, which the first row has")
        label = _label(row[fields["label"]]) if "label" in fields else None
        if label in UNLABELLED:
            unlabelled += 1
            continue
        sides = {role: row[field] for role, field in fields.items() if role != "label"}
        for role, side in sides.items():
            if not isinstance(side, str) or not side.strip():
                raise ValueError(f"{place} has no text in {fields[role]!r}: leave out the row")
        found.append(Text(sides["text"], sides.get("pair"), label))
    count = len(found) + unlabelled
    if not found:
        what = f"none of the {count} rows of {name} has a label" if count else f"no rows in {name}"
        raise ValueError(what)
    remark = f"{unlabelled} of the {count} rows of {name} have no label and are left out"
    return Examples(tuple(found), (remark,) if unlabelled else ())


def _label(value) -> str:
    """A label as a file has it: numbers and truth values as JSON writes them, "" for none."""
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value)


def _field(row: dict, role: str, name, roles, columns: dict) -> str:
    """The field of a role."""
    found = [
        field
        for field in row
        if (field == columns[role] if role in columns else field.strip().lower() in KNOWN[role])
    ]
    if role == "text" and len(row) == 1 and role not in columns:
        found = list(row)
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{field} ({str(value)[:20]!r})" for field, value in row.items())
    raise ValueError(
        f"{name} has {'several columns' if found else 'no column'} for the {role}; of {listed} "
        f"choose with --columns {' '.join(f'{each}=NAME' for each in roles)}"
    )


def suffix(path: Path) -> str:
    """The suffix that tells the format: that of "a.tsv.gz" is ".tsv"."""
    return path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix


def lines(path: Path) -> list[str]:
    r"""The lines of a whole file, without their ends "\n", "\r\n" or "\r", up to the last text."""
    content = _content(path)
    return re.split(r"\r\n|\n|\r", content) if content else []


def _content(path: Path) -> str:
    return "".join(text.blocks(path)).rstrip("\r\n")


def objects(path: Path) -> Iterator[Row]:
    """The rows of a file with a JSON object a line.

    Raises ValueError with the number of a line that is none.
    """
    for number, line in enumerate(lines(path), 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise ValueError(f"line {number} of {path} is not a JSON object: write one a line")
        yield f"line {number} of {path}", row


def _table(path: Path, columns: dict) -> Iterator[Row]:
    if suffix(path) == ".csv":
        rows = _quoted(path)
    else:
        rows = ((number, line.split("\t")) for number, line in enumerate(lines(path), 1))
    number, first = next(rows, (0, []))
    names = first
    chosen = {column for column in columns.values() if not column.isdecimal()}
    known = set(chain.from_iterable(KNOWN.values()))
    if number and not (chosen & set(first) or known & {cell.strip().lower() for cell in first}):
        names = [str(place) for place, _ in enumerate(first, 1)]
        yield f"line {number} of {path}", dict(zip(names, first, strict=True))
    for number, row in rows:
        if len(row) != len(names):
            raise ValueError(
                f"line {number} of {path} has {len(row)} columns, its first line has {len(names)}"
            )
        yield f"line {number} of {path}", dict(zip(names, row, strict=True))


def _quoted(path: Path) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(_content(path), newline=""), strict=True)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num} of {path} is not CSV: {error}") from error
