"""The vectors of given words, from any model that has one vector per word.

N words  D width
"""

import difflib
from collections.abc import Sequence
from typing import cast

import numpy as np

from zoo.checkpoints.load import Loaded
from zoo.contracts import WordVectorModel
from zoo.inference.prompts import as_list, require_tokenizer
from zoo.models.fasttext import FastText
from zoo.tokenizers import Tokenizer, sides
from zoo.tokenizers.units import END, LINE_END, UNKNOWN

SPECIAL = {UNKNOWN, END, LINE_END, "<s>", "<pad>"}  # also if a tokenizer has them as words
SPELLINGS = 200_000  # the most frequent words, among which similar spellings are looked for


def word_vectors(loaded: Loaded, words: str | Sequence[str]) -> np.ndarray:
    """Return the vectors of words: float32 [N, D].

    fastText composes the vector of a word outside of its vocabulary of its n-grams.

    Raises:
      ValueError: If the model has no word vectors, a word is not in the vocabulary and cannot be
        composed, or a vector is not finite.
    """
    words = as_list(words)
    ids = word_ids(loaded, words)
    unknown = [word for word, id in zip(words, ids, strict=True) if id < 0]
    if unknown and not composes(loaded):
        raise ValueError(
            f"{unknown[0]!r} is not in the vocabulary" + _hint(tokenizer_of(loaded), unknown[0])
        )
    return vectors_by_id(loaded, words, np.array(ids, np.int64))


def unit_vectors(loaded: Loaded, words: str | Sequence[str]) -> np.ndarray:
    """Return the vectors of words, divided by their lengths: float32 [N, D].

    Raises:
      ValueError: As `word_vectors`, or if a vector is 0.
    """
    words, x_ND = as_list(words), word_vectors(loaded, words)
    norms_N1 = np.linalg.norm(x_ND, axis=1, keepdims=True)
    if not norms_N1.all():
        word = words[int(norms_N1.argmin())]
        raise ValueError(f"the vector of {word!r} is 0, which has no direction: use another word")
    return x_ND / norms_N1


def vectors_by_id(loaded: Loaded, words: Sequence[str], ids_N: np.ndarray) -> np.ndarray:
    """Return the vectors of words given their ids, where -1 is a word to compose: float32 [N, D].

    Raises:
      ValueError: If a vector is not finite.
    """
    model = cast(WordVectorModel, loaded.model)
    x_ND = np.asarray(model.word_vectors(loaded.params, words, ids_N), np.float32)
    broken = np.flatnonzero(~np.isfinite(x_ND).all(1))
    if len(broken):
        raise ValueError(
            f"the vector of {words[broken[0]]!r} is not finite: train the model again with a lower "
            "learning rate"
        )
    return x_ND


def word_ids(loaded: Loaded, words: Sequence[str]) -> list[int]:
    """Return the id of each word, or -1 for a word outside of the vocabulary."""
    tokenizer = tokenizer_of(loaded)
    ids = (tokenizer.token_to_id(word) for word in words)
    return [-1 if id is None else id for id in ids]


def ordinary_words(tokenizer: Tokenizer) -> tuple[list[str], np.ndarray]:
    """Return the words of a vocabulary, without special tokens, in the order of their ids, and ids.

    Vocabularies are sorted by frequency, so the most frequent words come first.
    """
    added = tokenizer.get_added_tokens_decoder().values()
    special = SPECIAL.union(token.content for token in added if token.special)
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    words = sorted(vocabulary.keys() - special, key=vocabulary.__getitem__)
    return words, np.array([vocabulary[word] for word in words], np.int64)


def most_frequent_words(loaded: Loaded, count: int) -> list[str]:
    """Return the first words of the vocabulary of a model, without special tokens."""
    return ordinary_words(tokenizer_of(loaded))[0][:count]


def composes(loaded: Loaded) -> bool:
    """Return whether a model has a vector for words outside of its vocabulary too."""
    model = loaded.model
    return isinstance(model, FastText) and model.config.max_n > 0 and model.config.buckets > 0


def tokenizer_of(loaded: Loaded) -> Tokenizer:
    """Return the tokenizer of a model of word vectors.

    Raises:
      ValueError: If the model has no word vectors or no tokenizer.
    """
    if not isinstance(loaded.model, WordVectorModel):
        raise ValueError(
            f"{type(loaded.model).__name__} has no vectors of words by themselves: use a word2vec, "
            "GloVe or fastText model, or zoo.embed for vectors of texts"
        )
    return sides(require_tokenizer(loaded)).source


def _hint(tokenizer: Tokenizer, word: str) -> str:
    lower = word.lower()
    if tokenizer.token_to_id(lower) is not None:
        return f", but {lower!r} is: use that"
    similar = [
        other
        for other in ordinary_words(tokenizer)[0][:SPELLINGS]
        if other[:1].lower() == lower[:1] and abs(len(other) - len(word)) <= 2
    ]
    matches = difflib.get_close_matches(word, similar, n=3)
    return f"; did you mean {' or '.join(map(repr, matches))}?" if matches else ": use another word"
