"""Classification of a text, or of a pair of texts, with a fine-tuned model.

A text has one label or, if the model is a multi-label classifier, any number of them. A text that
is too long is truncated, or read in windows whose logits are averaged. A model of similarity reads
a pair in both orders, and its logits are added.

C classes
"""

import warnings
from collections.abc import Sequence
from typing import overload

import numpy as np
from tokenizers import Encoding, Tokenizer

from zoo import registry
from zoo.checkpoints.load import Loaded
from zoo.inference import bag_of_words
from zoo.inference.batching import Row, check_task, outputs, select, sigmoid, softmax
from zoo.inference.prompts import as_list
from zoo.models.fasttext import FastTextClassifier

KINDS = ("classification", "multi-label", "similarity")  # of models that `classify` takes


def encode(tokenizer: Tokenizer, text: str, pair: str | None = None, *, max_length: int) -> Row:
    """Return the row of a text or a pair, with special tokens.

    If it has more than `max_length` tokens, the longer text is truncated, and both once they are
    equally long.

    Raises:
      ValueError: If a text is empty, or `max_length` leaves no room for text.
    """
    encoding = tokenizer.encode(text, pair)
    sides = encoding.sequence_ids
    counts, max_tokens = _sizes(encoding, text, pair, max_length)
    truncated: set[int] = set()
    for side, (count, kept) in enumerate(zip(counts, _shares(counts, max_tokens), strict=True)):
        start = sides.index(side)
        truncated.update(range(start + kept, start + count))
    row = select(encoding, [i for i in range(len(sides)) if i not in truncated])
    return row._replace(truncated=len(truncated))


def both_orders(tokenizer: Tokenizer, text: str, pair: str | None, *, max_length: int) -> list[Row]:
    """Return the rows of a pair in both orders, each as `encode` returns it.

    Raises:
      ValueError: As `encode`, or if there is no second text.
    """
    if pair is None:
        raise ValueError(f"the text {text!r} has no second text: the model compares two texts")
    orders = (text, pair), (pair, text)
    return [encode(tokenizer, *order, max_length=max_length) for order in orders]


def windows(
    tokenizer: Tokenizer, text: str, pair: str | None = None, *, max_length: int, stride: int
) -> list[Row]:
    """Return the rows of a text or a pair, which are overlapping windows if it is too long.

    Of a pair, the longer text is split, and each window has the whole of the other.

    Args:
      tokenizer: The tokenizer of the model.
      text: The text.
      pair: The second text of a pair.
      max_length: Maximum number of tokens of a row.
      stride: Tokens from the start of a window to the start of the next; reduced to the size of a
        window if it is larger, so that no token is left out.

    Raises:
      ValueError: As `encode`, or if the shorter text of a pair leaves no room for the other.
    """
    if stride < 1:
        raise ValueError(f"the stride must be at least 1 token, not {stride}")
    encoding = tokenizer.encode(text, pair)
    sides = encoding.sequence_ids
    counts, max_tokens = _sizes(encoding, text, pair, max_length)
    if sum(counts) <= max_tokens:
        return [select(encoding, range(len(sides)))]
    side = counts.index(max(counts))
    begin, count = sides.index(side), counts[side]
    room = max_tokens - (sum(counts) - count)
    if room < 1:
        raise ValueError(
            f"the shorter text of a pair has {min(counts)} tokens, which leaves no room for the "
            f"other within {max_length} tokens: use a greater length, or no stride"
        )
    step = min(stride, room)
    outside = range(begin), range(begin + count, len(sides))
    return [
        select(
            encoding,
            [*outside[0], *range(start, min(start + room, begin + count)), *outside[1]],
        )
        for start in range(begin, begin + count - room + step, step)
    ]


def _sizes(
    encoding: Encoding, text: str, pair: str | None, max_length: int
) -> tuple[list[int], int]:
    """Return the number of tokens of each text, and how many fit into a row."""
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
    return counts, max_tokens


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
def classify(
    loaded: Loaded, text: str, pair: str | None = None, *, stride: int | None = None
) -> dict[str, float]: ...


@overload
def classify(
    loaded: Loaded, text: list[str], pair: list[str] | None = None, *, stride: int | None = None
) -> list[dict[str, float]]: ...


def classify(
    loaded: Loaded,
    text: str | list[str],
    pair: str | list[str] | None = None,
    *,
    stride: int | None = None,
) -> dict[str, float] | list[dict[str, float]]:
    """Return the labels of a text or a pair of texts and their probabilities, most probable first.

    For a model with a single label (regression), the predicted number takes the place of the
    probability. The probabilities of a multi-label classifier are independent: a text has the
    labels above 0.5. So are those of a fastText classifier that was trained by one-vs-all or
    negative sampling. Warns if texts are truncated.

    Args:
      loaded: A fine-tuned classifier with its tokenizer.
      text: A text or a list of texts.
      pair: The second text of each pair.
      stride: Read longer texts than the model supports in windows that begin so many tokens apart,
        and average their logits. None: truncate them.

    Returns:
      One dict for a text, a list for a list.

    Raises:
      ValueError: As in `encode`, or if the model is not a classifier.
    """
    model, params, _ = loaded
    if isinstance(model, FastTextClassifier):
        if pair is not None or stride is not None:
            raise ValueError("fastText reads single texts of any length: leave out pair and stride")
        probabilities_NC = bag_of_words.classify(loaded, as_list(text))
        predictions = [_by_label(model.config.labels, values_C) for values_C in probabilities_NC]
        return predictions[0] if isinstance(text, str) else predictions
    kinds = {cls: kind for kind, cls in registry.of(model).TASKS.items()}
    kind = kinds.get(type(model))
    tokenizer = check_task(loaded, kind if kind in KINDS else "classification")
    texts = as_list(text)
    seconds: Sequence[str | None] = [None] * len(texts) if pair is None else as_list(pair)
    if len(texts) != len(seconds):
        raise ValueError(
            f"got {len(texts)} texts but {len(seconds)} second texts: they must be equally many"
        )
    max_length = model.config.max_length
    pairs = list(zip(texts, seconds, strict=True))
    if kind == "similarity":
        if stride is not None:
            raise ValueError("the model reads whole pairs in both orders: leave out the stride")
        rows = [both_orders(tokenizer, *both, max_length=max_length) for both in pairs]
    elif stride is None:
        rows = [[encode(tokenizer, *both, max_length=max_length)] for both in pairs]
    else:
        rows = [windows(tokenizer, *both, max_length=max_length, stride=stride) for both in pairs]
    truncated = [row.truncated for (row, *_) in rows if row.truncated]
    if truncated:
        warnings.warn(
            f"{len(truncated)} of {len(rows)} texts are longer than the {max_length} tokens that "
            f"the model supports: {sum(truncated)} tokens at their ends were truncated; with a "
            "stride, all are read",
            stacklevel=2,
        )
    labels = model.config.labels
    many = sigmoid if kind == "multi-label" else softmax
    probabilities = many if len(labels) > 1 or kind == "multi-label" else np.asarray
    merge = np.sum if kind == "similarity" else np.mean
    results = iter(outputs(model, params, [row for parts in rows for row in parts]))
    predictions = [
        _by_label(labels, probabilities(merge([next(results) for _ in parts], 0))) for parts in rows
    ]
    return predictions[0] if isinstance(text, str) else predictions


def _by_label(labels, values_C) -> dict[str, float]:
    order = np.argsort(-values_C, kind="stable")
    return {labels[number]: float(values_C[number]) for number in order}
