r"""ARPA files: back-off n-gram models as text, as SRILM, KenLM and others read and write them.

    \data\
    ngram 1=4
    ...
    \1-grams:
    log10 p <TAB> word [<TAB> log10 of the back-off weight]
    ...
    \end\

In a file, <s> begins a text and </s> ends it; here both are the token `end` of the model. White
space in a token, which would split it in two, is written as its bytes, such as <0x20>.
"""

import gzip
import io
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from zoo import untrusted
from zoo.models.ngram import Config, NGram, Tables
from zoo.tokenizers import AnyTokenizer, Tokenizer, sides, units
from zoo.tokenizers.units import END, UNKNOWN

START = "<s>"
NEVER = -99.0  # log10 of the probability of <s>, which is never predicted
LOWEST = -37.0  # log10 of the lowest probability that float32 holds; KenLM's is -100
_COUNT = re.compile(r"ngram\s+(\d{1,9})\s*=\s*(\d{1,18})")
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def is_arpa(file: str | os.PathLike) -> bool:
    """Return whether a path is that of an ARPA file, by its name: .arpa or .arpa.gz."""
    return Path(file).name.endswith((".arpa", ".arpa.gz"))


def write(
    file: str | os.PathLike, model: NGram, tables: Tables, tokenizer: AnyTokenizer | None
) -> None:
    """Write an n-gram model as an ARPA file.

    Raises:
      ValueError: If there is no tokenizer to name the tokens.
    """
    if tokenizer is None:
        raise ValueError("an ARPA file has words, but the model has no tokenizer")
    c, tokenizer = model.config, sides(tokenizer).source
    last = [_escaped(tokenizer.id_to_token(i), i) for i in range(c.vocab_size)]
    last[c.end] = END
    first = [*last]
    first[c.end] = START
    with _create(file) as out:
        out.write("\\data\\\n")
        for n, count in enumerate(c.ngrams, 1):
            out.write(f"ngram {n}={count + (n == 1)}\n")  # <s> and </s> are two
        ngrams = np.arange(c.vocab_size)[:, None]
        for n in range(1, c.order + 1):
            table = {name: np.asarray(array) for name, array in tables[f"order_{n}"].items()}
            if n > 1:
                context = np.repeat(np.arange(len(ngrams)), np.diff(table["first"]))
                ngrams = np.concatenate([ngrams[context], table["last"][:, None]], 1)
            p = _logarithms(table["p"])
            b = _logarithms(table["b"]) if "b" in table else None
            out.write(f"\n\\{n}-grams:\n")
            if n == 1:
                _line(out, NEVER, START, None if b is None else b[c.end])
            for row, tokens in enumerate(ngrams.tolist()):
                words = [last[tokens[-1]]] if n == 1 else [first[tokens[0]]]
                words += [last[token] for token in tokens[1:]]
                ends = tokens[-1] == c.end
                _line(out, p[row], " ".join(words), None if b is None or ends else b[row])
        out.write("\n\\end\\\n")


def read(file: str | os.PathLike) -> tuple[Config, dict[str, Any], Tokenizer]:
    """Return the config, the tables and the tokenizer of an ARPA file.

    The tokens are words; or characters, if white space is one of them. A file without <unk> gives
    unknown words the probability 1e-37.

    Raises:
      FileNotFoundError: If the file does not exist.
      ValueError: If the file is inconsistent; with the number of the line.
    """
    untrusted.check_file(file, "ARPA")
    with _open_to_read(file) as lines:
        reader = _Reader(file, lines)
        tables = reader.tables()
    words = [_unescaped(word) for word in reader.words]
    unit = "character" if any(word.isspace() for word in words) else "word"
    config = Config(
        vocab_size=len(words),
        order=len(tables),
        ngrams=tuple(len(table["p"]) for table in tables.values()),
        end=reader.ids[END],
        units=unit,
        estimator="arpa",
    )
    return config, tables, units.UNITS[unit](words)


