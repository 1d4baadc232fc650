"""Question answering: the part of a text that answers a question, with a fine-tuned model.

A long text is split into overlapping windows, and the answer is the best span of all windows
(Devlin et al. 2018, section 4.2, https://arxiv.org/abs/1810.04805, and its released run_squad.py).
There is no answer if the null position scores higher than that span by a threshold (section 4.3).

L length
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from zoo.checkpoints.load import Loaded
from zoo.inference.batching import Row, check_task, outputs, select
from zoo.inference.prompts import check_text

STRIDE = 128  # tokens from the start of a window to the start of the next
MAX_ANSWER = 30  # maximum number of tokens in an answer


class Window(NamedTuple):
    """A question and part of a context: the (start, end) in the context of each token's characters.

    Surrounding blanks are excluded. The span is None if it is empty, and for all tokens outside the
    context. `null` is the position that means "the answer is not in the window": that of the
    first special token, or 0 if there is none.
    """

    row: Row
    characters: list[tuple[int, int] | None]
    null: int


class Answer(NamedTuple):
    """An answer, the offsets in the context where it starts and ends, and its score.

    Without an answer, the text is "" and the score is that of the best span. `null_score` is the
    score of "no answer", the lowest of all windows.
    """

    text: str
    start: int
    end: int
    score: float
    null_score: float = -np.inf


def windows(
    tokenizer: Tokenizer, question: str, context: str, max_length: int, stride: int = STRIDE
) -> list[Window]:
    """Split a context into overlapping windows, each in a row with the question.

    Args:
      tokenizer: The tokenizer of the model.
      question: The question.
      context: The text to split.
      max_length: Maximum number of tokens of a row.
      stride: Tokens from the start of a window to the start of the next; reduced to half of the
        context tokens of a row if it is larger, so that windows overlap.

    Raises:
      ValueError: If question or context are empty, or the question leaves no room for a context.
    """
    if stride < 1:
        raise ValueError(f"the stride must be at least 1 token, not {stride}")
    encoding = tokenizer.encode(question, context)
    sides = encoding.sequence_ids
    if 0 not in sides:
        raise ValueError("the question is empty: give a question")
    characters = [
        _strip(context, *offsets) if side == 1 else None
        for side, offsets in zip(sides, encoding.offsets, strict=True)
    ]
    if not any(characters):
        raise ValueError("the context is empty: give the text that has the answer")
    begin, count = sides.index(1), sides.count(1)
    max_tokens = max_length - (len(sides) - count)
    if max_tokens < 1:
        raise ValueError(
            f"the question has {sides.count(0)} tokens, which leaves no room for a context within "
            f"{max_length} tokens: use a shorter question"
        )
    step = min(stride, (max_tokens + 1) // 2)
    result = []
    for start in range(begin, begin + max(count - max_tokens, 0) + step, step):
        inside = range(start, min(start + max_tokens, begin + count))
        positions = [*range(begin), *inside, *range(begin + count, len(sides))]
        special = [at for at, position in enumerate(positions) if sides[position] is None]
        spans = [characters[position] for position in positions]
        if any(spans):
            result.append(Window(select(encoding, positions), spans, next(iter(special), 0)))
    return result


def _strip(text: str, start: int, end: int) -> tuple[int, int] | None:
    """Return a range of characters without the blanks around it; None if it has only blanks."""
    word = text[start:end]
    start = end - len(word.lstrip())
    return (start, start + len(word.strip())) if word.strip() else None


def target(window: Window, start: int, end: int) -> tuple[int, int]:
    """Return the first and last token of the answer with the characters from `start` to `end`.

    The answer must not start or end with a blank. Both tokens are the null position unless the
    window contains the whole answer.
    """
    spans = [(position, span) for position, span in enumerate(window.characters) if span]
    is_complete = spans[0][1][0] <= start and end <= spans[-1][1][1]
    inside = [position for position, (first, last) in spans if first < end and start < last]
    return (inside[0], inside[-1]) if is_complete and inside else (window.null, window.null)


def best_answer(
    context: str,
    windows: Sequence[Window],
    logits: Sequence[np.ndarray],
    max_answer: int = MAX_ANSWER,
) -> Answer:
    """Return the span of at most `max_answer` tokens with the highest score.

    Args:
      context: The text that the windows were split from.
      windows: The windows.
      logits: The start and end logits of each window, [L, 2]. The score of a span is the sum of
        both. Among equal scores, the span with the most context on both sides wins.
      max_answer: Maximum number of tokens in an answer.
    """
    if max_answer < 1:
        raise ValueError(f"max_answer must be at least 1 token, not {max_answer}")
    candidates = []
    for window, logits_L2 in zip(windows, logits, strict=True):
        spans = {position: span for position, span in enumerate(window.characters) if span}
        context_L = np.array([span is not None for span in window.characters])
        span_LL = np.tril(np.triu(context_L[:, None] & context_L), max_answer - 1)
        sum_LL = np.where(span_LL, logits_L2[:, :1] + logits_L2[:, 1], -np.inf)
        first, last = np.unravel_index(sum_LL.argmax(), sum_LL.shape)
        (positions,) = np.nonzero(context_L)
        margin = min(first - positions[0], positions[-1] - last)
        characters = spans[int(first)][0], spans[int(last)][1]
        candidates.append((float(sum_LL[first, last]), margin, *characters))
    score, _, start, end = max(candidates, key=lambda candidate: candidate[:2])
    null_score = min(
        float(logits_L2[window.null].sum())
        for window, logits_L2 in zip(windows, logits, strict=True)
    )
    return Answer(context[start:end], start, end, score, null_score)


def answer_or_none(best: Answer, null_threshold: float | None) -> Answer:
    """Return the best answer, or one without text if "no answer" scores higher by the threshold.

    Args:
      best: The answer of `best_answer`.
      null_threshold: How much higher "no answer" may score. None: there is always an answer.
    """
    if null_threshold is None or best.null_score - best.score <= null_threshold:
        return best
    return best._replace(text="", start=0, end=0)


def answer(
    loaded: Loaded,
    question: str,
    context: str,
    *,
    stride: int = STRIDE,
    max_answer: int = MAX_ANSWER,
    null_threshold: float | None = None,
) -> Answer:
    """Return the part of the context that answers the question, or "" if none does.

    Args:
      loaded: A model fine-tuned for question answering, with its tokenizer.
      question: The question.
      context: The text that has the answer.
      stride: Tokens from the start of a window to the start of the next.
      max_answer: Maximum number of tokens in an answer.
      null_threshold: There is no answer if the score of "no answer" is higher by more. None: the
        threshold of the model, chosen on its development data; if it has none, there is always an
        answer.

    Raises:
      ValueError: As in `windows` and `best_answer`, or if the model is not for question answering.
    """
    model, params, _ = loaded
    tokenizer = check_task(loaded, "question-answering")
    check_text(question)
    check_text(context)
    parts = windows(tokenizer, question, context, model.config.max_length, stride)
    logits = outputs(model, params, [window.row for window in parts])
    if null_threshold is None:
        null_threshold = model.config.null_threshold
    return answer_or_none(best_answer(context, parts, logits, max_answer), null_threshold)
