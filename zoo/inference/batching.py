"""Rows of tokens: what a fine-tuned model reads of texts, and how it reads many of them.

Rows of like length share a batch, padded on the right to one of a short ladder of lengths, so that
any number of texts compiles a handful of times.

B batch  L length  C classes
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from zoo import registry

# What a fine-tuned model does, by its name in TASKS, and the task of `zoo finetune` that makes one.
DOES = {
    "text": ("classify texts", "sentence"),
    "token": ("tag words", "tag"),
    "span": ("answer questions", "question"),
    "rewrite": ("rewrite texts", "rewrite"),
}


class Row(NamedTuple):
    """The tokens of a text, the segment of each, and how many more did not fit."""

    tokens: list[int]
    segments: list[int]
    left_out: int = 0


class Batch(NamedTuple):
    """Rows side by side, each array [B, L]; `documents` is 1 for tokens and 0 for padding."""

    tokens: np.ndarray
    segments: np.ndarray
    documents: np.ndarray


def part(encoding, places) -> Row:
    """The row of the tokens that stand at these places of an encoding."""
    ids, segments = encoding.ids, encoding.type_ids
    return Row([ids[place] for place in places], [segments[place] for place in places])


def pad(rows, count: int, length: int) -> Batch:
    """So many rows of one length; those behind the given ones are empty."""
    tokens_BL, segments_BL, documents_BL = np.zeros((3, count, length), np.int32)
    for number, row in enumerate(rows):
        end = len(row.tokens)
        tokens_BL[number, :end] = row.tokens
        segments_BL[number, :end] = row.segments
        documents_BL[number, :end] = 1
    return Batch(tokens_BL, segments_BL, documents_BL)


def rung(length: int, longest: int) -> int:
    """The length that so many tokens are padded to: the next of 8, 12, 16, 24, 32, 48, ..."""
    power = max(8, 1 << (length - 1).bit_length())
    between = max(8, power * 3 // 4)
    return min(between if length <= between else power, longest)


def batches(rows, rows_a_batch: int, longest: int) -> Iterator[tuple[list[int], Batch]]:
    """All rows, the short ones first: the places of some among all, and their batch.

    All batches have as many rows, if need be empty ones behind those of the places.
    """
    order = sorted(range(len(rows)), key=lambda place: len(rows[place].tokens))
    count = min(rows_a_batch, len(rows))
    for start in range(0, len(rows), rows_a_batch):
        places = order[start : start + rows_a_batch]
        length = rung(len(rows[places[-1]].tokens), longest)
        yield places, pad([rows[place] for place in places], count, length)


def scores(model, params, rows, rows_a_batch: int = 32) -> list[np.ndarray]:
    """What the model says of each row, in their order: [C], or [L, C] where it says it of tokens.

    Raises ValueError as `check`.
    """
    check(rows, model)
    found = {}
    for places, batch in batches(rows, rows_a_batch, model.config.max_length):
        for place, said in zip(places, np.asarray(apply(model, params, *batch)), strict=False):
            found[place] = said if said.ndim == 1 else said[: len(rows[place].tokens)]
    return [found[place] for place in range(len(rows))]


@partial(jax.jit, static_argnums=0)
def apply(model, params, tokens_BL, segments_BL, documents_BL):
    """What the model says of a batch; compiled once a model and shape."""
    return model.apply({"params": params}, tokens_BL, segments_BL, documents_BL)


def softmax(logits):
    """Probabilities over the last axis, in NumPy: JAX would compile it for every length."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def check(rows, model) -> None:
    """Raises ValueError for a row that is too long, or has what the model has no vector for."""
    c = model.config
    known = {"token": c.vocab_size, "segment": getattr(c, "num_segments", float("inf"))}
    for number, row in enumerate(rows, 1):
        if len(row.tokens) > c.max_length:
            raise ValueError(
                f"row {number} has {len(row.tokens)} tokens, the model takes {c.max_length}: "
                f"make rows of a length up to {c.max_length}"
            )
        for name, ids in (("token", row.tokens), ("segment", row.segments)):
            wrong = [i for i in ids if not 0 <= i < known[name]]
            if wrong:
                raise ValueError(
                    f"row {number} has the {name} {wrong[0]}, the model knows 0 to "
                    f"{known[name] - 1}: take the tokenizer of the model's own folder"
                )


def check_task(model, tokenizer, task: str) -> None:
    """Raises ValueError unless the model was made for a task, a name in TASKS, and has words."""
    made = [getattr(each, "TASKS", {}).get(task, ()) for each in registry.ARCHITECTURES.values()]
    if not any(isinstance(model, cls) for cls in made):
        does, name = DOES[task]
        raise ValueError(
            f"{type(model).__name__} does not {does}: make a model that does with "
            f"`zoo finetune ... --task {name}`"
        )
    if tokenizer is None:
        raise ValueError("the model folder has no tokenizer, so it takes token ids only")
