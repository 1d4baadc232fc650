"""Sources of text pairs, such as sentences and their translations.

A pair is two consecutive documents of a source: document 2i is the source text of pair i, document
2i + 1 its target. A corpus therefore tokenizes and stores pairs like any other text, with nothing
between the documents. All pairs are read once when their source is created, which takes a few
seconds per million pairs, so that a bad pair is reported before any work is done.
"""

import hashlib
import itertools
import json
import unicodedata
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, TypeVar

from train.data.sources import text
from train.data.sources.source import Source
from zoo import untrusted

Pair = tuple[str, str]
S = TypeVar("S", bound="PairSource")
P = TypeVar("P", bound="LineFiles | TabFile")

FIELDS = ("source", "target")  # of the objects of a .jsonl file
ALPHABET_PAIRS = 1000  # number of pairs read to compare the alphabets of both sides


class PairSource(Source):
    """Pairs of texts, each with at least one letter, number, punctuation mark or symbol."""

    kind: ClassVar[str] = "pairs"

    @property
    @abstractmethod
    def name(self) -> str:
        """The name of the pairs in messages."""

    @abstractmethod
    def pairs(self) -> Iterator[Pair]:
        """Yield the pairs in order."""

    @abstractmethod
    def location(self, number: int, side: int) -> str:
        """Return the location of side 0 or 1 of a pair, for messages."""

    def documents(self) -> Iterator[str]:
        return itertools.chain.from_iterable(self.pairs())

    @property
    def fingerprint(self) -> str:
        """The sha256 of all pairs; computing it reads and checks every pair."""
        return self._checked[0]

    @property
    def num_bytes(self) -> int:
        return self._checked[1]

    @cached_property
    def _checked(self) -> tuple[str, int]:
        """The fingerprint and the number of bytes."""
        digest, count, num_bytes = hashlib.sha256(), 0, 0
        for pair in self.pairs():
            for side, content in enumerate(pair):
                try:
                    encoded = _encode(content)
                except ValueError as error:
                    raise ValueError(f"{self.location(count, side)} {error}") from None
                digest.update(b"%d " % len(encoded))
                digest.update(encoded)
                num_bytes += len(encoded)
            count += 1
        if not count:
            raise ValueError(f"no pairs in {self.name}")
        return digest.hexdigest(), num_bytes


@dataclass(frozen=True)
class PairStrings(PairSource):
    """Pairs in memory."""

    contents: tuple[Pair, ...]
    name: ClassVar[str] = "an empty list"

    def pairs(self) -> Iterator[Pair]:
        return iter(self.contents)

    def location(self, number: int, side: int) -> str:
        return f"pairs[{number}][{side}]"


@dataclass(frozen=True)
class LineFiles(PairSource):
    """Two files in which line i of one corresponds to line i of the other."""

    source: Path
    target: Path

    @property
    def name(self) -> str:
        return f"{self.source} and {self.target}"

    def pairs(self) -> Iterator[Pair]:
        return (pair for pair in self.attempts() if not isinstance(pair, str))

    def attempts(self) -> Iterator[Pair | str]:
        """Yield every pair, or the reason why a line is none; two files have a pair per line."""
        files = _lines(self.source), _lines(self.target)
        for pair in itertools.zip_longest(*files):
            if None in pair:
                counts = [sum(1 for _ in _lines(path)) for path in (self.source, self.target)]
                raise ValueError(
                    f"{self.source} has {counts[0]} lines, {self.target} has {counts[1]}: "
                    "both files must have the same number of lines"
                )
            yield pair

    def location(self, number: int, side: int) -> str:
        return f"line {number + 1} of {(self.source, self.target)[side]}"


