"""Word vectors as the initial input table of a model that reads words, trained further or frozen.

Every entry of the vocabulary that the vectors have starts from its vector: by the same spelling, or
else in lower case. fastText composes the others too. What has none starts as the model initializes
it.

V vocabulary  E embedding width
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from train.data import vocabulary
from train.data.corpus.corpus import Corpus
from zoo import registry
from zoo.checkpoints.load import Loaded
from zoo.inference.word_vectors import (
    composes,
    ordinary_words,
    tokenizer_of,
    vectors_by_id,
    word_ids,
)
from zoo.params import flatten
from zoo.tokenizers import ENDS, AnyTokenizer, Sides, Tokenizer, whole_words
from zoo.tokenizers.units import LINE_END

CHUNK = 1 << 22  # tokens counted at a time


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Word vectors for the input table of a recipe.

    Attributes:
      name: The folder or file of the vectors.
      loaded: The model of word vectors.
      path: The path of the input table.
      frozen: Whether the table stays as it is.
      table_VE: The table before training, once the vocabulary is known.
    """

    name: str
    loaded: Loaded
    path: str
    frozen: bool
    table_VE: np.ndarray | None = None

    def train_tokenizer(self, texts: Iterable[str], vocab_size: int) -> Tokenizer:
        """Return the vocabulary of the words of some texts."""
        return vocabulary.tokenizer(texts, "word", vocab_size=vocab_size)

    def rows(self, tokenizer: AnyTokenizer) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of the words of a vocabulary that have vectors, and these.

        Of a tokenizer of sub-words, the words are the tokens that are whole ones.

        Raises:
          ValueError: If no entry has one.
        """
        by_id = whole_words(_single(tokenizer))
        words, ids_V = list(by_id.values()), np.array(list(by_id), np.int64)
        exact, lower = (
            np.array(word_ids(self.loaded, spelled), np.int64)
            for spelled in (words, [word.lower() for word in words])
        )
        known_V = np.where(exact >= 0, exact, lower)
        # The n-grams of a vector of fastText are those of the spelling that it was found by.
        is_lower = (exact < 0) & (lower >= 0)
        words = [w.lower() if low else w for w, low in zip(words, is_lower, strict=True)]
        x_VE = vectors_by_id(self.loaded, words, known_V) if composes(self.loaded) else None
        has_vector = known_V >= 0 if x_VE is None else x_VE.any(1)
        kept = np.flatnonzero(has_vector)
        if not len(kept):
            raise ValueError(
                f"--embeddings {self.name} has no word of the vocabulary of {len(words):,}: use "
                "vectors of the language of the text"
            )
        if x_VE is None:
            names = [words[number] for number in kept]
            return ids_V[kept], vectors_by_id(self.loaded, names, known_V[kept])
        return ids_V[kept], x_VE[kept]

    def note(self, tokenizer: AnyTokenizer, corpus: Corpus) -> str:
        """Return a line with the share of the vocabulary and of the text that has vectors.

        Ends of lines and documents are no words, neither of the vocabulary nor of the text.
        """
        ids, size = self.rows(tokenizer)[0], len(whole_words(_single(tokenizer)))
        counts_V = np.zeros(tokenizer.get_vocab_size(), np.int64)
        for start in range(corpus.start, corpus.stop, CHUNK):
            tokens = corpus.read(start, min(start + CHUNK, corpus.stop))
            counts_V += np.bincount(tokens, minlength=len(counts_V))
        ends = [tokenizer.token_to_id(name) for name in (LINE_END, *ENDS)]
        counts_V[[end for end in ends if end is not None]] = 0
        return (
            f"embeddings {self.name}: {len(ids):,} of {size:,} words of the vocabulary "
            f"({len(ids) / size:.1%}), {counts_V[ids].sum() / counts_V.sum():.1%} of the text"
        )

    def for_vocabulary(
        self, tokenizer: AnyTokenizer, architecture: str, config: Any, seed: int
    ) -> "Embeddings":
        """Return the same with the input table of a model before training."""
        model, tokens = registry.named(architecture).Model(config), np.zeros((1, 8), np.int32)
        drawn = flatten(model.init(jax.random.key(seed), tokens)["params"])[self.path]
        ids, x_VE = self.rows(tokenizer)
        return replace(self, table_VE=np.asarray(drawn.at[ids].set(x_VE)))

    def fingerprint(self) -> str:
        """Return a checksum of the vectors, in the order of their words."""
        words, ids = ordinary_words(tokenizer_of(self.loaded))
        digest = hashlib.sha256("\n".join(words).encode())
        for start in range(0, len(words), 1 << 14):
            part = slice(start, start + (1 << 14))
            digest.update(vectors_by_id(self.loaded, words[part], ids[part]).tobytes())
        return digest.hexdigest()


def _single(tokenizer: AnyTokenizer) -> Tokenizer:
    if isinstance(tokenizer, Sides):
        raise ValueError(
            "--embeddings has the words of one vocabulary: leave out --separate-vocabularies"
        )
    return tokenizer
