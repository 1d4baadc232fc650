"""Sentences whose words have labels, such as parts of speech or names, from a file."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from train.data.examples.tables import Examples, Row, lines, objects, suffix

WORDS = ("words", "tokens")
LABELS = ("labels", "tags", "ner_tags")


class Tagged(NamedTuple):
    """The words of a sentence and as many labels, the strings that the file has."""

    words: tuple[str, ...]
    labels: tuple[str, ...] | None


def tagged(path, column: str | None = None) -> Examples:
    """The `Tagged` sentences of a file, UTF-8, by its suffix; also as `.gz`.

    A `.conllu` is CoNLL-U, of which multi-word ranges and empty nodes are skipped; `column`, by
    default "4", has the universal parts of speech. A `.jsonl` or `.json` has an object a line, with
    a list of words and a list of labels in the field `column`, by default one of `LABELS`. Any
    other file has a word a line, with columns between tabs or blanks: the word first, the label in
    `column`, counted from 1, or else in the last; a blank line ends a sentence. Where there are
    words alone, the labels are None.

    Raises FileNotFoundError for a file that is not there; ValueError for bytes that are not UTF-8,
    a `.gz` that is cut short, a line with more or fewer columns than the first, labels that do not
    match their words, and where there are no sentences.
    """
    path = Path(path)
    if suffix(path) in (".jsonl", ".json"):
        return of_rows(objects(path), path, column)
    if column is not None and not re.fullmatch("[1-9][0-9]*", column):
        raise ValueError(f"{path} has columns with numbers from 1, and {column!r} is none")
    if suffix(path) == ".conllu":
        found = _sentences(path, 2, int(column or 4), re.compile(r"#|\d+[-.]\d").match)
    else:
        found = _sentences(path, 1, int(column or 0), re.compile("-DOCSTART-").match)
    return _some(found, path)


def of_rows(rows: Iterable[Row], name, column: str | None) -> Examples:
    """The `Tagged` sentences of rows of whatever is called `name`; the rest is that of `tagged`."""
    return _some(_lists(rows, name, column), name)


def _some(found: Iterator[Tagged], name) -> Examples:
    examples = tuple(found)
    if not examples:
        raise ValueError(f"no sentences in {name}")
    return Examples(examples)


def _sentences(path: Path, word: int, label: int, skipped: Callable) -> Iterator[Tagged]:
    """Sentences from columns counted from 1; a label of 0 is the last column."""
    words, labels, width = [], [], 0
    for number, line in enumerate([*lines(path), ""], 1):
        if skipped(line):
            continue
        if not line.strip(" \t"):
            if words:
                yield Tagged(tuple(words), tuple(labels) if width > 1 else None)
            words, labels = [], []
            continue
        cells = line.split("\t" if "\t" in line else None)
        width = width or len(cells)
        if len(cells) != width:
            raise ValueError(
                f"line {number} of {path} has {len(cells)} columns, its first word has {width}"
            )
        if max(word, label) > width:
            raise ValueError(f"{path} has {width} columns: there is no column {max(word, label)}")
        if not (cells[word - 1] and cells[label - 1]):
            raise ValueError(f"line {number} of {path} lacks its word or its label")
        words.append(cells[word - 1])
        labels.append(cells[label - 1])


def _lists(rows: Iterable[Row], name, column: str | None) -> Iterator[Tagged]:
    """Sentences from fields that are lists; all have labels, or none has."""
    fields = ()
    for place, row in rows:
        fields = fields or _fields(row, name, column)
        lists = [row.get(field) for field in fields]
        words, labels = lists[0], lists[-1]
        if not words or not all(isinstance(each, list) for each in lists):
            raise ValueError(f"{place} has no list in {' or in '.join(fields)}")
        if len(labels) != len(words):
            raise ValueError(
                f"{place} has tags that do not match their words: {len(labels)} and {len(words)}"
            )
        yield Tagged(tuple(words), tuple(map(str, labels)) if len(fields) > 1 else None)


def _fields(row: dict, name, column: str | None) -> list[str]:
    """The field of the words, and that of the labels if there is one."""
    words, labels = (
        [field for field in names if field in row]
        for names in (WORDS, [column] if column else LABELS)
    )
    if not words or (column and not labels):
        wanted = WORDS if not words else [column]
        raise ValueError(f"{name} has the fields {', '.join(row)}: none is {' or '.join(wanted)}")
    return [*words[:1], *labels[:1]]