@dataclass(frozen=True)
class TabFile(PairSource):
    """A file with two columns."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def pair(self, line: str) -> Pair:
        """Return the pair of a line.

        Raises:
          ValueError: If the line is not a pair. Callers put "line N of FILE" before the message.
        """
        columns = tuple(line.split("\t"))
        if len(columns) != 2:
            raise ValueError(
                f"has {len(columns)} columns, not 2: separate the two texts by one tab"
            )
        return columns

    def pairs(self) -> Iterator[Pair]:
        for attempt in self.attempts():
            if isinstance(attempt, str):
                raise ValueError(attempt)
            yield attempt

    def attempts(self) -> Iterator[Pair | str]:
        """Yield every pair, or the reason why a line is none."""
        for number, line in enumerate(_lines(self.path), 1):
            try:
                yield self.pair(line)
            except ValueError as error:
                yield f"line {number} of {self.path} {error}"

    def location(self, number: int, side: int) -> str:
        return f"the {FIELDS[side]} in line {number + 1} of {self.path}"


@dataclass(frozen=True)
class JsonLines(TabFile):
    """A file with one JSON object per line, which has a source field and a target field."""

    fields: Pair = FIELDS

    def pair(self, line: str) -> Pair:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise ValueError(
                'is not a JSON object: write one per line, {"source": ..., "target": ...}'
            )
        for field in self.fields:
            if not isinstance(row.get(field), str):
                names = ", ".join(map(repr, row)) or "none"
                raise ValueError(
                    f"has no text in the field {field!r}: choose two of the fields {names}"
                )
        return row[self.fields[0]], row[self.fields[1]]


@dataclass(frozen=True)
class ValidPairs(PairSource):
    """The pairs of files without those that are invalid, such as with an empty side."""

    original: LineFiles | TabFile

    @property
    def name(self) -> str:
        return self.original.name

    def pairs(self) -> Iterator[Pair]:
        return (pair for pair, reason in self.attempts() if not reason)

    def attempts(self) -> Iterator[tuple[Pair, str]]:
        """Yield every pair and why it is invalid, or "" if it is valid."""
        for number, attempt in enumerate(self.original.attempts()):
            if isinstance(attempt, str):
                yield ("", ""), attempt
                continue
            empty = next((side for side in (0, 1) if not _has_text(attempt[side])), None)
            location = "" if empty is None else self.original.location(number, empty)
            yield attempt, location and f"{location} is empty"

    def location(self, number: int, side: int) -> str:
        return f"the {FIELDS[side]} of valid pair {number + 1} of {self.name}"


@dataclass(frozen=True)
class Copies(PairSource):
    """Every line of a text as both sides of a pair; lines without text are left out."""

    original: Source
    name: ClassVar[str] = "the text"

    def pairs(self) -> Iterator[Pair]:
        for document in self.original.documents():
            for line in map(str.strip, document.split("\n")):
                if _has_text(line):
                    yield line, line

    def location(self, number: int, side: int) -> str:
        return f"line {number + 1} of the text"


def lines(
    source: str | Path, target: str | Path, skipped: list[str] | None = None
) -> LineFiles | ValidPairs:
    """Return the pairs of two files, line by line: UTF-8, plain or `.gz`.

    Args:
      source: The file with the source texts.
      target: The file with their translations.
      skipped: Where the reasons go for which pairs are skipped: a side without text, or another
        number of columns. None: such a pair is an error.

    Raises:
      FileNotFoundError: If a file does not exist.
      ValueError: If a file is not UTF-8, a `.gz` is truncated, the numbers of lines differ, a line
        has no text, or there are no pairs.
    """
    for path in (source, target):
        untrusted.check_file(path, "text")  # no pipe, as files are read again
    return _valid(LineFiles(Path(source), Path(target)), skipped)


def table(
    path: str | Path, fields: Pair | None = None, skipped: list[str] | None = None
) -> TabFile | ValidPairs:
    """Return the pairs of one file: UTF-8, `.tsv` or `.jsonl`, plain or `.gz`.

    Args:
      path: A `.tsv` with a tab between source and target and no quoting, or a `.jsonl` with one
        JSON object per line.
      fields: The source and the target field of a `.jsonl`. None: "source" and "target".
      skipped: As for `lines`.

    Raises:
      FileNotFoundError: If the file does not exist.
      ValueError: As in `lines`, or if a line does not have two columns, is not a JSON object, or
        lacks a field.
    """
    path = Path(path)
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind not in (".tsv", ".jsonl"):
        raise ValueError(f"{path} is not a table of pairs: use .tsv or .jsonl, plain or .gz")
    if kind == ".tsv" and fields:
        raise ValueError(f"{path} has columns: field names are only for .jsonl")
    untrusted.check_file(path, "text")  # no pipe, as files are read again
    return _valid(TabFile(path) if kind == ".tsv" else JsonLines(path, fields or FIELDS), skipped)


def files(
    paths: Sequence[str | Path], fields: Pair | None = None, skipped: list[str] | None = None
) -> PairSource:
    """Return the pairs of two files of lines, or of one table.

    Args:
      paths: Two files as for `lines`, or one as for `table`.
      fields: As for `table`.
      skipped: As for `lines`.

    Raises:
      FileNotFoundError: As in `lines` and `table`.
      ValueError: As in `lines` and `table`, or if there are more than two files, or fields of files
        of lines.
    """
    if len(paths) > 2:
        raise ValueError(f"give pairs as two files of lines or as one table, not as {len(paths)}")
    if len(paths) == 2:
        if fields:
            raise ValueError("--fields is for a .jsonl file, which contains both sides")
        return lines(paths[0], paths[1], skipped)
    return table(paths[0], fields, skipped)


def copies(text: Source) -> Copies:
    """Return a source whose pairs have a line of a text on both sides.

    Raises:
      ValueError: If no line of the text has a letter, number, punctuation mark or symbol.
    """
    return _checked(Copies(text))


def strings(pairs: Iterable[Pair]) -> PairStrings:
    """Return a source of pairs in memory."""
    contents = [tuple(pair) for pair in pairs]
    for number, pair in enumerate(contents):
        if [type(side) for side in pair] != [str, str]:
            raise ValueError(f"pairs[{number}] is not two strings: {pair!r:.80}")
    return _checked(PairStrings(tuple((source, target) for source, target in contents)))


def shares_letters(source: Source) -> bool:
    """Return whether the two sides have letters in common; English and Russian do not."""
    documents = list(itertools.islice(source.documents(), 2 * ALPHABET_PAIRS))
    letters = [
        Counter(filter(str.isalpha, itertools.chain.from_iterable(documents[side::2])))
        for side in (0, 1)
    ]
    shared = (letters[0] & letters[1]).total()
    return 100 * shared >= min(side.total() for side in letters)


def _valid(source: P, skipped: list[str] | None) -> P | ValidPairs:
    """Return a checked source, without its invalid pairs if there is a list for the reasons."""
    if skipped is None:
        return _checked(source)
    valid = ValidPairs(source)
    skipped += [reason for _, reason in valid.attempts() if reason]
    return _checked(valid)


def _checked(source: S) -> S:
    _ = source.fingerprint  # reads and checks every pair
    return source


def _encode(content: str) -> bytes:
    """Return a text in UTF-8.

    Raises:
      ValueError: If it has no text. Callers put the location before the message.
    """
    if not _has_text(content):
        raise ValueError("is empty: remove both sides of the pair")
    try:
        return content.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"is not text: {error.reason}") from error


def _has_text(content: str) -> bool:
    """Return whether a text has a letter, number, punctuation mark or symbol.

    Some tokenizers drop everything else: white space, control characters and isolated accents. A
    corpus keeps no document for a text without tokens, which would shift all later pairs.
    """
    return any(
        unicodedata.category(char)[0] in "LNPS" and char != "\ufffd"
        for char in unicodedata.normalize("NFKD", content)
    )


def _lines(path: Path) -> Iterator[str]:
    r"""Yield the lines of a file without their endings, which are "\n" or "\r\n".

    A lone "\r" is part of a line, unless the file has no other endings. `str.splitlines` would also
    split at form feeds and at Unicode line separators.
    """
    rest, end = "", "\r"
    for block in text.blocks(path):
        rest += block
        if "\n" in block:
            end = "\n"
            *lines, rest = rest.split(end)
            yield from (line.removesuffix("\r") for line in lines)
    yield from rest.removesuffix("\r").split(end) if rest else ()
