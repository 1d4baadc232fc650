r"""fastText's .bin files: rows of words and n-grams, and the outputs of a model or a classifier.

    magic, version                               int32
    dim ... maxn lrUpdateRate, t                 the settings: 12 int32, float64
    entries, words, labels                       int32
    tokens, pruned                               int64; the last is -1
    entry: text \0, count, 0 word or 1 label     int64, int8; the words come first
    quantized, rows, dim, input matrix           bool, int64, int64, float32
    quantized, rows, dim, output matrix

All little-endian. The matrices are mapped into memory, so a file of 7 GB is loaded in the time that
its words take. Bytes that are not UTF-8 become `\xNN`, as gensim reads them.

V words  R rows of words and n-grams  K outputs  D width  C classes
"""

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from zoo.formats import word_vectors
from zoo.models.fasttext import Config

MAGIC, VERSION = 793712314, 12
LABEL = "__label__"  # begins every label in a file; here labels go without it
LOSSES = {
    "hierarchical-softmax": 1,
    "negative-sampling": 2,
    "softmax": 3,
    "one-vs-all": 4,
}
SKIP_GRAM, SUPERVISED = 2, 3
_SETTINGS = (
    *("dim", "ws", "epoch", "minCount", "neg", "wordNgrams", "loss", "model", "bucket"),
    *("minn", "maxn", "lrUpdateRate", "t"),
)
_HEADER = struct.Struct("<2i12id")
_SIZES = struct.Struct("<3i2q")
_ENTRY = struct.Struct("<qb")
_MATRIX = struct.Struct("<?2q")


def is_fasttext(file: str | os.PathLike) -> bool:
    """Return whether a file is fastText's, by its first bytes."""
    with word_vectors.open_file(file) as stream:
        return stream.read(4) == MAGIC.to_bytes(4, "little")


def is_classifier(file: str | os.PathLike) -> bool:
    """Return whether a file of fastText is that of a classifier."""
    with open(file, "rb") as stream:
        return _Reader(file, stream).settings()["model"] == SUPERVISED


def read(file: str | os.PathLike) -> tuple[list[str], Config, dict[str, np.ndarray]]:
    """Return the words, the config and the parameters of a file.

    The matrices are mapped into memory, read-only. A classifier has labels in its config, and
    `label_counts` among its parameters.

    Raises:
      ValueError: If the file is quantized, truncated, or inconsistent.
    """
    with open(file, "rb") as stream:
        return _Reader(file, stream).model()


def write(
    file: str | os.PathLike, words: Sequence[str], config: Config, params: dict[str, Any]
) -> None:
    """Write a file of fastText, which is a classifier if there are `label_counts`.

    What a config does not have, such as the number of epochs, is the default of the program.

    Raises:
      ValueError: If there is not one word per row, or if a word or a label cannot be an entry.
    """
    c, counts = config, np.asarray(params["counts"])
    is_classifier = "label_counts" in params
    labels = [f"{LABEL}{label}" for label in c.labels] if is_classifier else []
    label_counts = np.asarray(params["label_counts"]) if is_classifier else np.zeros(0, np.int32)
    if len(words) != c.vocab_size:
        raise ValueError(
            f"a file of fastText names every word, but the tokenizer has {len(words):,} of "
            f"{c.vocab_size:,}: use the tokenizer of this model"
        )
    wrong = next((text for text in [*words, *labels] if "\0" in text), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r} has a zero byte, which would end it in a file: rename it")
    # The program divides by the sum of the counts, so no word has none.
    entries = [(word, n, 0) for word, n in zip(words, np.maximum(counts, 1), strict=True)]
    entries += [(x, n, 1) for x, n in zip(labels, np.maximum(label_counts, 1), strict=True)]
    settings = {
        "dim": c.width,
        "ws": 5,
        "epoch": 5,
        "minCount": 1,
        "neg": 5,
        "wordNgrams": c.word_ngrams,
        "loss": LOSSES[c.loss],
        "model": SUPERVISED if is_classifier else SKIP_GRAM,
        "bucket": c.buckets,
        "minn": c.min_n,
        "maxn": c.max_n,
        "lrUpdateRate": 100,
        "t": 1e-4,
    }
    with open(file, "wb") as out:
        out.write(_HEADER.pack(MAGIC, VERSION, *(settings[name] for name in _SETTINGS)))
        tokens = sum(int(count) for _, count, _ in entries)
        out.write(_SIZES.pack(len(entries), len(words), len(labels), tokens, -1))
        for text, count, kind in entries:
            out.write(text.encode() + b"\0" + _ENTRY.pack(int(count), kind))
        for name in ("rows", "outputs"):
            matrix = np.asarray(params[name])
            out.write(_MATRIX.pack(False, *matrix.shape))
            np.ascontiguousarray(matrix, "<f4").tofile(out)