class _Reader:
    """The state of reading one file; `words` are the vocabulary, of which START and END are one."""

    def __init__(self, file: str | os.PathLike, lines: TextIO):
        self.file, self.number, self.line = file, 0, ""
        self.most = os.path.getsize(file)  # n-grams, each of which has a line
        if str(file).endswith(".gz"):
            self.most *= untrusted.MOST_RATIO
        self.words = [UNKNOWN, END]
        self.ids = {UNKNOWN: 0, END: 1, START: 1}
        self._lines = self._stripped(lines)

    def tables(self) -> dict[str, Any]:
        """Return the tables, in the form of zoo/models/ngram.py."""
        self._expect("\\data\\", "this is not an ARPA file")
        counts = self._counts()
        tables = {"order_1": self._unigrams(counts[0], is_highest=len(counts) == 1)}
        packed: list[np.ndarray] = []  # the n-grams of orders 2 and up, as integers, sorted
        for n, count in enumerate(counts[1:], 2):
            ngrams, p, b = self._section(n, count, is_highest=n == len(counts))
            context = self._find(ngrams[:, :-1], packed)
            if (context < 0).any():
                wrong = ngrams[np.flatnonzero(context < 0)[0], :-1]
                raise ValueError(
                    f"{self.file} has {n}-grams that begin with "
                    f"{' '.join(self.words[i] for i in wrong)!r}, which is none of its "
                    f"{n - 1}-grams: write it again with a tool that keeps them"
                )
            keys = context * len(self.words) + ngrams[:, -1]
            rows = np.argsort(keys, kind="stable")
            keys = keys[rows]
            if (np.diff(keys) == 0).any():
                raise ValueError(f"{self.file} has a {n}-gram twice: remove one of the two lines")
            packed.append(keys)
            contexts = len(tables[f"order_{n - 1}"]["p"])
            sizes = np.bincount(keys // len(self.words), minlength=contexts)
            tables[f"order_{n}"] = {
                "first": np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32),
                "last": (keys % len(self.words)).astype(np.int32),
                "p": _powers(p[rows]),
            }
            if n < len(counts):
                tables[f"order_{n}"]["b"] = _powers(b[rows])
        self._expect("\\end\\", "is the file complete?")
        return tables

    def _counts(self) -> list[int]:
        """Return the number of n-grams of every order, as the file promises."""
        counts: list[int] = []
        while (match := _COUNT.fullmatch(self._next())) is not None:
            if int(match[1]) != len(counts) + 1:
                raise self._error(f"expected `ngram {len(counts) + 1}=COUNT`, not {self.line!r}")
            counts.append(int(match[2]))
            if counts[-1] > self.most:
                raise self._error(f"{counts[-1]:,} n-grams are more than such a file can hold")
        if not counts:
            raise self._error(f"expected `ngram 1=COUNT`, not {self.line!r:.60}")
        return counts

    def _unigrams(self, count: int, is_highest: bool) -> dict[str, np.ndarray]:
        p, b = {UNKNOWN: LOWEST}, {}
        for words, p_word, b_word in self._entries(1, count, is_highest):
            word = words[0]
            if word in b:
                raise self._error(f"the word {word!r} is there twice: remove one of the two lines")
            p[word], b[word] = p_word, b_word
            if word not in self.ids:
                self.ids[word] = len(self.words)
                self.words.append(word)
        if END not in b:
            raise ValueError(f"{self.file} has no {END}, which ends a text: add it to the 1-grams")
        table = {"p": _powers([p[word] for word in self.words])}
        if not is_highest:
            b[END] = b.get(START, 0.0)
            table["b"] = _powers([b.get(word, 0.0) for word in self.words])
        return table

    def _section(self, n: int, count: int, is_highest: bool) -> tuple[np.ndarray, ...]:
        """Return the n-grams of a section as ids, log10 p, and log10 of the back-off weights."""
        ngrams, p, b = np.zeros((count, n), np.int64), np.zeros(count), np.zeros(count)
        entries = self._entries(n, count, is_highest)
        for row, (words, p_row, b_row) in enumerate(entries):
            try:
                ngrams[row] = [self.ids[word] for word in words]
            except KeyError as error:
                raise self._error(f"the word {error} is none of the 1-grams") from None
            p[row], b[row] = p_row, b_row
        return ngrams, p, b

    def _entries(
        self, n: int, count: int, is_highest: bool
    ) -> Iterator[tuple[list[str], float, float]]:
        """Yield the words, log10 p and log10 of the back-off weight of `count` n-grams."""
        if self.line != f"\\{n}-grams:":
            raise self._error(f"expected \\{n}-grams:, not {self.line!r:.60}")
        for row in range(count):
            line = self._next()
            if line.startswith("\\") and line.endswith((":", "\\")) and " " not in line:
                raise self._error(
                    f"\\data\\ promises {count:,} {n}-grams, but the file has {row:,}: "
                    "correct the count, or write the file again"
                )
            fields = line.split()
            if len(fields) != n + 1 and (is_highest or len(fields) != n + 2):
                named = "a word" if n == 1 else f"{n} words"
                weight = "" if is_highest else ", with a weight or without"
                raise self._error(f"expected log10 p and {named}{weight}, not {line!r:.60}")
            try:
                p, b = float(fields[0]), float(fields[n + 1]) if len(fields) > n + 1 else 0.0
            except ValueError:
                raise self._error(f"expected numbers around the words, not {line!r:.60}") from None
            if not (p <= 0 and math.isfinite(b)):
                raise self._error(
                    f"log10 p must be at most 0, and weights finite, not {line!r:.60}"
                )
            yield fields[1 : n + 1], p, b
        if not self._next().startswith("\\"):
            raise self._error(
                f"\\data\\ promises {count:,} {n}-grams, but the file has more: correct the count, "
                "or write the file again"
            )

    def _find(self, ngrams: np.ndarray, packed: list[np.ndarray]) -> np.ndarray:
        """Return the rows of n-grams in the table of their order, or -1."""
        row = ngrams[:, 0]
        for keys, token in zip(packed, ngrams.T[1:], strict=True):
            key = row * len(self.words) + token
            place = np.searchsorted(keys, key)
            is_there = (row >= 0) & (place < len(keys))
            is_there[is_there] = keys[place[is_there]] == key[is_there]
            row = np.where(is_there, place, -1)
        return row

    def _expect(self, line: str, hint: str) -> None:
        if line == "\\data\\":
            self._next()
        if self.line != line:
            raise self._error(f"expected {line}, not {self.line!r:.60}: {hint}")

    def _next(self) -> str:
        """Return the next line that is not empty; "" at the end of the file."""
        self.line = next((line for line in self._lines if line), "")
        return self.line

    def _stripped(self, lines: TextIO) -> Iterator[str]:
        try:
            for number, line in enumerate(lines, 1):
                self.number = number
                yield line.strip(" \t\r\n")
        except UnicodeDecodeError as error:
            raise self._error(f"the file is not UTF-8: {error.reason}") from None

    def _error(self, reason: str) -> ValueError:
        return ValueError(f"{self.file}, line {self.number}: {reason}")


