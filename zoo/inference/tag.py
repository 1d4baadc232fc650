"""Tags the words of a sentence with a model that was fine-tuned to it.

The tag of a word is that of its first token (Devlin et al. 2018, section 5.3,
https://arxiv.org/abs/1810.04805).

L length  C classes
"""

from bisect import bisect_left
from itertools import accumulate, groupby
from typing import NamedTuple

import numpy as np
from tokenizers import pre_tokenizers

from zoo.inference.batching import Row, check_task, part, scores, softmax

NOTHING = "O"  # the label of a word that is no part of a name


class Piece(NamedTuple):
    """Part of a sentence: the numbers of its words, and where in the row each of them begins."""

    row: Row
    words: list[int]
    places: list[int]


class Tag(NamedTuple):
    """A word, its label and the probability of that."""

    word: str
    label: str
    probability: float


def pieces(tokenizer, words: list[str], length: int) -> list[Piece]:
    """The sentence in rows of at most `length` tokens, about equal, cut between words.

    A word of which the tokenizer makes no token, such as a control character, is in no piece.
    Raises ValueError for a word that alone is too long.
    """
    # Not as a list of words, which a byte-level tokenizer reads as if no blank stood between.
    encoding = tokenizer.encode(" ".join(words))
    sides = encoding.sequence_ids
    ends = [end - 1 for end in accumulate(len(word) + 1 for word in words)]
    of_words = [[] for _ in words]
    for place, (_, end) in enumerate(encoding.offsets):
        if sides[place] is not None:
            of_words[bisect_left(ends, end)].append(place)

    sizes, room = np.array([len(places) for places in of_words]), length - sides.count(None)
    for word, size in zip(words, sizes, strict=True):
        if size > room:
            raise ValueError(
                f"the word {word!r} alone has {size} tokens, and {length} have room for {room}: "
                "split or leave it out"
            )
    part_of = _parts(sizes, room) if sizes.any() else []
    known = [number for number, size in enumerate(sizes) if size]
    found = []
    for _, group in groupby(known, key=lambda number: part_of[number]):
        numbers = list(group)
        begin, first = of_words[known[0]][0], of_words[numbers[0]][0]
        here = range(first, of_words[numbers[-1]][-1] + 1)
        after = range(of_words[known[-1]][-1] + 1, len(sides))
        row = part(encoding, [*range(begin), *here, *after])
        places = [of_words[number][0] - first + begin for number in numbers]
        found.append(Piece(row, numbers, places))
    return found


def _parts(sizes, room: int):
    """The number of the part that each word is in, where no part is larger than the room."""
    total, begins = sizes.sum(), np.cumsum(sizes) - sizes
    count = -(-total // room)
    while True:
        part_of = begins * count // total
        if np.bincount(part_of, sizes).max() <= room:
            return part_of
        count += 1


def tag(model, params, tokenizer, text: str | list[str]) -> list[Tag]:
    """The tag of every word; a text is split into words at blanks and around punctuation.

    Raises ValueError where there is no word, one is too long, or the model tags no words.
    """
    check_task(model, tokenizer, "token")
    words = split(text) if isinstance(text, str) else list(text)
    if not words:
        raise ValueError("the text is empty: there is nothing to tag")
    found = pieces(tokenizer, words, model.config.max_length)
    said = scores(model, params, [piece.row for piece in found])
    return best(model.config.labels, words, found, said)


def split(text: str) -> list[str]:
    """The words of a text; each mark of punctuation is one."""
    return [word for word, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text)]


def best(labels, words, pieces, scores) -> list[Tag]:
    """The likeliest tag of every word, from the scores of its pieces.

    A word that is in no piece is tagged "O", or where there is none with the first label, at a
    probability of 0.
    """
    tags = [Tag(word, NOTHING if NOTHING in labels else labels[0], 0.0) for word in words]
    for piece, scores_LC in zip(pieces, scores, strict=True):
        chance_LC = softmax(scores_LC)
        for number, place in zip(piece.words, piece.places, strict=True):
            label = int(chance_LC[place].argmax())
            tags[number] = Tag(words[number], labels[label], float(chance_LC[place, label]))
    return tags
