"""Pairs of texts: a sentence and its translation, a question and its answer.

A pair is two neighbouring documents of a source: document 2i is the source text of pair i, document
2i + 1 its target. So a corpus tokenises and stores pairs as it does any text, with nothing between
the documents. All pairs are read once when their source is made, so that a bad one is named before
any work is done: a few seconds for a million pairs.
"""

import hashlib
import io
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice, zip_longest
from pathlib import Path

import numpy as np

from train.data.corpus.corpus import Corpus
from train.data.sources import text
from train.data.sources.text import Source

Pair = tuple[str, str]

FIELDS = ("source", "target")  # of the objects of a .jsonl file
CHANCE = 1.5  # a walk that returns to zero falls as many deviations with a probability of 1 %
LOOKED_AT = 1000  # pairs tell whether two alphabets are the same
HELD_OUT = 20  # one pair in as many
MOST_HELD_OUT = 2000


def lines(source, target) -> Source:
    """Pairs from two files, plain or `.gz`, UTF-8: line i of one belongs to line i of the other.

    Raises FileNotFoundError for a file that is not there; ValueError for bytes that are not UTF-8,
    a `.gz` that is cut short, files of unequal length (with the line where they seem to come
    apart), a line without text, and where there are no pairs.
    """
    paths = Path(source), Path(target)

    def pairs():
        for pair in zip_longest(*map(_lines, paths)):
            if None in pair:
                raise ValueError(_unequal(*paths))
            yield pair

    return _source(pairs, lambda number, side: f"line {number + 1} of {paths[side]}", paths)


def table(path, fields: Pair | None = None) -> Source:
    """Pairs from one file, UTF-8: `.tsv`, two columns, or `.jsonl`, an object a line; or `.gz`.

    A `.tsv` has a tab between source and target and no quoting. In a `.jsonl` they are the two
    `fields`, by default "source" and "target"; others are ignored.

    Raises FileNotFoundError and ValueError as `lines` does, and ValueError with the number of the
    line that has not two columns, is no object, or lacks a field.
    """
    path = Path(path)
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind not in (".tsv", ".jsonl"):
        raise ValueError(f"{path} is not a table of pairs: give a .tsv or .jsonl, or either as .gz")
    if kind == ".tsv" and fields:
        raise ValueError(f"{path} has columns: the names of two fields are for .jsonl")
    pair_of = _columns if kind == ".tsv" else lambda line: _fields(line, fields or FIELDS)

    def pairs():
        for number, line in enumerate(_lines(path), 1):
            try:
                yield pair_of(line)
            except ValueError as error:
                raise ValueError(f"line {number} of {path} {error}") from None

    place = lambda number, side: f"the {FIELDS[side]} in line {number + 1} of {path}"
    return _source(pairs, place, [path])


def strings(pairs: Iterable[Pair]) -> Source:
    """Pairs that are in memory."""
    pairs = [tuple(pair) for pair in pairs]
    for number, pair in enumerate(pairs):
        if [type(side) for side in pair] != [str, str]:
            raise ValueError(f"pairs[{number}] is not two strings: {pair!r:.80}")
    return _source(
        lambda: iter(pairs), lambda number, side: f"pairs[{number}][{side}]", ["an empty list"]
    )


def unlike(source: Source) -> str | None:
    """One line of warning where the two sides share no letters, as English and Russian do not."""
    documents = list(islice(source.documents(), 2 * LOOKED_AT))
    sides = [
        Counter(filter(str.isalpha, chain.from_iterable(documents[side::2]))) for side in (0, 1)
    ]
    shared = (sides[0] & sides[1]).total()
    if 100 * shared >= min(side.total() for side in sides):
        return None
    return (
        "the two sides share no letters: a joint vocabulary is divided between them, "
        "and may have to be larger"
    )


def num_pairs(corpus: Corpus) -> int:
    """How many pairs a corpus or a part has.

    Raises ValueError where its documents are not pairs.
    """
    count = len(corpus.documents) - 1
    if count % 2:
        raise ValueError(
            f"the corpus has {count} documents, which is not two a pair: the tokenizer makes "
            "nothing of one of the texts, or they are no pairs"
        )
    return count // 2


