"""Nearest neighbors, analogies and similarities of words, by the cosine of their vectors.

N words  D width
"""

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from zoo.checkpoints.load import Loaded
from zoo.inference.word_vectors import ordinary_words, tokenizer_of, unit_vectors, vectors_by_id

CHUNK = 1 << 16  # words whose vectors are read at a time


@dataclass(frozen=True)
class WordIndex:
    """The words of a vocabulary and their vectors, divided by their lengths.

    It takes the place of the model in `neighbors`, `analogy` and `similarity`, which then need not
    read all vectors for every question. Special tokens, and words whose vector is 0, are left out;
    the most frequent words come first.

    Attributes:
      loaded: The model.
      words: The words.
      units_ND: Their vectors, of length 1: float32.
      rows: The row of each word.
    """

    loaded: Loaded
    words: list[str]
    units_ND: np.ndarray
    rows: dict[str, int] = field(repr=False)

    def nearest(
        self, x_D: np.ndarray, count: int, excluded: Collection[str] = ()
    ) -> list[tuple[str, float]]:
        """Return the words with the largest products with a vector, largest first.

        Args:
          x_D: The vector, of length 1, so that a product is a cosine.
          count: How many words to return; fewer if there are no more.
          excluded: Words that are not returned.
        """
        if count < 1:
            raise ValueError(f"the number of words must be at least 1, not {count}")
        cosines_N = self.units_ND @ x_D
        enough = min(count + len(excluded), len(self.words))
        best = np.argpartition(-cosines_N, enough - 1)[:enough]
        best = best[np.argsort(-cosines_N[best], kind="stable")]
        nearest = ((self.words[row], float(cosines_N[row])) for row in best)
        return [pair for pair in nearest if pair[0] not in excluded][:count]


def word_index(loaded: Loaded) -> WordIndex:
    """Return the unit vectors of all words of a model, for repeated questions.

    Raises:
      ValueError: If the model has no word vectors or no tokenizer, or a vector is not finite.
    """
    words, ids_N = ordinary_words(tokenizer_of(loaded))
    units_ND = np.empty((len(words), loaded.model.config.width), np.float32)
    norms_N1 = np.empty((len(words), 1), np.float32)
    for start in range(0, len(words), CHUNK):
        part = slice(start, start + CHUNK)
        x_ND = vectors_by_id(loaded, words[part], ids_N[part])
        norms_N1[part] = np.linalg.norm(x_ND, axis=1, keepdims=True)
        np.divide(x_ND, norms_N1[part], out=units_ND[part], where=norms_N1[part] > 0)
    kept = np.flatnonzero(norms_N1)
    if len(kept) < len(words):
        words, units_ND = [words[row] for row in kept], units_ND[kept]
    if not words:
        raise ValueError("the model has no vector of a word: its vectors are all 0")
    return WordIndex(loaded, words, units_ND, {word: row for row, word in enumerate(words)})


def neighbors(source: Loaded | WordIndex, word: str, count: int = 10) -> list[tuple[str, float]]:
    """Return the words whose vectors are nearest to that of a word, and the cosines.

    Args:
      source: A model of word vectors with its tokenizer, or its `word_index`.
      word: The word, which is not among the result; fastText supports any word.
      count: How many words to return.

    Raises:
      ValueError: If the word has no vector, or the model has none.
    """
    index = _index(source)
    (x_D,) = unit_vectors(index.loaded, word)
    return index.nearest(x_D, count, {word})


def analogy(
    source: Loaded | WordIndex, a: str, b: str, c: str, count: int = 1
) -> list[tuple[str, float]]:
    """Return the words that are to c as b is to a: man is to king as woman is to queen.

    These are the words nearest to b - a + c, the sum of vectors of length 1 (Mikolov et al. 2013,
    https://aclanthology.org/N13-1090, equation 1), other than the three words themselves.

    Args:
      source: A model of word vectors with its tokenizer, or its `word_index`.
      a: The first word, such as "man".
      b: The second word, such as "king".
      c: The third word, such as "woman".
      count: How many words to return.

    Returns:
      The words, the nearest first, and the cosines with b - a + c.

    Raises:
      ValueError: If a word has no vector, or the model has none.
    """
    index = _index(source)
    a_D, b_D, c_D = unit_vectors(index.loaded, [a, b, c])
    x_D = b_D - a_D + c_D
    return index.nearest(x_D / max(np.linalg.norm(x_D), 1e-12), count, {a, b, c})


def similarity(source: Loaded | WordIndex, one: str, other: str) -> float:
    """Return the cosine of the vectors of two words, from -1 to 1.

    Raises:
      ValueError: If a word has no vector, or the model has none.
    """
    loaded = source.loaded if isinstance(source, WordIndex) else source
    one_D, other_D = unit_vectors(loaded, [one, other])
    return float(one_D @ other_D)


def _index(source: Loaded | WordIndex) -> WordIndex:
    return source if isinstance(source, WordIndex) else word_index(source)
