"""The words of a sentence as rows of tokens, and where each of them stands in its row."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, groupby
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from zoo.checkpoints.load import Loaded
from zoo.contracts import Speller
from zoo.inference.batching import Row, select
from zoo.inference.prompts import require_tokenizer
from zoo.layers.taggers import StackedTagger
from zoo.tokenizers import known_id, sides


class Piece(NamedTuple):
    """Part of a sentence: the indices of its words, where each begins in the row, and its tokens.

    The tokens of a word are `sizes` consecutive ones from `positions`.
    """

    row: Row
    words: list[int]
    positions: list[int]
    sizes: list[int]


def read_words(loaded: Loaded, words: Sequence[str], max_length: int) -> list[Piece]:
    """Return the rows of the words of a sentence, as the model reads them.

    Models that read letters have the whole sentence in one row. If they have word vectors beside
    them, the segment of a word is its row among those vectors, from 1, and 0 if it has none.

    Raises:
      ValueError: If there is no tokenizer, or a single word is too long for a row.
    """
    tokenizer = sides(require_tokenizer(loaded))
    if not isinstance(loaded.model, Speller):
        return pieces(tokenizer.source, words, max_length)
    if not words:
        return []
    tokens, positions = loaded.model.spell(tokenizer.source, words)
    segments = [0] * len(tokens)
    if isinstance(loaded.model, StackedTagger) and loaded.model.config.stacked[0]:
        for word, position in zip(words, positions, strict=True):
            id = known_id(tokenizer.target, word)
            segments[position] = 0 if id is None else id + 1
    row = Row(tokens.tolist(), segments)
    return [Piece(row, list(range(len(words))), positions, [1] * len(words))]


def pieces(tokenizer: Tokenizer, words: Sequence[str], max_length: int) -> list[Piece]:
    """Split a sentence between words into rows of about equal size, up to `max_length` tokens.

    A word without tokens, such as a control character, is in no piece.

    Raises:
      ValueError: If a single word is too long for a row.
    """
    # Not as a list of words: a byte-level tokenizer would encode them without blanks in between.
    encoding = tokenizer.encode(" ".join(words))
    sides = encoding.sequence_ids
    ends = [end - 1 for end in accumulate(len(word) + 1 for word in words)]
    of_words: list[list[int]] = [[] for _ in words]
    for position, (_, end) in enumerate(encoding.offsets):
        if sides[position] is not None:
            of_words[bisect_left(ends, end)].append(position)

    sizes = np.array([len(positions) for positions in of_words])
    max_tokens = max_length - sides.count(None)
    for word, size in zip(words, sizes, strict=True):
        if size > max_tokens:
            raise ValueError(
                f"the word {word!r} has {size} tokens, but a row has room for {max_tokens}: "
                "split or remove it"
            )
    piece_of = _assign(sizes, max_tokens) if sizes.any() else sizes
    encoded = [number for number, size in enumerate(sizes) if size]
    result = []
    for _, group in groupby(encoded, key=lambda number: piece_of[number]):
        numbers = list(group)
        begin, first = of_words[encoded[0]][0], of_words[numbers[0]][0]
        inside = range(first, of_words[numbers[-1]][-1] + 1)
        after = range(of_words[encoded[-1]][-1] + 1, len(sides))
        row = select(encoding, [*range(begin), *inside, *after])
        positions = [of_words[number][0] - first + begin for number in numbers]
        result.append(Piece(row, numbers, positions, [int(sizes[number]) for number in numbers]))
    return result


def _assign(sizes: np.ndarray, max_tokens: int) -> np.ndarray:
    """Return the piece of each word, so that no piece has more than `max_tokens`."""
    total, begins = sizes.sum(), np.cumsum(sizes) - sizes
    count = -(-total // max_tokens)
    while True:
        piece_of = begins * count // total
        if np.bincount(piece_of, sizes).max() <= max_tokens:
            return piece_of
        count += 1
