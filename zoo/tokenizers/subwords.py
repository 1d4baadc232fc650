"""The rows of fastText's table: a word, its character n-grams, and the n-grams of words.

Bojanowski et al. 2017, section 3.2; Joulin et al. 2017, section 2.1. An n-gram is hashed into one
of a number of buckets, whose rows come after those of the words. The released program hashes the
bytes of UTF-8 by FNV-1a, but extends the sign of a byte to 32 bits, so that text other than ASCII
has other hashes than FNV-1a gives it. Published tables need exactly these hashes.
"""

import re
from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

OFFSET, PRIME = np.uint32(2166136261), np.uint32(16777619)
NEXT_WORD = np.uint64(116049371)
END = "</s>"  # ends every line, and has no character n-grams
WORD = re.compile(r"[^ \n\r\t\v\f\0]+")  # what the program reads as a word


class Rows(NamedTuple):
    """A list of rows for each word: those of word i are rows[first[i] : first[i + 1]]."""

    first: np.ndarray
    rows: np.ndarray

    def padded(self) -> np.ndarray:
        """Return the rows of each word, padded with -1: int32 [N, R]."""
        sizes = np.diff(self.first)
        table_NR = np.full((len(sizes), max(sizes.max(initial=0), 1)), -1, np.int32)
        table_NR[np.arange(table_NR.shape[1]) < sizes[:, None]] = self.rows
        return table_NR


def hashes(texts: Sequence[str]) -> np.ndarray:
    """Return the hash of each text: uint32."""
    result = np.full(len(texts), OFFSET)
    encoded = [text.encode() for text in texts]
    for number, text in enumerate(encoded):
        value = int(OFFSET)
        for byte in text:
            value = ((value ^ byte ^ (0xFFFFFF00 if byte > 127 else 0)) * int(PRIME)) & 0xFFFFFFFF
        result[number] = value
    return result


def ngrams(words: Sequence[str], min_n: int, max_n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the hashes of the character n-grams of all words, by word, start and length.

    The n-grams are those of "<word>", of `min_n` to `max_n` characters, without "<" and ">".

    Args:
      words: The words.
      min_n: The shortest n-grams.
      max_n: The longest ones; 0: there are none.

    Returns:
      The index of the word of each n-gram, and its hash: uint32.
    """
    marked = [b"" if word == END else f"<{word}>".encode() for word in words]
    text = np.frombuffer(b"".join(marked), np.uint8)
    if not len(text) or max_n < 1:
        return np.zeros(0, np.int64), np.zeros(0, np.uint32)
    byte_word = np.repeat(np.arange(len(words)), [len(word) for word in marked])
    starts = np.flatnonzero((text & 0xC0) != 0x80)  # of the characters
    sizes = np.diff(np.append(starts, len(text)))
    word = byte_word[starts]
    count = len(starts)
    first = np.append(True, word[1:] != word[:-1])
    last = np.append(word[1:] != word[:-1], True)
    signed = text.astype(np.int8).astype(np.int32).astype(np.uint32)
    value = np.full(count, OFFSET)
    parts: list[tuple[np.ndarray, np.ndarray, int]] = []
    for n in range(1, max_n + 1):
        # The n-gram that starts at character i is extended by character i + n - 1.
        reach = count - n + 1
        if reach < 1:
            break
        value, added = value[:reach], np.arange(n - 1, count)
        inside = word[added] == word[:reach]
        for k in range(4):  # the bytes of a character
            extends = inside & (sizes[added] > k)
            byte = signed[np.minimum(starts[added] + k, len(text) - 1)]
            value = np.where(extends, (value ^ byte) * PRIME, value)
        if n >= min_n:
            kept = inside & ~(first[:reach] | last[:reach]) if n == 1 else inside
            at = np.flatnonzero(kept)
            parts.append((at, value[at], n))
    if not parts:
        return np.zeros(0, np.int64), np.zeros(0, np.uint32)
    start = np.concatenate([at for at, _, _ in parts])
    order = np.argsort(start, kind="stable")  # shorter n-grams of a start stay first
    return word[start[order]], np.concatenate([values for _, values, _ in parts])[order]


def word_rows(
    words: Sequence[str], ids: np.ndarray, vocab_size: int, buckets: int, min_n: int, max_n: int
) -> Rows:
    """Return the rows of each word: its own, if it is in the vocabulary, and those of its n-grams.

    Args:
      words: The words.
      ids: Their rows in the vocabulary; -1: a word outside of it.
      vocab_size: The number of rows of words.
      buckets: The number of rows of n-grams.
      min_n: The shortest n-grams.
      max_n: The longest ones; 0: there are none.
    """
    word, value = ngrams(words, min_n, max_n if buckets else 0)
    ids = np.asarray(ids, np.int64)
    known = np.flatnonzero(ids >= 0)
    rows = np.concatenate([ids[known], vocab_size + value % max(buckets, 1)])
    order = np.argsort(np.concatenate([known, word]), kind="stable")  # the word itself comes first
    sizes = np.bincount(word, minlength=len(words)) + (ids >= 0)
    return Rows(np.concatenate([[0], np.cumsum(sizes)]), rows[order].astype(np.int32))


def line(text: str) -> list[str]:
    """Return the words of a text, which is read as one line, and its end."""
    return [*WORD.findall(text), END]


def sentence_rows(
    words: Sequence[str], vocab_size: int, buckets: int, word_ngrams: int
) -> np.ndarray:
    """Return the rows of the n-grams of 2 to `word_ngrams` consecutive words: int32.

    The hash of a word is extended by that of the next in 64 bits, with the sign of 32 bits. The
    bigrams come first.
    """
    rows = [np.zeros(0, np.int32)]
    if word_ngrams < 2 or not buckets:
        return rows[0]
    value = hashes(words).astype(np.int32).astype(np.int64).astype(np.uint64)
    key = value
    for n in range(1, min(word_ngrams, len(words))):
        key = key[:-1] * NEXT_WORD + value[n:]  # of 64 bits: the rest is lost
        rows.append((vocab_size + key % np.uint64(buckets)).astype(np.int32))
    return np.concatenate(rows)


def text_rows(
    lines: Sequence[Sequence[str]],
    id_of: Callable[[str], int | None],
    vocab_size: int,
    buckets: int,
    min_n: int,
    max_n: int,
    word_ngrams: int,
) -> Rows:
    """Return the rows of each text: those of its words, and of the n-grams of words.

    Args:
      lines: The words of each text.
      id_of: Returns the row of a word in the vocabulary, or None.
      vocab_size: The number of rows of words.
      buckets: The number of rows of n-grams.
      min_n: The fewest characters of an n-gram.
      max_n: The most ones; 0: there are none.
      word_ngrams: The most words of an n-gram of words.
    """
    number = {word: n for n, word in enumerate(dict.fromkeys(chain.from_iterable(lines)))}
    ids = [-1 if (row := id_of(word)) is None else row for word in number]
    of_words = word_rows(list(number), np.array(ids), vocab_size, buckets, min_n, max_n)
    of_word = np.split(of_words.rows, of_words.first[1:-1])
    texts = [
        np.concatenate(
            [
                *(of_word[number[word]] for word in words),
                sentence_rows(words, vocab_size, buckets, word_ngrams),
            ]
        )
        for words in lines
    ]
    return Rows(np.cumsum([0, *map(len, texts)]), np.concatenate([of_words.rows[:0], *texts]))
