"""Evaluation of count models on a text: perplexity, bits per byte, and what was never seen.

B batch  L length
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from train.counting import text
from train.data.corpus.corpus import Corpus
from train.data.sources import builtin
from train.data.sources.source import Source
from train.metrics import language_model
from zoo.checkpoints.load import Loaded, load
from zoo.models.ngram import NGram, Tables, table_bytes
from zoo.tokenizers import sides
from zoo.tokenizers.units import UNKNOWN

CHUNK = 1 << 16  # tokens scored at a time


class Order(NamedTuple):
    """What `--show counts` reports about one order.

    Attributes:
      order: The order.
      ngrams: Number of distinct n-grams in the table.
      unseen: Share of the n-grams of the text, with repetitions, that are not in the table. Of
        order 1, it is the share of <unk>, which stands for all that were not seen.
      bytes: Size of the table.
    """

    order: int
    ngrams: int
    unseen: float
    bytes: int


class Evaluation(NamedTuple):
    """The metrics of a text, and the table of `--show counts`."""

    metrics: dict[str, float]
    orders: list[Order]


def evaluate_folder(folder: str | Path, source: Source | None = None) -> Evaluation:
    """Evaluate a model folder, or an ARPA file, on a text.

    Args:
      folder: The folder or file.
      source: The text. None: the held-out part of the built-in corpus.
    """
    loaded = load(folder)
    if loaded.tokenizer is None:
        raise ValueError(f"{folder} has no tokenizer to read a text with")
    if source and source.kind != "text":
        raise ValueError("an n-gram model is evaluated on text: give --text")
    tokenizer = sides(loaded.tokenizer).source
    held_out = text.corpus(source or builtin.read(), tokenizer, loaded.model.config.end)
    if source is None:
        _, held_out = held_out.split()
    return evaluate(loaded, held_out)


def evaluate(loaded: Loaded, held_out: Corpus) -> Evaluation:
    """Return the metrics of a tokenized text; every token but the first is predicted.

    Raises:
      ValueError: If the text has fewer than two tokens.
    """
    model: NGram = loaded.model  # type: ignore[assignment]
    tokens = held_out.read(held_out.start, held_out.stop)
    if len(tokens) < 2:
        raise ValueError("the text to evaluate on has a single token: give more text")
    unknown = _unknown(loaded, tokens)
    nats, nats_known, seen = 0.0, 0.0, np.zeros(model.config.order + 1, np.int64)
    for start, p_L, found_L in scored(model, loaded.params, tokens):
        with np.errstate(divide="ignore"):
            nats_L = -np.log(p_L.astype(np.float64))
        is_known_L = ~unknown[start : start + len(p_L)]
        nats += nats_L.sum()
        nats_known += nats_L[is_known_L].sum()
        seen += np.bincount(found_L, minlength=len(seen))
    predicted = len(tokens) - 1
    loss = nats / predicted
    metrics = {"loss": loss, "perplexity": language_model.perplexity(loss)}
    tokens_per_byte = len(tokens) / held_out.num_bytes
    metrics["bits_per_byte"] = language_model.bits_per_byte(loss, tokens_per_byte)
    count = int(unknown[1:].sum())
    if 0 < count < predicted:
        known = nats_known / (predicted - count)
        metrics["unknown_share"] = count / predicted
        metrics["perplexity_without_unknown"] = language_model.perplexity(known)
    return Evaluation(metrics, _orders(model, loaded.params, tokens, seen, count / predicted))


def table(orders: list[Order]) -> list[str]:
    """Return the lines of `--show counts`."""
    lines = [f"{'order':>5}  {'n-grams':>13}  {'never seen':>10}  {'table':>10}"]
    for row in orders:
        lines.append(
            f"{row.order:>5}  {row.ngrams:>13,}  {row.unseen:>10.2%}  {row.bytes / 1e6:>7.1f} MB"
        )
    return lines


def scored(
    model: NGram, tables: Tables, tokens: np.ndarray
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield the probabilities of all tokens but the first, and the orders they were found in.

    Yields:
      The index of the first token of a part, its p_L, and its found_L.
    """
    reach = model.config.order - 1
    L = min(CHUNK, len(tokens)) + reach
    for start in range(1, len(tokens), L - reach):
        stop = min(start + L - reach, len(tokens))
        part = tokens[max(start - reach, 0) : stop]
        tokens_BL, document_ids_BL = np.zeros((2, 1, L), np.int32)
        tokens_BL[0, : len(part)] = part
        document_ids_BL[0, : len(part)] = 1
        p_BL, found_BL = _score(model, tables, tokens_BL, document_ids_BL)
        new = slice(len(part) - (stop - start), len(part))
        yield start, np.asarray(p_BL)[0, new], np.asarray(found_BL)[0, new]


@partial(jax.jit, static_argnums=0)
def _score(
    model: NGram, tables: Tables, tokens_BL: jax.Array, document_ids_BL: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return model.apply({"params": tables}, tokens_BL, document_ids_BL, method="score")


def _unknown(loaded: Loaded, tokens: np.ndarray) -> np.ndarray:
    assert loaded.tokenizer is not None
    unknown = loaded.tokenizer.token_to_id(UNKNOWN)
    return np.zeros(len(tokens), bool) if unknown is None else tokens == unknown


def _orders(
    model: NGram, tables: Tables, tokens: np.ndarray, seen: np.ndarray, unknown: float
) -> list[Order]:
    """Return the rows of the table.

    Args:
      model: The model.
      tables: Its tables.
      tokens: The text.
      seen: The number of tokens by the order they were found in.
      unknown: The share of <unk>.
    """
    c = model.config
    position = np.arange(len(tokens))
    begins = np.maximum.accumulate(np.where(tokens == c.end, position, 0))
    longest = np.minimum(position[1:] - begins[:-1] + 1, c.order)  # within the document
    sizes = table_bytes(tables)
    return [
        Order(
            order=n,
            ngrams=c.ngrams[n - 1],
            unseen=1 - seen[n:].sum() / max((longest >= n).sum(), 1) if n > 1 else unknown,
            bytes=sizes[n - 1],
        )
        for n in range(1, c.order + 1)
    ]
