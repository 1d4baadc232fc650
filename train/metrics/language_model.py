"""Metrics of a language model, from what was counted: numbers in, numbers out."""

import math
from collections.abc import Mapping

import numpy as np

from train.objectives.objective import Objective

CHUNK = 1 << 20  # tokens counted at a time, so that a corpus is never in memory whole


def perplexity(nats: float) -> float:
    """Return the exponential of the mean loss in nats per token."""
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf


def bits_per_byte(nats: float, tokens_per_byte: float) -> float:
    """Return the bits a model needs per byte of text, which compares across tokenizers.

    Args:
      nats: The mean loss in nats per token.
      tokens_per_byte: Tokens of the text per byte of it in UTF-8.
    """
    return nats * tokens_per_byte / math.log(2)


def reported_loss(objective: Objective) -> str:
    """Return the name of the loss that baselines and perplexity are about.

    It is that of the reported term where there are several, such as "masked_loss" beside the loss
    of next-sentence prediction, which says nothing of how well tokens are predicted.
    """
    term, factors = objective.reported_term, objective.factors
    return f"{term}_loss" if len(factors) > 1 and factors[term] else "loss"


def add_derived(
    metrics: Mapping[str, float], objective: Objective, tokens_per_byte: float
) -> dict[str, float]:
    """Return losses and accuracies with perplexity, and with bits per byte if every token counts.

    Args:
      metrics: "loss", and the loss of each term as "TERM_loss" if there are several.
      objective: What the losses are those of.
      tokens_per_byte: Tokens that are predicted per byte of the text.
    """
    nats = metrics[reported_loss(objective)]
    derived = {"perplexity": perplexity(nats)}
    if objective.predicts_every_token:
        derived["bits_per_byte"] = bits_per_byte(nats, tokens_per_byte)
    return {**metrics, **derived}


def unigram_entropy(
    train_tokens: np.ndarray, held_out_tokens: np.ndarray, vocab_size: int
) -> float:
    """Return the loss, in nats per token, of a model that knows only how often each token occurs.

    It counts `train_tokens` with one added to every count (Laplace) and is scored on
    `held_out_tokens`. A network that does no better has learnt frequencies and nothing more.

    Args:
      train_tokens: An integer array of one axis; a memory map is read in chunks.
      held_out_tokens: Likewise.
      vocab_size: Every id must lie below it.

    Raises:
      ValueError: If an id is out of range, or if there are no held-out tokens.
    """
    held_out = _counts(held_out_tokens, vocab_size)
    if not held_out.sum():
        raise ValueError("the unigram baseline needs held-out tokens, and there are none")
    smoothed = _counts(train_tokens, vocab_size) + 1
    log_share = np.log(smoothed) - math.log(smoothed.sum())
    return float(-(held_out * log_share).sum() / held_out.sum())


def _counts(tokens: np.ndarray, vocab_size: int) -> np.ndarray:
    counts = np.zeros(vocab_size, np.int64)
    for start in range(0, len(tokens), CHUNK):
        chunk = np.asarray(tokens[start : start + CHUNK], np.int64)
        if chunk.min() < 0 or chunk.max() >= vocab_size:
            raise ValueError(
                f"token ids run from {chunk.min()} to {chunk.max()}, "
                f"outside of the vocabulary of {vocab_size}: is this its tokenizer?"
            )
        counts += np.bincount(chunk, minlength=vocab_size)
    return counts
