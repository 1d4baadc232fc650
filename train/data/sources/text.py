"""Text files as documents, and what every source of documents looks like.

A source yields strings and can be read again. A document too long for memory comes in pieces: the
first is a plain string, the others are `Continuation`s.
"""

import codecs
import gzip
import hashlib
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

BLOCK = 1 << 20  # bytes read at a time, and about the most characters of a piece
_LINE_END = re.compile(r"(?<=\S)[ \t\r]*\n")
_WORD_END = re.compile(r"(?<=\S)[ \t]")


class Continuation(str):
    """More of the document before it."""


class Source(NamedTuple):
    """Documents that can be read again, and a sha256 that tells them from any others."""

    documents: Callable[[], Iterator[str]]
    fingerprint: str


def strings(documents: Iterable[str]) -> Source:
    """A source of documents that are in memory."""
    documents = tuple(documents)
    digest = hashlib.sha256()
    for document in documents:
        digest.update(hashlib.sha256(document.encode()).digest())
    return Source(lambda: iter(documents), digest.hexdigest())


def files(paths: Iterable, separator: str | None = None) -> Source:
    """A source of text files, plain or `.gz`, UTF-8, each a document.

    A `separator`, such as a blank line "\\n\\n" or "<|endoftext|>", cuts every file into documents
    and is itself dropped. Documents of white space alone are left out. The files are read once
    here, so that a bad one is named before any work is done: about a second a gigabyte.

    Raises FileNotFoundError for a file that is not there; ValueError for bytes that are not UTF-8
    (with the file and the offset in its text), for a `.gz` that is cut short, and where there is no
    text at all.
    """
    paths = [Path(path) for path in paths]
    if separator == "":
        raise ValueError("the separator of documents is empty")
    digest = hashlib.sha256(repr(separator).encode())
    empty = True
    for path in paths:
        content = hashlib.sha256()
        for block in blocks(path):
            content.update(block.encode())
            empty = empty and not block.strip()
        digest.update(content.digest())
    if empty:
        names = ", ".join(str(path) for path in paths[:3]) + (", ..." if len(paths) > 3 else "")
        raise ValueError(f"no text in {names or 'an empty list of files'}")

    def documents():
        for path in paths:
            yield from _documents(path, separator)

    return Source(documents, digest.hexdigest())


def _documents(path: Path, separator: str | None) -> Iterator[str]:
    text, piece = "", str
    for block in blocks(path):
        text += block
        if separator:
            *whole, text = text.split(separator)
            for document in whole:
                if piece is Continuation or document.strip():
                    yield piece(document)
                piece = str
        if len(text) > BLOCK:
            cut = _safe_cut(text, len(text) - len(separator or ""))
            if text[:cut].strip():
                yield piece(text[:cut])
                text, piece = text[cut:], Continuation
    if piece is Continuation or text.strip():
        yield piece(text)


def _safe_cut(text: str, end: int) -> int:
    """Where a tokenizer would not notice a cut: before the last line end, or space, or anywhere."""
    for pattern in (_LINE_END, _WORD_END):
        cuts = [match.start() for match in pattern.finditer(text, end - BLOCK // 2, end)]
        if cuts:
            return cuts[-1]
    return end


def blocks(path: Path) -> Iterator[str]:
    """The text of a file, a block at a time, without a byte-order mark."""
    if not path.is_file():
        raise FileNotFoundError(f"no such text file: {path}")
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = 0
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        while True:
            try:
                block = file.read(BLOCK)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise ValueError(f"{path} is not a whole gzip file: {error}") from error
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
            if text:
                yield text
            if not block:
                return
