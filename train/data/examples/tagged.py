"""Sentences whose words have labels, such as parts of speech or names, from a file."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from train.data.examples.tables import Examples, Row, lines, objects, suffix

WORDS = ("words", "tokens")
LABELS = ("labels", "tags", "ner_tags")


class TaggedSentence(NamedTuple):
    """The words of a sentence, and the label of each or None: the strings that the file has."""

    words: tuple[str, ...]
    labels: tuple[str, ...] | None


def read_tagged(path: str | Path, column: str | None = None) -> Examples:
    """Return the `TaggedSentence`s of a file, UTF-8, by its suffix; also as `.gz`.

    A `.conllu` is CoNLL-U, of which multi-word ranges and empty nodes are skipped. A `.jsonl` or
    `.json` has one object per line, with a list of words and a list of labels. Any other file has
    one word per line, with columns separated by tabs or blanks and the word first; a blank line
    ends a sentence. If there are words alone, the labels are None.

    Args:
      column: Where the labels are. In CoNLL-U the number of a column, by default "4", the universal
        parts of speech; in JSON a field, by default one of `LABELS`; in other files the number of
        a column from 1, by default the last.

    Raises:
      FileNotFoundError: If the file does not exist.
      ValueError: For bytes that are not UTF-8, a truncated `.gz`, a line with more or fewer columns
        than the first, labels that do not match their words, and if there are no sentences.
    """
    path = Path(path)
    if suffix(path) in (".jsonl", ".json"):
        return from_rows(objects(path), str(path), column)
    if column is not None and not re.fullmatch("[1-9][0-9]*", column):
        raise ValueError(f"{path} has columns with numbers from 1, and {column!r} is none")
    if suffix(path) == ".conllu":
        skipped = re.compile(r"#|\d+[-.]\d")
        return _examples(_sentences(path, 2, int(column or 4), skipped), str(path))
    return _examples(_sentences(path, 1, int(column or 0), re.compile("-DOCSTART-")), str(path))


def from_rows(rows: Iterable[Row], source: str, column: str | None) -> Examples:
    """Return the `TaggedSentence`s of the rows of a source, as `read_tagged` does."""
    return _examples(_lists(rows, source, column), source)


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
                f"line {number} of {path} has {len(cells)} columns, its first word has {width}"
            )
        if max(word, label) > width:
            raise ValueError(f"{path} has {width} columns: there is no column {max(word, label)}")
        if not (cells[word - 1] and cells[label - 1]):
            raise ValueError(f"line {number} of {path} lacks its word or its label")
        words.append(cells[word - 1])
        labels.append(cells[label - 1])


def _lists(rows: Iterable[Row], source: str, column: str | None) -> Iterator[TaggedSentence]:
    """Yield the sentences of fields that are lists; all have labels, or none has."""
    fields: list[str] = []
    for place, row in rows:
        fields = fields or _fields(row, source, column)
        words, labels = row.get(fields[0]), row.get(fields[-1])
        if not (words and isinstance(words, list) and isinstance(labels, list)):
            raise ValueError(f"{place} has no list in {' or in '.join(fields)}")
        if len(labels) != len(words):
            raise ValueError(
                f"{place} has tags that do not match their words: {len(labels)} and {len(words)}"
            )
        yield TaggedSentence(tuple(words), tuple(map(str, labels)) if len(fields) > 1 else None)


def _fields(row: dict, source: str, column: str | None) -> list[str]:
    """Return the field of the words, and that of the labels if there is one."""
    wanted: tuple[str, ...] = (column,) if column else LABELS
    words, labels = ([field for field in names if field in row] for names in (WORDS, wanted))
    if not words or (column and not labels):
        wanted = WORDS if not words else wanted
        raise ValueError(f"{source} has the fields {', '.join(row)}: none is {' or '.join(wanted)}")
    return [*words[:1], *labels[:1]]
