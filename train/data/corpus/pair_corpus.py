"""A corpus of pairs of texts."""

from typing import Self

import numpy as np

from train.data.corpus.corpus import Corpus
from zoo.tokenizers import AnyTokenizer, token_id

END_OF_TEXT = "</s>"  # the token that ends the source and the target
HELD_OUT, MOST_HELD_OUT = 0.05, 2000  # fraction of the pairs that is held out; most pairs


class PairCorpus(Corpus):
    """A corpus of pairs: document 2i is the source of pair i, document 2i + 1 its target."""

    @property
    def num_pairs(self) -> int:
        """The number of pairs."""
        return (len(self.documents) - 1) // 2

    @property
    def longest_sides(self) -> np.ndarray:
        """The number of tokens of the longer side of every pair: int32."""
        sizes = np.diff(self.documents).astype(np.int32)
        return sizes.reshape(self.num_pairs, 2).max(1)

    @property
    def targets(self) -> np.ndarray:
        """The tokens of all targets, concatenated: uint16 or uint32."""
        tokens = self.tokens[int(self.documents[0]) : int(self.documents[-1])]
        is_target = np.tile([False, True], self.num_pairs)
        return tokens[np.repeat(is_target, np.diff(self.documents))]

    def predicted_tokens(self, tokenizer: AnyTokenizer) -> np.ndarray:
        """Return the tokens of all targets, then one end token per target."""
        end = token_id(tokenizer, END_OF_TEXT)
        return np.concatenate([self.targets, np.full(self.num_pairs, end, self.tokens.dtype)])

    def split(self, fraction: float = HELD_OUT, most: int = MOST_HELD_OUT) -> tuple[Self, Self]:
        """Return the training pairs and the held-out last pairs, without copying anything.

        Args:
          fraction: Fraction of the pairs to hold out, at least one pair.
          most: Upper limit on the number of held-out pairs.

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
    """Return how many of `count` pairs are held out: at least 1."""
    return min(max(int(fraction * count), 1), most)
