r"""Files of word vectors, as word2vec, GloVe and fastText write them: a row is a word and a vector.

    word2vec text    V D <newline>, then per word: word <space> D numbers <newline>; also .vec
    GloVe text       the same without the first line
    word2vec binary  V D <newline>, then per word: word <space> D float32 [<newline>]

The format is recognized by the content of a file, which may be compressed by gzip. Word i of a file
is row i of the table; of a word that is there twice only the first row is kept, as gensim does.
Bytes that are not UTF-8 become `\xNN`, so that words that differ stay different.

V vocabulary  D width
"""

import gzip
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from zoo import untrusted

CHUNK = 1 << 24  # bytes that are read at a time
WRITTEN = 1 << 12  # rows that are written at a time
GZIP = b"\x1f\x8b"
_HEADER = re.compile(rb"(\d{1,18}) (\d{1,9})")
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")  # bytes that no text has
# How the files begin that others write beside these -> what to do about them.
_OTHERS = {
    b"\x80": "is a pickle, as gensim saves its models, and could run code: in gensim, write "
    'KeyedVectors.load(f).save_word2vec_format("vectors.bin", binary=True), or .wv of a model',
    b"\x93NUMPY": "is an array without its words: in gensim, load the file that it belongs to, and "
    'write .save_word2vec_format("vectors.bin", binary=True)',
    b"PK\x03\x04": "is a zip archive: unpack it, and load the file in it",
}


class Vectors(NamedTuple):
    """Words, and their vectors as the rows of a table: float32 [V, D]."""

    words: list[str]
    table: np.ndarray


def is_binary(file: str | os.PathLike) -> bool:
    """Return whether a file is word2vec binary, not text."""
    header, sample = _beginning(file)
    if _HEADER.fullmatch(header) is None:
        return False
    width = int(header.split()[1])
    fields = sample.partition(b"\n")[0].rstrip().rsplit(b" ", width)
    if len(fields) == width + 1 and all(map(_is_number, fields[1:])):
        return False
    return _CONTROL.search(sample) is not None


def has_header(file: str | os.PathLike) -> bool:
    """Return whether a file begins with its numbers of words and of components."""
    return _HEADER.fullmatch(_beginning(file)[0]) is not None


def refuse_others(file: str | os.PathLike) -> None:
    """Raise ValueError for an empty file, and for pickles, arrays and archives."""
    with open_file(file) as stream:
        head = stream.read(8)
    if not head:
        raise ValueError(f"{file} is empty: expected a word and its vector per line")
    for start, reason in _OTHERS.items():
        if head.startswith(start):
            raise ValueError(f"{file} {reason}")


