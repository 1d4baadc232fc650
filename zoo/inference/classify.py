"""Tells the class of a text, or of a pair of texts, with a model that was fine-tuned to it.

C classes
"""

import warnings

import numpy as np

from zoo.inference.batching import Row, check_task, part, scores, softmax


def encode(tokenizer, text: str, pair: str | None = None, *, length: int) -> Row:
    """The row of a text or a pair, with its special tokens.

    Where that is longer than `length`, the longer text loses its end, both once they are of one
    size; the row says how many tokens were left out. Raises ValueError for a text that is empty,
    and where there is no room for any.
    """
    encoding = tokenizer.encode(text, pair)
    sides = encoding.sequence_ids
    texts = [text] if pair is None else [text, pair]
    counts = [sides.count(side) for side in range(len(texts))]
    if 0 in counts:
        raise ValueError(f"{texts[counts.index(0)]!r} is an empty text: give one with words")
    room = length - sides.count(None)
    if room < len(texts):
        raise ValueError(
            f"{length} tokens have no room for text beside {sides.count(None)} special ones: "
            "take a greater length"
        )
    cut = set()
    for side, (count, kept) in enumerate(zip(counts, _shares(counts, room), strict=True)):
        start = sides.index(side)
        cut.update(range(start + kept, start + count))
    row = part(encoding, [place for place in range(len(sides)) if place not in cut])
    return row._replace(left_out=len(cut))


def _shares(counts: list[int], room: int) -> list[int]:
    """How many tokens of each text stay, as "longest_first" of the tokenizers library has it."""
    if sum(counts) <= room:
        return counts
    if len(counts) == 1:
        return [room]
    short = min(*counts, room // 2)
    return [room - short, short] if counts[0] > counts[1] else [short, room - short]


def classify(model, params, tokenizer, texts, pairs=None) -> list[dict[str, float]]:
    """The labels of each text, or of each with its pair, and their probabilities, likeliest first.

    A model of one label predicts a number, which then stands in the place of a probability. Warns
    where texts had to be cut. Raises ValueError as `encode`, and where the model is no classifier.
    """
    check_task(model, tokenizer, "text")
    pairs = [None] * len(texts) if pairs is None else pairs
    if len(texts) != len(pairs):
        raise ValueError(f"there are {len(texts)} texts, but {len(pairs)} to pair them with")
    length = model.config.max_length
    rows = [
        encode(tokenizer, text, pair, length=length)
        for text, pair in zip(texts, pairs, strict=True)
    ]
    cut = [row.left_out for row in rows if row.left_out]
    if cut:
        warnings.warn(
            f"{len(cut)} of {len(rows)} texts are longer than the {length} tokens that the model "
            f"takes: {sum(cut)} tokens at their ends were left out",
            stacklevel=2,
        )
    return [_named(model.config.labels, scores_C) for scores_C in scores(model, params, rows)]


def _named(labels, scores_C) -> dict[str, float]:
    values_C = scores_C if len(labels) == 1 else softmax(scores_C)
    return {labels[place]: float(values_C[place]) for place in np.argsort(-values_C, kind="stable")}
