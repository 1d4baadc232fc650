"""Answers a question with a part of a text, by a model that was fine-tuned to it.

A text that is too long is read in windows that overlap, and the best of all spans is the answer
(Devlin et al. 2018, section 4.2, https://arxiv.org/abs/1810.04805, and its released run_squad.py).

L length
"""

from typing import NamedTuple

import numpy as np

from zoo.inference.batching import Row, check_task, part, scores

STRIDE = 128  # tokens from the beginning of a window to that of the next
LONGEST = 30  # tokens of an answer at most


class Window(NamedTuple):
    """A question and part of a context: the (start, end) in the context of each token's characters.

    That is without the blanks around them, and None where nothing is left, as for all tokens that
    are not of the context. `null` is the place that says that the answer is not here: that of the
    first special token, or 0 if there is none, where the question is.
    """

    row: Row
    characters: list[tuple[int, int] | None]
    null: int


class Answer(NamedTuple):
    """The answer, where in the context it starts and ends, and its score."""

    text: str
    start: int
    end: int
    score: float


def windows(
    tokenizer, question: str, context: str, length: int, stride: int = STRIDE
) -> list[Window]:
    """The question with every part of the context, in rows of at most `length` tokens.

    A window begins `stride` tokens after the last, or half of its room if that is less, so that
    they overlap. Raises ValueError where the question or the context is empty, or where the
    question leaves no room.
    """
    if stride < 1:
        raise ValueError(f"the stride is {stride}, but windows must begin 1 or more tokens apart")
    encoding = tokenizer.encode(question, context)
    sides = encoding.sequence_ids
    if 0 not in sides:
        raise ValueError("the question is empty: ask something")
    characters = [
        _bare(context, *offsets) if side == 1 else None
        for side, offsets in zip(sides, encoding.offsets, strict=True)
    ]
    if not any(characters):
        raise ValueError("the context is empty: give the text that has the answer")
    begin, count = sides.index(1), sides.count(1)
    room = length - (len(sides) - count)
    if room < 1:
        raise ValueError(
            f"the question has {sides.count(0)} tokens, which leaves no room for a context in the "
            f"{length} that are read at once: ask a shorter one"
        )
    step = min(stride, (room + 1) // 2)
    found = []
    for start in range(begin, begin + max(count - room, 0) + step, step):
        here = range(start, min(start + room, begin + count))
        places = [*range(begin), *here, *range(begin + count, len(sides))]
        special = [at for at, place in enumerate(places) if sides[place] is None]
        held = [characters[place] for place in places]
        if any(held):
            found.append(Window(part(encoding, places), held, next(iter(special), 0)))
    return found


def _bare(text: str, start: int, end: int) -> tuple[int, int] | None:
    """The characters without the blanks around them; None if there are no others."""
    word = text[start:end]
    start = end - len(word.lstrip())
    return (start, start + len(word.strip())) if word.strip() else None


def target(window: Window, start: int, end: int) -> tuple[int, int]:
    """The first and last token of the answer that has the characters from `start` to `end`.

    No blank is at either end of an answer. Both tokens are the null place where the window has not
    the whole answer.
    """
    held = [(place, span) for place, span in enumerate(window.characters) if span]
    whole = held[0][1][0] <= start and end <= held[-1][1][1]
    inside = [place for place, (first, last) in held if first < end and start < last]
    return (inside[0], inside[-1]) if whole and inside else (window.null, window.null)


def best(context: str, windows, scores, longest: int = LONGEST) -> Answer:
    """The span of at most `longest` tokens whose first starts and last ends an answer best.

    `scores` are those of each window, [L, 2]; that of an answer is the sum of both. Of equals the
    one that sees most of the context on both its sides is taken.
    """
    if longest < 1:
        raise ValueError(f"longest is {longest}, but an answer has at least 1 token")
    found = []
    for window, scores_L2 in zip(windows, scores, strict=True):
        held_L = np.array([span is not None for span in window.characters])
        span_LL = np.tril(np.triu(held_L[:, None] & held_L), longest - 1)
        sum_LL = np.where(span_LL, scores_L2[:, :1] + scores_L2[:, 1], -np.inf)
        first, last = np.unravel_index(sum_LL.argmax(), sum_LL.shape)
        (seen,) = np.nonzero(held_L)
        sides = min(first - seen[0], seen[-1] - last)
        characters = window.characters[first][0], window.characters[last][1]
        found.append((float(sum_LL[first, last]), sides, *characters))
    score, _, start, end = max(found, key=lambda candidate: candidate[:2])
    return Answer(context[start:end], start, end, score)


def answer(
    model, params, tokenizer, question: str, context: str, stride=STRIDE, longest=LONGEST
) -> Answer:
    """The part of the context that answers the question.

    Raises ValueError as `windows` and `best`, and where the model answers no questions.
    """
    check_task(model, tokenizer, "span")
    found = windows(tokenizer, question, context, model.config.max_length, stride)
    said = scores(model, params, [window.row for window in found])
    return best(context, found, said, longest)
