"""Metrics of language models: perplexity, bits per byte, and the unigram baseline."""

import math
from collections.abc import Mapping

import numpy as np

from train.data.corpus.corpus import Tokens
from train.objectives.objective import Objective

CHUNK = 1 << 20  # tokens counted at a time, so that a corpus is never fully in memory


def perplexity(nats: float) -> float:
    """Return the perplexity: exp of the mean loss in nats per token."""
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf


def bits_per_byte(nats: float, tokens_per_byte: float) -> float:
    """Return the loss in bits per byte of text, which is comparable across tokenizers.

    Args:
      nats: Mean loss in nats per token.
      tokens_per_byte: Number of tokens per byte of UTF-8 text.
    """
    return nats * tokens_per_byte / math.log(2)


def reported_loss(objective: Objective) -> str:
    """Return the name of the metric that is compared with baselines and gives the perplexity.

    If the objective has more than one term, this is the loss of its reported term: for example
    "masked_loss" without the loss of next-sentence prediction, which does not measure how well
    tokens are predicted.
    """
    term, factors = objective.reported_term, objective.factors
    return f"{term}_loss" if len(factors) > 1 and factors[term] else "loss"


def add_derived(
    metrics: Mapping[str, float], objective: Objective, tokens_per_byte: float
) -> dict[str, float]:
    """Return the metrics plus "perplexity", and "bits_per_byte" if every token is predicted.

    A loss that is not one of predictions among the whole vocabulary has neither.

    Args:
      metrics: "loss", and "TERM_loss" for each term if there is more than one.
      objective: The objective of the losses.
      tokens_per_byte: Number of predicted tokens per byte of UTF-8 text.
    """
    if not objective.has_perplexity:
        return dict(metrics)
    nats = metrics[reported_loss(objective)]
    derived = {"perplexity": perplexity(nats)}
    if objective.predicts_every_token:
        derived["bits_per_byte"] = bits_per_byte(nats, tokens_per_byte)
    return {**metrics, **derived}


def unigram_entropy(train_tokens: Tokens, held_out_tokens: Tokens, vocab_size: int) -> float:
    """Return the loss of a unigram model, in nats per token.

    The model predicts by the token frequencies of `train_tokens`, with one added to every count
    (Laplace smoothing), and is evaluated on `held_out_tokens`. A network that is not better has
    learned nothing but frequencies.

    Args:
      train_tokens: A one-dimensional integer array, or what is read like one, in chunks.
      held_out_tokens: Likewise.
      vocab_size: Upper bound (exclusive) of the ids.

    Raises:
      ValueError: If an id is out of range, or if there are no held-out tokens.
    """
    held_out = _counts(held_out_tokens, vocab_size)
    if not held_out.sum():
        raise ValueError("there are no held-out tokens for the unigram baseline: give more text")
    smoothed = _counts(train_tokens, vocab_size) + 1
    log_p = np.log(smoothed) - math.log(smoothed.sum())
    return float(-(held_out * log_p).sum() / held_out.sum())


def _counts(tokens: Tokens, vocab_size: int) -> np.ndarray:
    counts = np.zeros(vocab_size, np.int64)
    for start in range(0, len(tokens), CHUNK):
        chunk = np.asarray(tokens[start : start + CHUNK], np.int64)
        if chunk.min() < 0 or chunk.max() >= vocab_size:
            raise ValueError(
                f"token ids range from {chunk.min()} to {chunk.max()}, outside of the vocabulary "
                f"of {vocab_size}: the text was tokenized with another tokenizer"
            )
        counts += np.bincount(chunk, minlength=vocab_size)
    return counts
