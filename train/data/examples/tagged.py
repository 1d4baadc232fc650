"""Sentences with a label per word, such as parts of speech or named entities, from a file."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from train.data.examples.tables import (
    Examples,
    Row,
    group_field,
    lines,
    objects,
    suffix,
    text_of,
)

WORDS = ("words", "tokens")
LABELS = ("labels", "tags", "ner_tags")


class TaggedSentence(NamedTuple):
    """The words of a sentence and their labels, or None: the strings of the file."""

    words: tuple[str, ...]
    labels: tuple[str, ...] | None
    group: str = ""  # the value of the field that groups sentences


def read_tagged(path: str | Path, column: str | None = None, group: str | None = None) -> Examples:
    """Return the `TaggedSentence`s of a file: UTF-8, plain or `.gz`.

    The suffix determines the format. A `.conllu` file is CoNLL-U; multi-word ranges and empty nodes
    are skipped. A `.jsonl` or `.json` file has one object per line, with a list of words and a list
    of labels. Any other file has one word per line, in columns separated by tabs or spaces with the
    word first; a blank line ends a sentence. If there are only words, the labels are None.

    Args:
      path: The file.
      column: The column of the labels. CoNLL-U: a column number, by default "4", the universal
        parts of speech. JSON: a field, by default one of `LABELS`. Other files: a column number
        counted from 1, by default the last.
      group: JSON: the field that groups sentences.

    Raises:
      FileNotFoundError: If the file does not exist.
      ValueError: If the file is not UTF-8, a `.gz` is truncated, a line has more or fewer columns
        than the first, the numbers of labels and words differ, or there are no sentences.
    """
    path = Path(path)
    if suffix(path) in (".jsonl", ".json"):
        return from_rows(objects(path), str(path), column, group)
    if group is not None:
        raise ValueError(f"--group {group}: {path} has no such column; it needs JSON lines")
    if column is not None and not re.fullmatch("[1-9][0-9]*", column):
        raise ValueError(f"{path} has numbered columns: {column!r} is not a number from 1 on")
    if suffix(path) == ".conllu":
        skipped = re.compile(r"#|\d+[-.]\d")
        return _examples(_sentences(path, 2, int(column or 4), skipped), str(path))
    return _examples(_sentences(path, 1, int(column or 0), re.compile("-DOCSTART-")), str(path))


def from_rows(
    rows: Iterable[Row], source: str, column: str | None, group: str | None = None
) -> Examples:
    """Return the `TaggedSentence`s of the rows of a source, as `read_tagged` does."""
    return _examples(_lists(rows, source, column, group), source)


def _examples(sentences: Iterator[TaggedSentence], source: str) -> Examples:
    examples = tuple(sentences)
    if not examples:
        raise ValueError(f"no sentences in {source}")
    return Examples(examples)


def _sentences(path: Path, word: int, label: int, skipped: re.Pattern) -> Iterator[TaggedSentence]:
    """Yield the sentences of columns counted from 1; a label of 0 is the last column."""
    words: list[str] = []
    labels: list[str] = []
    width = 0
    for number, line in enumerate([*lines(path), ""], 1):
        if skipped.match(line):
            continue
        if not line.strip(" \t"):
            if words:
                yield TaggedSentence(tuple(words), tuple(labels) if width > 1 else None)
            words, labels = [], []
            continue
        cells = line.split("\t" if "\t" in line else None)
        width = width or len(cells)
        if len(cells) != width:
            raise ValueError(
                f"line {number} of {path} has {len(cells)} columns, but the first word has {width}"
            )
        if max(word, label) > width:
            raise ValueError(f"{path} has {width} columns: there is no column {max(word, label)}")
        if not (cells[word - 1] and cells[label - 1]):
            raise ValueError(f"line {number} of {path} has no word or no label")
        words.append(cells[word - 1])
        labels.append(cells[label - 1])


def _lists(
    rows: Iterable[Row], source: str, column: str | None, group: str | None
) -> Iterator[TaggedSentence]:
    """Yield the sentences of rows with list fields; either all or none have labels."""
    fields: list[str] = []
    for location, row in rows:
        fields = fields or _fields(row, source, column)
        words, labels = row.get(fields[0]), row.get(fields[-1])
        if not (words and isinstance(words, list) and isinstance(labels, list)):
            raise ValueError(f"{location} has no list in {' or in '.join(fields)}")
        if len(labels) != len(words):
            raise ValueError(
                f"{location} has {len(labels)} labels for {len(words)} words: "
                "the numbers must agree"
            )
        columns = {} if group is None else {"group": group}
        of_group = [text_of(row[name]) for name in group_field(row, location, columns).values()]
        tags = tuple(map(str, labels)) if len(fields) > 1 else None
        yield TaggedSentence(tuple(words), tags, *of_group)


def _fields(row: dict, source: str, column: str | None) -> list[str]:
    """Return the field of the words and, if present, the field of the labels."""
    expected: tuple[str, ...] = (column,) if column else LABELS
    words, labels = ([field for field in names if field in row] for names in (WORDS, expected))
    if not words or (column and not labels):
        expected = WORDS if not words else expected
        raise ValueError(
            f"{source} has no field {' or '.join(expected)}: its fields are {', '.join(row)}"
        )
    return [*words[:1], *labels[:1]]