def held_out(count: int) -> int:
    """How many of so many pairs are held out: a twentieth, at least 1 and at most 2000."""
    return min(max(count // HELD_OUT, 1), MOST_HELD_OUT)


def split(corpus: Corpus) -> tuple[Corpus, Corpus]:
    """The corpus without its last pairs, and these: (train, held_out). Nothing is copied.

    Raises ValueError where there are fewer than two pairs.
    """
    count = num_pairs(corpus)
    if count < 2:
        raise ValueError(f"{count} pair cannot be split into two parts: give more pairs")
    document = 2 * (count - held_out(count))
    sentence = int(np.searchsorted(corpus.sentences, corpus.documents[document]))
    train = corpus._replace(
        sentences=corpus.sentences[: sentence + 1],
        bytes=corpus.bytes[: sentence + 1],
        documents=corpus.documents[: document + 1],
    )
    last = corpus._replace(
        sentences=corpus.sentences[sentence:],
        bytes=corpus.bytes[sentence:],
        documents=corpus.documents[document:],
    )
    return train, last


def targets(corpus: Corpus) -> np.ndarray:
    """The tokens of all targets of a part, one after the other: uint16 or uint32."""
    tokens = corpus.tokens[int(corpus.documents[0]) : int(corpus.documents[-1])]
    is_target = np.tile([False, True], num_pairs(corpus))
    return tokens[np.repeat(is_target, np.diff(corpus.documents))]


def _source(pairs: Callable[[], Iterator[Pair]], place: Callable[[int, int], str], names) -> Source:
    """The source of pairs, after a look at all; `place(pair, side)` says where a text stands."""
    digest, number = hashlib.sha256(), -1
    for number, pair in enumerate(pairs()):
        for side, found in enumerate(pair):
            if not _has_text(found):
                raise ValueError(f"{place(number, side)} is empty: leave out the pair, both sides")
            try:
                encoded = found.encode()
            except UnicodeEncodeError as error:
                raise ValueError(f"{place(number, side)} is not text: {error.reason}") from error
            digest.update(b"%d " % len(encoded))
            digest.update(encoded)
    if number < 0:
        raise ValueError(f"no pairs in {' and '.join(map(str, names))}")
    return Source(lambda: chain.from_iterable(pairs()), digest.hexdigest())


def _has_text(found: str) -> bool:
    """Whether there is a letter, number, punctuation mark or symbol.

    Some tokenizers drop all else, white space, control characters and accents that stand alone. Of
    a text that gives no tokens a corpus keeps no document, and all later pairs would come apart.
    """
    return any(
        unicodedata.category(char)[0] in "LNPS" and char != "\ufffd"
        for char in unicodedata.normalize("NFKD", found)
    )


def _lines(path: Path) -> Iterator[str]:
    """The lines of a file, without their ends: "\\n", "\\r\\n" or "\\r", and nothing else.

    `str.splitlines` would also cut at form feeds and at the line separators of Unicode.
    """
    ends = io.IncrementalNewlineDecoder(None, translate=True)
    rest = ""
    for block in text.blocks(path):
        *whole, rest = (rest + ends.decode(block)).split("\n")
        yield from whole
    *whole, rest = (rest + ends.decode("", final=True)).split("\n")
    yield from whole
    if rest:
        yield rest


def _unequal(source: Path, target: Path) -> str:
    """What to tell of two files of unequal length: one line.

    Where a line is missing, the lines after it are paired at random, and the logarithms of the
    ratios of their lengths are farther from the median. So the sum of these distances, each less
    their mean, falls up to that line and rises after it. Where it falls no deeper than by chance,
    the lines fit up to the end of the shorter file.
    """
    lengths = [np.fromiter(map(len, _lines(path)), np.int32) + 1 for path in (source, target)]
    common = min(map(len, lengths))
    found = (
        f"{source} has {len(lengths[0])} lines, {target} has {len(lengths[1])}: "
        "they must have as many, line for line"
    )
    if not common:
        return found
    ratios = np.log(lengths[0][:common] / lengths[1][:common])
    away = np.abs(ratios - np.median(ratios))
    walk = np.cumsum(away - away.mean())
    if -walk.min() <= CHANCE * away.std() * common**0.5:
        return f"{found}; up to line {common} their lengths fit, so look at line {common + 1}"
    low, high = (part.mean() for part in np.split(away, [walk.argmin() + 1]))
    line = np.cumsum(away - (low + high) / 2).argmin() + 2
    return f"{found}; look at line {line}, from where on their lengths fit badly"


def _columns(line: str) -> Pair:
    """The columns of a line of a .tsv."""
    columns = tuple(line.split("\t"))
    if len(columns) != 2:
        raise ValueError(f"has {len(columns)} columns, not 2: put one tab, between the two texts")
    return columns


def _fields(line: str, fields: Pair) -> Pair:
    """The fields of a line of a .jsonl."""
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise ValueError("is not a JSON object: write one a line, {" + '"source": ..., ...}')
    for field in fields:
        if not isinstance(row.get(field), str):
            names = ", ".join(map(repr, row)) or "none"
            raise ValueError(
                f"has no text in the field {field!r}: say which two of {names} to take"
            )
    return row[fields[0]], row[fields[1]]
