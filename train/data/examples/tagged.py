"""Sentences with a label per word, such as parts of speech or named entities, from a file."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from train.data.examples.tables import (
    Examples,
    Row,
    group_field,
    lines,
    objects,
    refuse,
    suffix,
    text_of,
)
from zoo.inference.tag import SPANS

WORDS = ("words", "tokens")
LABELS = ("labels", "tags", "ner_tags")
# https://universaldependencies.org/format.html
CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
NO_WORD = re.compile(r"\d+[-.]\d")  # a multi-word range or an empty node
SETTING = re.compile(r"#\s*\S+\s*=")  # a comment such as "# sent_id = 1"
DOCUMENT = "-DOCSTART-"
NO_SCHEME = (
    "the labels mark no spans, as B-LOC, I-LOC and O do: every word is scored by itself, by "
    "accuracy"
)


class TaggedSentence(NamedTuple):
    """The words of a sentence and their labels, or None: the strings of the file."""

    words: tuple[str, ...]
    labels: tuple[str, ...] | None
    group: str = ""  # the value of the field that groups sentences


def read_tagged(
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    skipped: list[str] | None = None,
) -> Examples:
    """Return the `TaggedSentence`s of a file: UTF-8, plain or `.gz`.

    The suffix determines the format. A `.conllu` file is CoNLL-U; multi-word ranges and empty nodes
    are left out. A `.jsonl` or `.json` file has one object per line, with a list of words and a
    list of labels. Any other file has one word per line, in columns separated by tabs or, in lines
    without a tab, by spaces; a blank line or a "-DOCSTART-" ends a sentence, and a line before a
    sentence that begins with "#" and has other columns than the words is a comment. If there are
    only words, the labels are None.

    Args:
      path: The file.
      columns: The columns of the words ("text") and of the labels ("label"), by numbers from 1 or
        by the names of a first line. By default, the words are first and the labels last; in
        CoNLL-U, whose columns have the names of `CONLLU`, they are "form" and "upos". JSON: fields,
        by default one of `WORDS` and of `LABELS`, and the field of "group", which groups sentences.
      skipped: Where the reasons go for which sentences are skipped: a line with another number of
        columns, or without a word or a label. None: such a line is an error.

    Raises:
      FileNotFoundError: If the file does not exist.
      ValueError: If the file is not UTF-8, a `.gz` is truncated, there is no such column, the first
        column numbers the words, the numbers of labels and words differ, or there are no sentences.
    """
    path, columns = Path(path), columns or {}
    if suffix(path) in (".jsonl", ".json"):
        return from_rows(objects(path, skipped), str(path), columns)
    if group := columns.get("group"):
        raise ValueError(f"--group {group}: {path} has no such column; it needs JSON lines")
    sentences, notes = _sentences(path, columns, skipped)
    return _examples(sentences, str(path), notes)


def is_scheme(labels: Iterable[str]) -> bool:
    """Return whether labels mark spans, as B-LOC, I-LOC and O do, and those of other schemes."""
    return all(map(SPANS.fullmatch, labels))


def from_rows(rows: Iterable[Row], source: str, columns: Mapping[str, str]) -> Examples:
    """Return the `TaggedSentence`s of the rows of a source, as `read_tagged` does."""
    return _examples(_lists(rows, source, columns), source)


def _examples(
    sentences: Iterable[TaggedSentence], source: str, notes: tuple[str, ...] = ()
) -> Examples:
    examples = tuple(sentences)
    if not examples:
        raise ValueError(f"no sentences in {source}")
    labels = {label for example in examples for label in example.labels or ()}
    return Examples(examples, notes if is_scheme(labels) else (*notes, NO_SCHEME))


class _Line(NamedTuple):
    """A line of a file with columns: its number and its cells, of which blank lines have none."""

    number: int
    cells: tuple[str, ...]


def _sentences(
    path: Path, columns: Mapping[str, str], skipped: list[str] | None
) -> tuple[list[TaggedSentence], tuple[str, ...]]:
    """Return the sentences of a file with columns, and a note on its comments."""
    is_conllu = suffix(path) == ".conllu"
    has_header = not is_conllu and not all(name.isdecimal() for name in columns.values())
    read, comments = _without_comments(path, is_conllu, has_header)
    if not any(line.cells for line in read):
        return [], ()
    words = next(number for number, line in enumerate(read) if line.cells)
    header = [*CONLLU] if is_conllu else list(read[words].cells)
    places = {role: _place(name, header, path) for role, name in columns.items()}
    words += has_header
    width = len(read[words].cells) if words < len(read) else 0
    word = places.get("text", 1 if is_conllu else 0)
    label = places.get("label", 3 if is_conllu else width - 1)
    if width <= max(word, label) and width:
        raise ValueError(f"{path} has {width} columns: there is no column {max(word, label) + 1}")
    sentences = []
    for lines_of_one in _split(read[words:]):
        wrong = [reason for line in lines_of_one if (reason := _wrong(line, word, label, width))]
        if wrong:
            refuse(f"line {wrong[0][0]} of {path} {wrong[0][1]}", skipped)
            continue
        cells = [line.cells for line in lines_of_one]
        labels = tuple(of_word[label] for of_word in cells) if width > 1 else None
        sentences.append(TaggedSentence(tuple(of_word[word] for of_word in cells), labels))
    if "text" not in columns and not is_conllu and width > 2 and _are_numbers(sentences):
        raise ValueError(
            f"the first column of {path} numbers the words: name that of the words, such as "
            "--columns text=2"
        )
    count = f"{comments} lines of {path} that begin with # are comments and are left out"
    return sentences, (count,) if comments and not is_conllu else ()


def _without_comments(path: Path, is_conllu: bool, has_header: bool) -> tuple[list[_Line], int]:
    """Return the lines of a file with columns but comments, and the number of comments.

    A line has no cells where a sentence ends.
    """
    cells = [(line, _cells(line)) for line in lines(path)]
    plain = (len(columns) for line, columns in cells if columns and not line.startswith("#"))
    width, read, comments = next(plain, 0), [_Line(0, ())], 0
    for number, (line, columns) in enumerate(cells, 1):
        if is_conllu:
            is_comment, is_left_out = line.startswith("#"), bool(NO_WORD.match(line))
        else:
            is_setting = SETTING.match(line) is not None
            is_comment = line.startswith("#") and (len(columns) != width or is_setting)
            is_comment &= not read[-1].cells or (has_header and len(read) == 2)
            is_left_out = False
        comments += is_comment
        if line.startswith(DOCUMENT) and not is_conllu:
            columns = ()
        if not (is_comment or is_left_out):
            read.append(_Line(number, columns))
    return read, comments


def _cells(line: str) -> tuple[str, ...]:
    """Return the columns of a line: between tabs, or else between spaces, and no other blanks."""
    if not line.strip(" \t"):
        return ()
    cells = line.split("\t") if "\t" in line else [cell for cell in line.split(" ") if cell]
    return tuple(cells)


def _split(read: Sequence[_Line]) -> Iterator[list[_Line]]:
    """Yield the lines of each sentence."""
    for has_cells, group in groupby(read, lambda line: bool(line.cells)):
        if has_cells:
            yield list(group)


def _place(name: str, header: list[str], path: Path) -> int:
    """Return the index of a column, given its name or its number from 1."""
    if re.fullmatch("[1-9][0-9]*", name):
        return int(name) - 1
    if header.count(name) != 1:
        raise ValueError(
            f"{path} has no column {name!r}: give a number from 1, or a name of its first line, "
            f"{' '.join(header)}"
        )
    return header.index(name)


def _wrong(line: _Line, word: int, label: int, width: int) -> tuple[int, str] | None:
    if len(line.cells) != width:
        return line.number, f"has {len(line.cells)} columns, but the first word has {width}"
    if not (line.cells[word] and line.cells[label]):
        return line.number, "has no word or no label"
    return None


def _are_numbers(sentences: Sequence[TaggedSentence]) -> bool:
    """Return whether the words of the first sentences are 1, 2, 3 and so on, or from 0 on."""
    first = [sentence.words for sentence in sentences[:3] if len(sentence.words) > 1]
    counts = lambda words: [str(number + int(words[0])) for number in range(len(words))]
    return bool(first) and all(
        words[0] in ("0", "1") and list(words) == counts(words) for words in first
    )


def _lists(
    rows: Iterable[Row], source: str, columns: Mapping[str, str]
) -> Iterator[TaggedSentence]:
    """Yield the sentences of rows with list fields; either all or none have labels."""
    fields: list[str] = []
    for location, row in rows:
        fields = fields or _fields(row, source, columns)
        words, labels = row.get(fields[0]), row.get(fields[-1])
        if not (words and isinstance(words, list) and isinstance(labels, list)):
            raise ValueError(f"{location} has no list in {' or in '.join(fields)}")
        if len(labels) != len(words):
            raise ValueError(
                f"{location} has {len(labels)} labels for {len(words)} words: "
                "the numbers must agree"
            )
        of_group = [text_of(row[name]) for name in group_field(row, location, columns).values()]
        tags = tuple(map(str, labels)) if len(fields) > 1 else None
        yield TaggedSentence(tuple(words), tags, *of_group)


def _fields(row: dict, source: str, columns: Mapping[str, str]) -> list[str]:
    """Return the field of the words and, if present, the field of the labels."""
    known = {"text": WORDS, "label": LABELS}
    fields = []
    for role, names in known.items():
        expected = (columns[role],) if role in columns else names
        field = next((name for name in expected if name in row), None)
        if field is None and (role == "text" or role in columns):
            raise ValueError(
                f"{source} has no field {' or '.join(expected)}: its fields are {', '.join(row)}"
            )
        fields += [] if field is None else [field]
    return fields