def _open_to_read(file: str | os.PathLike) -> TextIO:
    raw = open(file, "rb")  # noqa: SIM115  # the caller closes it
    content = untrusted.open_gzip(raw, file) if str(file).endswith(".gz") else raw
    return io.TextIOWrapper(content, "utf-8", newline="\n")


def _create(file: str | os.PathLike) -> TextIO:
    opener: Any = gzip.open if str(file).endswith(".gz") else open
    return opener(file, "wt", encoding="utf-8", newline="\n")


def _line(out: TextIO, p: float, words: str, b: float | None) -> None:
    # Nine digits give back the same float32, or its neighbour.
    out.write(f"{p:.9g}\t{words}\n" if b is None else f"{p:.9g}\t{words}\t{b:.9g}\n")


def _logarithms(numbers: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.maximum(np.log10(numbers.astype(np.float64)), NEVER)


def _powers(logarithms: Any) -> np.ndarray:
    return (10.0 ** np.asarray(logarithms, np.float64)).astype(np.float32)


def _escaped(token: str | None, number: int) -> str:
    """Return a token in a form that white space does not split."""
    if not token:
        return f"<{number}>"  # an unused id of a published vocabulary
    return re.sub(r"\s", lambda match: "".join(f"<0x{x:02X}>" for x in match[0].encode()), token)


def _unescaped(word: str) -> str:
    expanded = re.sub(
        f"(?:{_BYTE.pattern})+",
        lambda match: bytes(int(x, 16) for x in _BYTE.findall(match[0])).decode("utf-8", "replace"),
        word,
    )
    return expanded if expanded.isspace() else word
