"""One-hot vectors and bags of words: texts as vectors that nothing was learned for.

A token is a number, its id: `tokenizer.encode(text).ids`. As a vector it is one-hot: 1 at its id,
and 0 elsewhere. The sum of the one-hot vectors of a text counts its tokens, whatever their order.

L length  V vocabulary
"""

import numpy as np

from zoo.checkpoints.load import Loaded
from zoo.inference.prompts import check_text, require_tokenizer
from zoo.tokenizers import AnyTokenizer


def one_hot(source: Loaded | AnyTokenizer, text: str) -> np.ndarray:
    """Return the one-hot vector of each token of a text: float32 [L, V].

    Args:
      source: A model with its tokenizer, or a tokenizer.
      text: The text. Special tokens that the tokenizer adds are tokens too.
    """
    ids, size = _ids(source, text)
    rows_LV = np.zeros((len(ids), size), np.float32)
    rows_LV[np.arange(len(ids)), ids] = 1
    return rows_LV


def bag_of_words(source: Loaded | AnyTokenizer, text: str) -> np.ndarray:
    """Return how often each token occurs in a text, the sum of its one-hot vectors: float32 [V].

    Args:
      source: A model with its tokenizer, or a tokenizer.
      text: The text. Special tokens that the tokenizer adds are tokens too.
    """
    ids, size = _ids(source, text)
    return np.bincount(np.array(ids, np.int64), minlength=size).astype(np.float32)


def _ids(source: Loaded | AnyTokenizer, text: str) -> tuple[list[int], int]:
    """Return the ids of a text, and the size of the vocabulary."""
    check_text(text)
    if isinstance(source, Loaded):
        return require_tokenizer(source).encode(text).ids, source.model.config.vocab_size
    return source.encode(text).ids, source.get_vocab_size()
