"""A corpus of pairs of texts."""

from typing import Self

import numpy as np

from train.data.corpus.corpus import Corpus
from zoo.tokenizers import AnyTokenizer, token_id

END_OF_TEXT = "</s>"  # the token that ends both texts of a pair when a model reads or writes them
HELD_OUT, MOST_HELD_OUT = 0.05, 2000  # the part of the pairs, and the most of them


class PairCorpus(Corpus):
    """A corpus of which document 2i is the source of pair i, and document 2i + 1 its target."""

    @property
    def num_pairs(self) -> int:
        """How many pairs there are."""
        return (len(self.documents) - 1) // 2

    @property
    def longest_sides(self) -> np.ndarray:
        """How many tokens the longer side of every pair has: int32."""
        sizes = np.diff(self.documents).astype(np.int32)
        return sizes.reshape(self.num_pairs, 2).max(1)

    @property
    def targets(self) -> np.ndarray:
        """The tokens of all targets, one after the other: uint16 or uint32."""
        tokens = self.tokens[int(self.documents[0]) : int(self.documents[-1])]
        is_target = np.tile([False, True], self.num_pairs)
        return tokens[np.repeat(is_target, np.diff(self.documents))]

    def predicted_tokens(self, tokenizer: AnyTokenizer) -> np.ndarray:
        """Return the tokens of all targets, then the ends of all targets."""
        end = token_id(tokenizer, END_OF_TEXT)
        return np.concatenate([self.targets, np.full(self.num_pairs, end, self.tokens.dtype)])

    def split(self, fraction: float = HELD_OUT, most: int = MOST_HELD_OUT) -> tuple[Self, Self]:
        """Return the corpus without its last pairs, and these. Nothing is copied.

        Args:
          fraction: Which part of the pairs the last ones are, at least one pair.
          most: How many they are at most.

        Raises:
          ValueError: If there are fewer than two pairs.
        """
        if self.num_pairs < 2:
            raise ValueError(
                f"{self.num_pairs} pair cannot be split into two parts: give more pairs"
            )
        document = 2 * (self.num_pairs - num_held_out(self.num_pairs, fraction, most))
        before, after = self.documents[: document + 1], self.documents[document:]
        return self._split_at(int(after[0]), before, after)


def num_held_out(count: int, fraction: float = HELD_OUT, most: int = MOST_HELD_OUT) -> int:
    """Return how many of so many pairs are held out: at least 1."""
    return min(max(int(fraction * count), 1), most)
