"""Figures that say how good a model is, from what was counted: numbers in, numbers out."""

import math

import numpy as np

CHUNK = 1 << 20  # tokens counted at a time, so that a corpus is never in memory whole


def perplexity(nats: float) -> float:
    """Return e to the mean loss in nats a token: among how many equal choices the model wavers."""
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf


def bits_per_byte(nats: float, num_bytes: int) -> float:
    """Return the bits a model needs for a byte of text, which compares across tokenizers.

    Args:
      nats: the loss summed over all tokens of the text.
      num_bytes: the length of the same text in UTF-8.
    """
    if num_bytes < 1:
        raise ValueError("bits per byte need a text of at least one byte")
    return nats / (num_bytes * math.log(2))


def unigram_entropy(train_tokens, held_out_tokens, vocab_size: int) -> float:
    """Return the loss, in nats a token, of a model that knows only how often each token occurs.

    It counts `train_tokens` with one added to every count (Laplace) and is scored on
    `held_out_tokens`. A network that does no better has learnt frequencies and nothing more.

    Args:
      train_tokens, held_out_tokens: integer arrays of one axis; memory maps are read in chunks.
      vocab_size: every id must lie below it, else ValueError.
    """
    held_out = _counts(held_out_tokens, vocab_size)
    if not held_out.sum():
        raise ValueError("the unigram baseline needs held-out tokens, and there are none")
    smoothed = _counts(train_tokens, vocab_size) + 1
    log_share = np.log(smoothed) - math.log(smoothed.sum())
    return float(-(held_out * log_share).sum() / held_out.sum())


def _counts(tokens, vocab_size):
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
