"""Sources of documents in memory and in text files.

A file is read block by block, and a document longer than a block comes in pieces. No token of our
tokenizers spans a place between a character and the white space behind it, so the tokens of pieces
that end at such a place are those of the document. A piece ends at the last line end of its block;
without one in the last half of the block, before the last space or tab; without either, anywhere,
and only then a word, and its tokens, may be split.
"""

import codecs
import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from train.data.progress import Progress
from train.data.sources.source import Piece, Source
from zoo import untrusted

BLOCK = 1 << 20  # bytes read at a time, and the approximate maximum of characters per piece
_WORD_END = re.compile(r"(?<=\S)[ \t]")


@dataclass(frozen=True)
class Strings(Source):
    """Documents in memory."""

    texts: tuple[str, ...]

    def documents(self) -> Iterator[str]:
        return iter(self.texts)

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for document in self.texts:
            digest.update(hashlib.sha256(document.encode()).digest())
        return digest.hexdigest()

    @property
    def num_bytes(self) -> int:
        return sum(len(document.encode()) for document in self.texts)


@dataclass(frozen=True)
class TextFiles(Source):
    """Text files, split into documents at a separator; without one, each file is a document."""

    paths: tuple[Path, ...]
    separator: str | None

    @property
    def fingerprint(self) -> str:
        """The sha256 of all files; computing it reads and checks every file."""
        return self._checked[0]

    @property
    def num_bytes(self) -> int:
        return self._checked[1]

    @cached_property
    def _checked(self) -> tuple[str, int]:
        """The fingerprint and the number of bytes."""
        digest, num_bytes = hashlib.sha256(repr(self.separator).encode()), 0
        empty = True
        with Progress("check", _size_on_disk(self.paths)) as progress:
            for path in self.paths:
                content = hashlib.sha256()
                for block in blocks(path, progress):
                    encoded = block.encode()
                    content.update(encoded)
                    num_bytes += len(encoded)
                    empty = empty and not block.strip()
                digest.update(content.digest())
        if empty:
            names = ", ".join(map(str, self.paths[:3])) + (", ..." if len(self.paths) > 3 else "")
            raise ValueError(f"no text in {names or 'an empty list of files'}")
        return digest.hexdigest(), num_bytes

    def documents(self) -> Iterator[str]:
        for _, pieces in itertools.groupby(self.pieces(), lambda piece: piece.document):
            yield "".join(piece.text for piece in pieces)

    def pieces(self) -> Iterator[Piece]:
        """Yield the documents of all files in pieces of up to about BLOCK characters."""
        document = 0
        for path in self.paths:
            for piece in _pieces(path, self.separator, document):
                yield piece
                document = piece.document + 1


def strings(documents: Iterable[str]) -> Strings:
    """Return a source of documents in memory."""
    return Strings(tuple(documents))


def files(paths: Iterable[str | Path], separator: str | None = None) -> TextFiles:
    r"""Return a source of text files: UTF-8, plain or `.gz`.

    All files are read once here, which takes about a second per gigabyte, so that a bad file is
    reported before any work is done. Documents that contain only white space are dropped.

    Args:
      paths: The files.
      separator: The string between the documents of a file, such as a blank line "\n\n" or
        "<|endoftext|>"; it is removed. None: each file is a document.

    Raises:
      FileNotFoundError: If a file does not exist.
      ValueError: If a file is not UTF-8 (with the file and the byte offset in its text), a `.gz`
        is truncated, or there is no text at all.
    """
    if separator == "":
        raise ValueError("--separator is empty: give the string between documents, or omit it")
    source = TextFiles(tuple(map(Path, paths)), separator)
    for path in source.paths:
        untrusted.check_file(path, "text")  # no pipe, as files are read again
    _ = source.fingerprint  # reads and checks every file
    return source


def safe_split(text: str, start: int, end: int) -> int:
    """Return the last offset between `start` and `end` at which a split does not change tokens.

    This is before a line ending; without one, before a space or tab; without either, `end`.
    """
    stop = end
    while (line := text.rfind("\n", start, stop)) >= 0:
        place = line
        while place > start and text[place - 1] in " \t\r":
            place -= 1
        if place and not text[place - 1].isspace():
            return place
        stop = line
    spaces = [match.start() for match in _WORD_END.finditer(text, start, end)]
    return spaces[-1] if spaces else end


def _pieces(path: Path, separator: str | None, document: int) -> Iterator[Piece]:
    """Yield the documents of a file in pieces, numbered from `document` on."""
    text, is_begun = "", False  # is_begun: a piece of the document has already been yielded
    for block in blocks(path):
        text += block
        if separator:
            *documents, text = text.split(separator)
            for rest in documents:
                if is_begun or rest.strip():
                    yield Piece(document, rest)
                    document += 1
                is_begun = False
        if len(text) > BLOCK:
            end = len(text) - len(separator or "")
            split = safe_split(text, end - BLOCK // 2, end)
            if is_begun or text[:split].strip():
                yield Piece(document, text[:split])
                text, is_begun = text[split:], True
    if is_begun or text.strip():
        yield Piece(document, text)


def _size_on_disk(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())


def blocks(path: Path, progress: Progress | None = None) -> Iterator[str]:
    """Yield the text of a file block by block, without a byte-order mark.

    Args:
      path: The file.
      progress: Counts the bytes read from the disk, which of a `.gz` are fewer than its text has.

    Raises:
      OSError: If there is no such file; a pipe is read, once.
      ValueError: If it is not UTF-8, or is a truncated `.gz`, or one that grows beyond reason.
    """
    if not untrusted.is_pipe(path):
        untrusted.check_file(path, "text")
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = place = 0
    with path.open("rb") as raw, _opened(raw, path) as file:
        while True:
            block = file.read(BLOCK)
            pending = len(decoder.getstate()[0])
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                at = offset - pending + error.start
                raise ValueError(
                    f"{path} is not UTF-8 at byte {at} of its text: {error.reason}"
                ) from error
            if offset == 0:
                text = text.removeprefix("\ufeff")
            offset += len(block)
            if progress:  # which a pipe has not
                progress.add(raw.tell() - place)
                place = raw.tell()
            if text:
                yield text
            if not block:
                return


def _opened(raw: BinaryIO, path: Path) -> BinaryIO:
    return untrusted.open_gzip(raw, path) if path.suffix == ".gz" else raw