class _Reader:
    """The state of reading one file."""

    def __init__(self, file: str | os.PathLike, stream: BinaryIO):
        self.file, self.stream = file, stream
        if stream.read(2) == word_vectors.GZIP:
            raise ValueError(f"{file} is compressed, so it cannot be mapped: run gunzip on it")
        stream.seek(0)

    def model(self) -> tuple[list[str], Config, dict[str, np.ndarray]]:
        """Return what `read` does."""
        settings = self.settings()
        losses = {number: name for name, number in LOSSES.items()}
        if settings["loss"] not in losses or settings["dim"] < 1:
            raise ValueError(f"{self.file} is damaged: loss {settings['loss']} is none of 1 to 4")
        (words, counts), (labels, label_counts) = self._dictionary()
        rows, outputs = self._matrix(), self._matrix()
        config = Config(
            vocab_size=len(words),
            width=settings["dim"],
            buckets=settings["bucket"],
            min_n=settings["minn"],
            max_n=settings["maxn"],
            word_ngrams=settings["wordNgrams"],
            labels=_without_prefix(labels),
            loss=losses[settings["loss"]],
        )
        params = {"rows": rows, "outputs": outputs, "counts": counts}
        if settings["model"] == SUPERVISED:
            params["label_counts"] = label_counts
        num_outputs = len(labels if settings["model"] == SUPERVISED else words)
        for name, count in (("rows", len(words) + config.buckets), ("outputs", num_outputs)):
            if params[name].shape != (count, config.width):
                raise ValueError(
                    f"{self.file} is damaged: its {name} are {list(params[name].shape)}, but its "
                    f"settings need {[count, config.width]}"
                )
        return words, config, params

    def settings(self) -> dict[str, Any]:
        """Return the settings by the names of the program."""
        magic, version, *values = self._unpack(_HEADER)
        if magic != MAGIC or version not in (11, VERSION):
            raise ValueError(f"{self.file} is version {version} of fastText's files: expected 12")
        settings = dict(zip(_SETTINGS, values, strict=True))
        if version == 11 and settings["model"] == SUPERVISED:
            settings["maxn"] = 0  # classifiers of that version have no n-grams of characters
        return settings

    def _dictionary(self) -> tuple[tuple[list[str], np.ndarray], tuple[list[str], np.ndarray]]:
        """Return the words with their counts, and the labels with theirs."""
        size, num_words, num_labels, _, pruned = self._unpack(_SIZES)
        if pruned >= 0:
            raise self._quantized()
        if size != num_words + num_labels or min(num_words, num_labels) < 0:
            raise ValueError(
                f"{self.file} is damaged: {num_words:,} words and {num_labels:,} labels are not "
                f"{size:,} entries"
            )
        if size * (_ENTRY.size + 1) > os.path.getsize(self.file):
            raise self._truncated(f"its {size:,} entries")
        texts, counts, at = [], np.zeros(size, np.int64), self.stream.tell()
        rest, start = b"", 0
        for entry in range(size):
            end = rest.find(b"\0", start)
            while end < 0 or len(rest) < end + 1 + _ENTRY.size:
                more = self.stream.read(word_vectors.CHUNK)
                if not more:
                    raise self._truncated(f"entry {entry + 1:,} of {size:,}")
                at, rest, start = at + start, rest[start:] + more, 0
                end = rest.find(b"\0")
            count, kind = _ENTRY.unpack_from(rest, end + 1)
            if kind != (entry >= num_words):
                raise ValueError(
                    f"{self.file} is damaged: entry {entry + 1:,} of {size:,} is of kind {kind}"
                )
            texts.append(rest[start:end])
            counts[entry] = count
            start = end + 1 + _ENTRY.size
        self.stream.seek(at + start)
        # JAX has no 64-bit integers by default; only words that occur 2 billion times are affected.
        counts32 = np.minimum(counts, np.iinfo(np.int32).max).astype(np.int32)
        decoded = word_vectors.decoded(texts, self.file)
        if len(set(decoded)) < len(decoded):
            raise ValueError(f"{self.file} is damaged: a word or label is there twice")
        return (
            (decoded[:num_words], counts32[:num_words]),
            (decoded[num_words:], counts32[num_words:]),
        )

    def _matrix(self) -> np.ndarray:
        is_quantized, rows, width = self._unpack(_MATRIX)
        if is_quantized:
            raise self._quantized()
        start, size = self.stream.tell(), 4 * rows * width
        if start + size > os.path.getsize(self.file) or min(rows, width) < 0:
            raise self._truncated(f"a matrix of {rows:,} rows")
        self.stream.seek(start + size)
        if not size:  # an empty file cannot be mapped
            return np.zeros((rows, width), np.float32)
        return np.asarray(np.memmap(self.file, "<f4", "r", start, (rows, width)))

    def _unpack(self, form: struct.Struct) -> tuple:
        content = self.stream.read(form.size)
        if len(content) < form.size:
            raise self._truncated("a header")
        return form.unpack(content)

    def _truncated(self, part: str) -> ValueError:
        size = os.path.getsize(self.file)
        return ValueError(f"{self.file} is truncated: it ends at byte {size:,}, within {part}")

    def _quantized(self) -> ValueError:
        return ValueError(
            f"{self.file} is quantized (.ftz), so its rows are not stored: load the .bin file that "
            f"it was written from, {Path(self.file).with_suffix('.bin').name}"
        )


def _without_prefix(labels: Sequence[str]) -> tuple[str, ...]:
    """Return labels without `LABEL`; as they are, if they were written with another prefix."""
    if all(label.startswith(LABEL) for label in labels):
        labels = [label.removeprefix(LABEL) for label in labels]
    return tuple(labels)
