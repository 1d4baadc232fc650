"""Rows of tokens, the input of a fine-tuned model, and batches of them.

Rows of similar length share a batch, padded on the right to a length bucket, so that any number of
texts needs only a few compiled programs.

B batch  L length  C classes
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import chex
import jax
import numpy as np
from flax import linen as nn
from tokenizers import Encoding

from zoo import registry
from zoo.checkpoints.load import Loaded
from zoo.contracts import Speller
from zoo.direction import is_backward
from zoo.inference.length_buckets import bucket, least, merged
from zoo.inference.prompts import require_tokenizer
from zoo.params import call
from zoo.tokenizers import Tokenizer, sides

# What a fine-tuned model does, by kind of task (a key of TASKS).
DOES = {
    "classification": "classify texts",
    "multi-label": "predict any number of labels of texts",
    "similarity": "compare texts in both orders",
    "tagging": "tag words",
    "crf-tagging": "tag words",
    "question-answering": "answer questions",
    "multiple-choice": "choose among endings",
    "text-to-text": "rewrite texts",
}


class Row(NamedTuple):
    """The tokens of a text, the segment of each, and how many more were truncated.

    A token of a model that reads letters is a list of them.
    """

    tokens: list
    segments: list[int]
    truncated: int = 0


class Batch(NamedTuple):
    """A batch of padded rows, arrays [B, L]; `documents` is 1 for tokens and 0 for padding.

    Tokens that are lists of letters have a further axis.
    """

    tokens: np.ndarray
    segments: np.ndarray
    documents: np.ndarray


def select(encoding: Encoding, positions: Sequence[int]) -> Row:
    """Return a row of the tokens at some positions of an encoding."""
    ids, segments = encoding.ids, encoding.type_ids
    return Row(
        [ids[position] for position in positions], [segments[position] for position in positions]
    )


def in_reading_order(model: nn.Module, rows: Sequence[Row]) -> Sequence[Row]:
    """Return rows as a model reads them: those of a backward model begin with their last token."""
    if not is_backward(model.config):
        return rows
    return [row._replace(tokens=row.tokens[::-1], segments=row.segments[::-1]) for row in rows]


def in_text_order(model: nn.Module, x: np.ndarray) -> np.ndarray:
    """Return the outputs for the tokens of a row in the order of the text: [L, ...]."""
    return x[::-1] if is_backward(model.config) else x


def pad(rows: Sequence[Row], count: int, length: int) -> Batch:
    """Return a batch of `count` rows of one length; missing rows are empty."""
    letters = np.shape(rows[0].tokens)[1:] if rows else ()
    tokens_BL = np.zeros((count, length, *letters), np.int32)
    segments_BL, document_ids_BL = np.zeros((2, count, length), np.int32)
    for number, row in enumerate(rows):
        end = len(row.tokens)
        tokens_BL[number, :end] = row.tokens
        segments_BL[number, :end] = row.segments
        document_ids_BL[number, :end] = 1
    return Batch(tokens_BL, segments_BL, document_ids_BL)


def batches(
    rows: Sequence[Row], batch_size: int, longest: int
) -> Iterator[tuple[list[int], Batch]]:
    """Yield batches of all rows, shortest rows first: the indices of the rows, and the batch.

    All batches have the same number of rows; the last one is filled up with empty rows.
    """
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].tokens))
    count = min(batch_size, len(rows))
    parts = [order[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    lengths = [bucket(len(rows[indices[-1]].tokens), longest) for indices in parts]
    for indices, length in zip(parts, merged(lengths, least(1)), strict=True):
        yield indices, pad([rows[index] for index in indices], count, length)


def outputs(
    model: nn.Module, params: chex.ArrayTree, rows: Sequence[Row], batch_size: int = 32
) -> list[np.ndarray]:
    """Return the model's output for every row: [C], or [L, C] where it predicts for each token.

    Raises:
      ValueError: As in `check_rows`.
    """
    check_rows(rows, model)
    rows = in_reading_order(model, rows)
    results = {}
    for indices, batch in batches(rows, batch_size, model.config.max_length):
        for index, output in zip(indices, np.asarray(apply(model, params, *batch)), strict=False):
            if output.ndim > 1:
                output = in_text_order(model, output[: len(rows[index].tokens)])
            results[index] = output
    return [results[index] for index in range(len(rows))]


@partial(jax.jit, static_argnums=0)
def apply(
    model: nn.Module,
    params: chex.ArrayTree,
    tokens_BL: jax.Array,
    segments_BL: jax.Array,
    document_ids_BL: jax.Array,
) -> jax.Array:
    """Return the model's output for a batch; compiled once per model and shape."""
    return call(model, params, tokens_BL, segments_BL, document_ids_BL)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities over the last axis, in NumPy: JAX would compile it for every length."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return independent probabilities, in NumPy."""
    return 1 / (1 + np.exp(-np.clip(logits, -80, None)))


def check_rows(rows: Sequence[Row], model: nn.Module) -> None:
    """Raise ValueError for a row that is too long or has an id outside the vocabulary."""
    c = model.config
    if isinstance(model, Speller):  # its letters are within its alphabet, and any length is read
        return
    sizes = {"token": c.vocab_size, "segment": getattr(c, "num_segments", float("inf"))}
    for number, row in enumerate(rows, 1):
        if len(row.tokens) > c.max_length:
            raise ValueError(
                f"row {number} has {len(row.tokens)} tokens, but the model supports at most "
                f"{c.max_length}: truncate or split the text"
            )
        for name, ids in (("token", row.tokens), ("segment", row.segments)):
            invalid = [i for i in ids if not 0 <= i < sizes[name]]
            if invalid:
                raise ValueError(
                    f"row {number} has the {name} {invalid[0]}, but the model supports 0 to "
                    f"{sizes[name] - 1}: use the tokenizer of the model's folder"
                )


def check_task(loaded: Loaded, task: str) -> Tokenizer:
    """Return the tokenizer of a model for a task, a key of TASKS.

    Raises:
      ValueError: If the model is not for the task, or has no tokenizer.
    """
    if type(loaded.model) is not registry.of(loaded.model).TASKS.get(task):
        raise ValueError(
            f"{type(loaded.model).__name__} does not {DOES[task]}: fine-tune a model with "
            f"`zoo finetune ... --task {task}`"
        )
    return sides(require_tokenizer(loaded)).source