def read_text(file: str | os.PathLike) -> Vectors:
    """Return the vectors in a word2vec or GloVe text file.

    A word may contain spaces, as some in GloVe's files do: the last D fields are its vector.

    Raises:
      ValueError: If a row or the number of rows is wrong; with the number of the line.
    """
    match = _HEADER.fullmatch(_beginning(file)[0])
    promised, width = (int(match[1]), int(match[2])) if match else (None, 0)
    words: list[bytes] = []
    with open_file(file) as stream:
        if match:
            stream.readline()
        table = np.empty((0, width), np.float32)
        for lines in _chunks(stream):
            first_line = len(words) + (2 if match else 1)
            if not width:
                width = len(lines[0].split(b" ")) - 1
                table = np.empty((0, width), np.float32)
            rows = _parse(lines, width, file, first_line, words)
            if len(words) > len(table):
                # Grown in place, so that the table is not held twice.
                table.resize((max(len(words), 5 * len(table) // 4), width), refcheck=False)
            table[len(words) - len(rows) : len(words)] = rows
    if promised is not None and len(words) != promised:
        raise ValueError(
            f"{file}: the first line promises {promised:,} words, but the file has {len(words):,}: "
            "correct the line, or write the file again"
        )
    if not words:
        raise ValueError(f"{file} has no words: expected a word and its vector per line")
    table.resize((len(words), width), refcheck=False)
    return _without_duplicates(decoded(words, file), table, file)


def read_binary(file: str | os.PathLike) -> Vectors:
    """Return the vectors in a word2vec binary file, which are read into one array.

    Raises:
      ValueError: If the file is truncated or longer than it promises; with the byte.
    """
    with open_file(file) as stream:
        header = stream.readline()
        count, width = map(int, header.split())
        size = os.path.getsize(file) * (untrusted.MOST_RATIO if _is_gzip(file) else 1)
        if size < count * (4 * width + 2):
            raise ValueError(
                f"{file} is truncated: {count:,} words of {width} numbers need at least "
                f"{count * (4 * width + 2):,} bytes, but the file has at most {size:,}"
            )
        table = np.empty((count, width), "<f4")
        words: list[bytes] = []
        # The rest of a row that a chunk has begun, and where it is in the file.
        chunk, start, offset = b"", 0, len(header)
        while len(words) < count:
            space = chunk.find(b" ", start)
            if space < 0 or len(chunk) - space - 1 < 4 * width:
                offset, chunk, start = offset + start, chunk[start:], 0
                more = stream.read(CHUNK)
                if not more:
                    raise ValueError(
                        f"{file} is truncated: it ends at byte {offset + len(chunk):,}, in row "
                        f"{len(words) + 1:,} of {count:,}"
                    )
                chunk += more
                continue
            table[len(words)] = np.frombuffer(chunk, "<f4", width, space + 1)
            words.append(chunk[start:space].lstrip(b"\n"))
            start = space + 1 + 4 * width
        rest = chunk[start:] + stream.read(2)
    if more := rest.lstrip(b"\n"):
        end = offset + start + len(rest) - len(more)
        raise ValueError(
            f"{file} goes on at byte {end:,} after the {count:,} words that its first "
            "line promises: correct the line, or write the file again"
        )
    table = table.astype(np.float32, copy=False)  # copies on big-endian machines alone
    texts = decoded(words, file)
    _check_finite(file, texts, table)
    return _without_duplicates(texts, table, file)


def write_text(
    file: str | os.PathLike, words: Sequence[str], rows: Iterable[np.ndarray], width: int
) -> None:
    """Write a word2vec text file. Nine digits give back the same float32.

    Args:
      file: The file; it is compressed if its name ends in .gz.
      words: The words.
      rows: Their vectors, some rows at a time.
      width: D.

    Raises:
      ValueError: If a word contains white space, which would split it.
    """
    _refuse_spaces(words)
    _write_text(file, f"{len(words)} {width}\n", words, rows)


def write_glove(
    file: str | os.PathLike, words: Sequence[str], rows: Iterable[np.ndarray], width: int
) -> None:
    """Write a GloVe text file: without a first line, and with spaces in words as they are.

    The first word has none, so that the first line shows the width.
    """
    _refuse_spaces(words[:1])
    _refuse(words, "\n")
    _write_text(file, "", words, rows)


def write_binary(
    file: str | os.PathLike, words: Sequence[str], rows: Iterable[np.ndarray], width: int
) -> None:
    """Write a word2vec binary file; the arguments are those of `write_text`."""
    _refuse_spaces(words)
    remaining = iter(words)
    with _create(file) as out:
        out.write(f"{len(words)} {width}\n".encode())
        for table in rows:
            for row in table.astype("<f4"):
                out.write(next(remaining).encode() + b" " + row.tobytes() + b"\n")


def decoded(words: Sequence[bytes], file: str | os.PathLike) -> list[str]:
    r"""Return words as texts; those that are not UTF-8 with `\xNN`, and one warning for all."""
    texts, broken = [], 0
    for word in words:
        try:
            texts.append(word.decode())
        except UnicodeDecodeError:
            texts.append(word.decode(errors="backslashreplace"))
            broken += 1
    if broken:
        example = next(text for word, text in zip(words, texts, strict=True) if not _is_utf8(word))
        warnings.warn(
            f"{file}: {broken:,} words are not UTF-8, and are read with \\xNN for a byte, such as "
            f"{example!r}",
            stacklevel=2,
        )
    return texts


def open_file(file: str | os.PathLike) -> BinaryIO:
    """Return a file opened for reading, decompressed if its content is that of gzip."""
    is_compressed = _is_gzip(file)  # which refuses pipes
    raw = open(file, "rb")  # noqa: SIM115  # the caller closes it
    return untrusted.open_gzip(raw, file) if is_compressed else raw


def _is_gzip(file: str | os.PathLike) -> bool:
    untrusted.check_file(file)
    with open(file, "rb") as stream:
        return stream.read(2) == GZIP


def _beginning(file: str | os.PathLike) -> tuple[bytes, bytes]:
    """Return the first line of a file, and the start of what follows it."""
    with open_file(file) as stream:
        start = stream.read(1 << 16)
    header, _, sample = start.partition(b"\n")
    return header.rstrip(), sample


def _chunks(stream: BinaryIO) -> Iterator[list[bytes]]:
    """Yield the lines of a text, some megabytes at a time, without white space at their ends."""
    while lines := stream.readlines(CHUNK):
        yield [line.rstrip() for line in lines]


def _parse(
    lines: Sequence[bytes],
    width: int,
    file: str | os.PathLike,
    first_line: int,
    words: list[bytes],
) -> np.ndarray:
    """Append the words of some lines to `words`, and return their vectors."""
    numbers = []
    for number, line in enumerate(lines, first_line):
        word, _, rest = line.partition(b" ")
        if rest.count(b" ") != width - 1 or not rest:
            word, rest = _split(line, width, f"{file}, line {number:,}")
        words.append(word)
        numbers.append(rest)
    try:
        rows = np.loadtxt(numbers, np.float32, delimiter=" ", comments=None, ndmin=2)
    except ValueError:
        for number, rest in enumerate(numbers, first_line):
            wrong = [field for field in rest.split(b" ") if not _is_number(field)]
            if wrong:
                raise ValueError(
                    f"{file}, line {number:,}: expected a word and {width} numbers, but "
                    f"{_shown(wrong[0])} is not a number"
                ) from None
        raise
    texts = [word.decode(errors="backslashreplace") for word in words[-len(lines) :]]
    _check_finite(f"{file}, from line {first_line:,}", texts, rows)
    return rows


def _split(line: bytes, width: int, place: str) -> tuple[bytes, bytes]:
    """Return the word of a line that has more or fewer fields than usual, and its numbers."""
    fields = line.split(b" ")
    # A word with spaces, which ends in what is not a number; otherwise the vector is too long.
    if width and len(fields) > width + 1 and not _is_number(fields[-width - 1]):
        word, *_ = line.rsplit(b" ", width)
        return word, line[len(word) + 1 :]
    expected = f"a word and {width} numbers" if width else "a word and its numbers"
    raise ValueError(
        f"{place}: expected {expected}, separated by single spaces, not {len(fields)} fields: "
        f"{_shown(line)}"
    )


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return b"_" not in field  # a separator of digits in Python alone


def _shown(field: bytes) -> str:
    return f"{field.decode(errors='backslashreplace')[:60]!r}"


def _is_utf8(word: bytes) -> bool:
    return word.decode(errors="ignore").encode() == word


def _check_finite(place: str | os.PathLike, words: Sequence[str], rows: np.ndarray) -> None:
    for start in range(0, len(rows), WRITTEN):
        is_finite = np.isfinite(rows[start : start + WRITTEN]).all(1)
        if not is_finite.all():
            word = words[start + int(np.argmin(is_finite))]
            raise ValueError(
                f"{place}: the vector of {word!r} is not finite: remove the row, or train again"
            )


def _without_duplicates(words: list[str], table: np.ndarray, file: str | os.PathLike) -> Vectors:
    """Return the first row of every word."""
    first = {word: row for row, word in reversed(list(enumerate(words)))}
    if len(first) == len(words):
        return Vectors(words, table)
    kept = sorted(first.values())
    example = next(word for row, word in enumerate(words) if first[word] != row)
    warnings.warn(
        f"{file}: {len(words) - len(kept):,} words are there twice, such as {example!r}: only the "
        "first row of each is kept",
        stacklevel=2,
    )
    for row, old in enumerate(kept):  # in place, as large tables are not to be copied
        table[row] = table[old]
    return Vectors([words[row] for row in kept], table[: len(kept)])


def _refuse_spaces(words: Sequence[str]) -> None:
    _refuse(words, " \t\n\r\v\f")


def _refuse(words: Sequence[str], characters: str) -> None:
    pattern = re.compile(f"[{characters}]")
    wrong = next((word for word in words if pattern.search(word)), None)
    if wrong is not None:
        raise ValueError(
            f"the word {wrong!r} has white space, which would split it in this format: rename it, "
            "or write a model folder, or GloVe text (.glove.txt), whose words may have spaces"
        )


def _write_text(
    file: str | os.PathLike, header: str, words: Sequence[str], rows: Iterable[np.ndarray]
) -> None:
    remaining = iter(words)
    with _create(file) as out:
        out.write(header.encode())
        for table in rows:
            line = "%s" + " %.9g" * table.shape[1] + "\n"
            lines = [line % (next(remaining), *row) for row in table.tolist()]
            out.write("".join(lines).encode())


def _create(file: str | os.PathLike) -> BinaryIO:
    opener: Callable[..., Any] = gzip.open if Path(file).suffix == ".gz" else open
    return opener(file, "wb")
