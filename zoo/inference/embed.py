"""Vectors of texts, and of words in their context, from word vectors or from hidden states.

N texts  L length  W words  K words with a vector  D width
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np

from zoo.checkpoints.load import Loaded
from zoo.contracts import Speller, WordVectorModel
from zoo.inference.batching import Row
from zoo.inference.classify import encode
from zoo.inference.hidden_states import Layer, hidden_states
from zoo.inference.prompts import UNLIMITED, as_list, require_tokenizer
from zoo.inference.word_vectors import composes, vectors_by_id, word_ids
from zoo.inference.words import read_words
from zoo.tokenizers import sides

Pooling = Literal["mean", "first", "last", "max"]
# One vector for a text: x_LD -> x_D.
POOLS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": lambda x_LD: x_LD.mean(0),
    "first": lambda x_LD: x_LD[0],  # where BERT has [CLS]
    "last": lambda x_LD: x_LD[-1],  # the only token that a causal model has read all others at
    "max": lambda x_LD: x_LD.max(0),
}


def embed(
    loaded: Loaded,
    texts: str | Sequence[str],
    pooling: Pooling = "mean",
    layer: Layer = None,
    *,
    batch_size: int = 32,
) -> np.ndarray:
    """Return one vector per text, pooled from those of its tokens, special tokens included.

    With ELMo and Flair, which read letters, the words between white space are pooled.
    With word vectors, such as those of word2vec, the tokens are the words between white space. A
    word that is in the vocabulary in lower case only has the vector of that; other unknown words
    are left out, except that fastText composes them. Warns if texts are truncated.

    Args:
      loaded: A model of word vectors, or one with an encoder, and its tokenizer.
      texts: A text or a list of texts.
      pooling: The mean of the vectors, that of the first or last token, or the maximum of each
        feature.
      layer: The block whose hidden states are pooled; 0: the embeddings; None: the last; "mix": the
        mix of all layers that a tagger on ELMo has learned.
      batch_size: How many texts are read at a time.

    Returns:
      float32 [D] for a text, [N, D] for a list.

    Raises:
      ValueError: If a text is empty or has no known word, the model has no encoder, or it does not
        offer the layer.
    """
    if pooling not in POOLS:
        raise ValueError(f"unknown pooling {pooling!r}: use one of {', '.join(POOLS)}")
    listed, pool = as_list(texts), POOLS[pooling]
    if isinstance(loaded.model, WordVectorModel):
        _check_no_layer(loaded, layer)
        x_ND, words = [], [text.split() for text in listed]
        for text, (known, x_KD) in zip(listed, _with_vectors(loaded, words), strict=True):
            if not known:
                raise ValueError(
                    f"the text {text!r:.60} has no word of the vocabulary: use other words"
                )
            x_ND.append(pool(x_KD))
    else:
        rows, positions = _rows(loaded, listed)
        by_index = {
            i: pool(x_LD[positions[i]])
            for i, x_LD in hidden_states(loaded, rows, layer, batch_size)
        }
        x_ND = [by_index[index] for index in range(len(listed))]
    if not listed:
        return np.zeros((0, loaded.model.config.width), np.float32)
    return x_ND[0] if isinstance(texts, str) else np.stack(x_ND)


def embed_words(
    loaded: Loaded,
    texts: str | Sequence[str],
    layer: Layer = None,
    *,
    batch_size: int = 32,
) -> np.ndarray | list[np.ndarray]:
    """Return the vectors of the words of a text, in their context: the means of their tokens.

    Words stand between white space. Texts that are too long are read in pieces, split between
    words. Word vectors ignore the context. A word without a token or a vector has the vector 0.

    Args:
      loaded: A model of word vectors, or one with an encoder, and its tokenizer.
      texts: A text or a list of texts.
      layer: As in `embed`.
      batch_size: How many texts are read at a time.

    Returns:
      float32 [W, D] for a text, a list of such arrays for a list.

    Raises:
      ValueError: If a single word is too long, the model has no encoder, or it does not offer the
        layer.
    """
    words = [text.split() for text in as_list(texts)]
    x_WD = [np.zeros((len(of_text), loaded.model.config.width), np.float32) for of_text in words]
    if isinstance(loaded.model, WordVectorModel):
        _check_no_layer(loaded, layer)
        for x, (known, x_KD) in zip(x_WD, _with_vectors(loaded, words), strict=True):
            x[known] = x_KD
    else:
        max_length = loaded.model.config.max_length
        parts = [
            (x, piece)
            for x, of_text in zip(x_WD, words, strict=True)
            for piece in read_words(loaded, of_text, max_length)
        ]
        rows = [piece.row for _, piece in parts]
        for index, x_LD in hidden_states(loaded, rows, layer, batch_size):
            x, piece = parts[index]
            for word, start, size in zip(piece.words, piece.positions, piece.sizes, strict=True):
                x[word] = x_LD[start : start + size].mean(0)
    return x_WD[0] if isinstance(texts, str) else x_WD


def _rows(loaded: Loaded, texts: Sequence[str]) -> tuple[list[Row], list[slice] | list[list[int]]]:
    """Return the tokens of each text, truncated to what the model supports, and those to pool.

    Of a model that reads letters, the words are pooled.
    """
    if isinstance(loaded.model, Speller):
        words = [text.split() for text in texts]
        if not all(words):
            raise ValueError("a text is empty: there is nothing to embed")
        pieces = [read_words(loaded, of_text, UNLIMITED)[0] for of_text in words]
        return [piece.row for piece in pieces], [piece.positions for piece in pieces]
    tokenizer, max_length = sides(require_tokenizer(loaded)).source, loaded.model.config.max_length
    rows = [encode(tokenizer, text, max_length=max_length) for text in texts]
    truncated = [row.truncated for row in rows if row.truncated]
    if truncated:
        warnings.warn(
            f"{len(truncated)} of {len(rows)} texts are longer than the {max_length} tokens that "
            f"the model supports: {sum(truncated)} tokens at their ends were truncated",
            stacklevel=3,
        )
    return rows, [slice(None)] * len(rows)


def _with_vectors(
    loaded: Loaded, texts: Sequence[Sequence[str]]
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yield which words of each text have a vector other than 0, and the vectors: x_KD."""
    words = list(dict.fromkeys(word for text in texts for word in text))
    exact, lower = word_ids(loaded, words), word_ids(loaded, [word.lower() for word in words])
    ids = np.where(np.array(exact, int) < 0, lower, exact).astype(np.int64)
    known = [number for number, id in enumerate(ids) if id >= 0 or composes(loaded)]
    x_ND = vectors_by_id(loaded, [words[number] for number in known], ids[known])
    rows = {words[number]: row for row, number in enumerate(known) if x_ND[row].any()}
    for text in texts:
        kept = [number for number, word in enumerate(text) if word in rows]
        yield kept, x_ND[[rows[text[number]] for number in kept]]


def _check_no_layer(loaded: Loaded, layer: Layer) -> None:
    if layer is not None:
        raise ValueError(
            f"{type(loaded.model).__name__} has one vector per word, not layers: leave out the "
            "layer"
        )
