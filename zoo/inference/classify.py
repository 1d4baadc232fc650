"""Classification of a text, or of a pair of texts, with a fine-tuned model.

C classes
"""

import warnings
from collections.abc import Sequence
from typing import overload

import numpy as np
from tokenizers import Tokenizer

from zoo.checkpoints.load import Loaded
from zoo.inference.batching import Row, check_task, outputs, select, softmax
from zoo.inference.prompts import as_list


def encode(tokenizer: Tokenizer, text: str, pair: str | None = None, *, max_length: int) -> Row:
    """Return the row of a text or a pair, with special tokens.

    If it has more than `max_length` tokens, the longer text is truncated, and both once they are
    equally long.

    Raises:
      ValueError: If a text is empty, or `max_length` leaves no room for text.
    """
    encoding = tokenizer.encode(text, pair)
    sides = encoding.sequence_ids
    texts = [text] if pair is None else [text, pair]
    counts = [sides.count(side) for side in range(len(texts))]
    if 0 in counts:
        raise ValueError(f"the text {texts[counts.index(0)]!r} is empty: give a text with words")
    max_tokens = max_length - sides.count(None)
    if max_tokens < len(texts):
        raise ValueError(
            f"a length of {max_length} leaves no room for text beside {sides.count(None)} special "
            "tokens: use a greater length"
        )
    truncated: set[int] = set()
    for side, (count, kept) in enumerate(zip(counts, _shares(counts, max_tokens), strict=True)):
        start = sides.index(side)
        truncated.update(range(start + kept, start + count))
    row = select(encoding, [i for i in range(len(sides)) if i not in truncated])
    return row._replace(truncated=len(truncated))


def _shares(counts: list[int], max_tokens: int) -> list[int]:
    """Return how many tokens of each text are kept, as "longest_first" of tokenizers does."""
    if sum(counts) <= max_tokens:
        return counts
    if len(counts) == 1:
        return [max_tokens]
    short = min(*counts, max_tokens // 2)
    long = max_tokens - short
    return [long, short] if counts[0] > counts[1] else [short, long]


@overload
def classify(loaded: Loaded, text: str, pair: str | None = None) -> dict[str, float]: ...


@overload
def classify(
    loaded: Loaded, text: list[str], pair: list[str] | None = None
) -> list[dict[str, float]]: ...


def classify(
    loaded: Loaded, text: str | list[str], pair: str | list[str] | None = None
) -> dict[str, float] | list[dict[str, float]]:
    """Return the labels of a text or a pair of texts and their probabilities, most probable first.

    For a model with a single label (regression), the predicted number takes the place of the
    probability. Warns if texts are truncated.

    Args:
      loaded: A fine-tuned classifier with its tokenizer.
      text: A text or a list of texts.
      pair: The second text of each pair.

    Returns:
      One dict for a text, a list for a list.

    Raises:
      ValueError: As in `encode`, or if the model is not a classifier.
    """
    model, params, _ = loaded
    tokenizer = check_task(loaded, "classification")
    texts = as_list(text)
    seconds: Sequence[str | None] = [None] * len(texts) if pair is None else as_list(pair)
    if len(texts) != len(seconds):
        raise ValueError(
            f"got {len(texts)} texts but {len(seconds)} second texts: they must be equally many"
        )
    max_length = model.config.max_length
    rows = [
        encode(tokenizer, first, second, max_length=max_length)
        for first, second in zip(texts, seconds, strict=True)
    ]
    truncated = [row.truncated for row in rows if row.truncated]
    if truncated:
        warnings.warn(
            f"{len(truncated)} of {len(rows)} texts are longer than the {max_length} tokens that "
            f"the model supports: {sum(truncated)} tokens at their ends were truncated",
            stacklevel=2,
        )
    labels = model.config.labels
    predictions = [_by_label(labels, logits_C) for logits_C in outputs(model, params, rows)]
    return predictions[0] if isinstance(text, str) else predictions


def _by_label(labels, logits_C) -> dict[str, float]:
    values_C = logits_C if len(labels) == 1 else softmax(logits_C)
    order = np.argsort(-values_C, kind="stable")
    return {labels[number]: float(values_C[number]) for number in order}
