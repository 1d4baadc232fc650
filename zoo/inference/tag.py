"""Tagging of the words of a sentence, with a fine-tuned model.

The tag of a word is that of its first token (Devlin et al. 2018, section 5.3,
https://arxiv.org/abs/1810.04805).

L length  C classes
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, groupby
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer, pre_tokenizers

from zoo.checkpoints.load import Loaded
from zoo.inference.batching import Row, check_task, outputs, select, softmax
from zoo.inference.prompts import as_list

OUTSIDE = "O"  # the BIO label of a word outside of entities
BIO = re.compile(r"O|[BI]-.+")


class Piece(NamedTuple):
    """Part of a sentence: the indices of its words, where each begins in the row, and its tokens.

    The tokens of a word are `sizes` consecutive ones from `positions`.
    """

    row: Row
    words: list[int]
    positions: list[int]
    sizes: list[int]


class Tag(NamedTuple):
    """A word, its predicted label and the label's probability, and where it is in the text.

    It has the characters from `start` to before `end`.
    """

    word: str
    label: str
    probability: float
    start: int
    end: int


class Entity(NamedTuple):
    """A name in a text, its type, the mean probability of its tags, and where it is in the text.

    It has the characters from `start` to before `end`.
    """

    text: str
    label: str
    probability: float
    start: int
    end: int


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


def tag(loaded: Loaded, text: str | Sequence[str]) -> list[Tag]:
    """Return the tag of every word of a sentence.

    Args:
      loaded: A fine-tuned tagger with its tokenizer.
      text: A sentence, to be split at blanks and around punctuation, or a list of words. Characters
        of a list are counted as if there were one blank between words.

    Raises:
      ValueError: If there are no words, a word is too long, or the model is not a tagger.
    """
    model, params, _ = loaded
    tokenizer = check_task(loaded, "tagging")
    spans = split(text) if isinstance(text, str) else _joined(as_list(text))
    words = [word for word, _ in spans]
    if not words:
        raise ValueError("the text is empty: there is nothing to tag")
    parts = pieces(tokenizer, words, model.config.max_length)
    logits = outputs(model, params, [piece.row for piece in parts])
    tags = best_tags(model.config.labels, words, parts, logits)
    return [
        tag._replace(start=start, end=end)
        for tag, (_, (start, end)) in zip(tags, spans, strict=True)
    ]


def entities(loaded: Loaded, text: str | Sequence[str]) -> list[Entity]:
    """Return the entities of a sentence, from the B, I and O tags of its words.

    An entity starts at a B, and at an I that follows no tag of its type, as in the evaluation of
    CoNLL 2000.

    Args:
      loaded: A fine-tuned tagger with its tokenizer.
      text: As in `tag`.

    Raises:
      ValueError: As `tag`, or if the labels of the model are not B, I and O tags.
    """
    check_task(loaded, "tagging")
    other = [label for label in loaded.model.config.labels if not BIO.fullmatch(label)]
    if other:
        raise ValueError(
            f"the model has the label {other[0]!r}, but entities need labels such as B-LOC, I-LOC "
            "and O: use zoo.tag for the tag of every word"
        )
    joined = text if isinstance(text, str) else " ".join(text)
    return group_entities(tag(loaded, text), joined)


def group_entities(tags: Sequence[Tag], text: str) -> list[Entity]:
    """Return the entities of the tags of the words of a text."""
    groups: list[list[Tag]] = []
    previous = OUTSIDE
    for word in tags:
        if word.label != OUTSIDE:
            if word.label[0] == "B" or previous[2:] != word.label[2:]:
                groups.append([])
            groups[-1].append(word)
        previous = word.label
    return [
        Entity(
            text[words[0].start : words[-1].end],
            words[0].label[2:],
            float(np.mean([word.probability for word in words])),
            words[0].start,
            words[-1].end,
        )
        for words in groups
    ]


def split(text: str) -> list[tuple[str, tuple[int, int]]]:
    """Return the words of a text and their characters; each punctuation mark is a word."""
    return pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text)


def _joined(words: Sequence[str]) -> list[tuple[str, tuple[int, int]]]:
    """Return the words and their characters in a text with one blank between words."""
    ends = [end - 1 for end in accumulate(len(word) + 1 for word in words)]
    return [(word, (end - len(word), end)) for word, end in zip(words, ends, strict=True)]


def best_tags(
    labels: Sequence[str],
    words: Sequence[str],
    pieces: Sequence[Piece],
    logits: Sequence[np.ndarray],
) -> list[Tag]:
    """Return the most probable tag of every word, from the logits [L, C] of the pieces.

    A word that is in no piece is tagged "O", or with the first label if there is no "O", with a
    probability of 0. Characters are counted as if there were one blank between words.
    """
    default = OUTSIDE if OUTSIDE in labels else labels[0]
    tags = [Tag(word, default, 0.0, *span) for word, span in _joined(words)]
    for piece, logits_LC in zip(pieces, logits, strict=True):
        probability_LC = softmax(logits_LC)
        for number, position in zip(piece.words, piece.positions, strict=True):
            label = int(probability_LC[position].argmax())
            probability = float(probability_LC[position, label])
            tags[number] = tags[number]._replace(label=labels[label], probability=probability)
    return tags
