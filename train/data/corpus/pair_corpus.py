"""A corpus of pairs of texts."""

from typing import Self

import numpy as np

from train.data.corpus import journal
from train.data.corpus.corpus import Corpus, Tokens
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

    def predicted_tokens(self, tokenizer: AnyTokenizer) -> Tokens:
        """Return the tokens of all targets, each followed by an end token."""
        return _Targets(self, token_id(tokenizer, END_OF_TEXT))

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


class _Targets:
    """The tokens of the targets of a corpus, each followed by an end token."""

    def __init__(self, corpus: PairCorpus, end: int):
        self._corpus, self._end = corpus, end
        sizes = np.diff(corpus.documents)[1::2] + 1
        self._bounds = np.append(0, np.cumsum(sizes))  # of the targets, in this sequence

    def __len__(self) -> int:
        return int(self._bounds[-1])

    def __getitem__(self, part: slice) -> np.ndarray:
        start, stop, _ = part.indices(len(self))
        first = int(np.searchsorted(self._bounds, start, "right")) - 1
        last = max(int(np.searchsorted(self._bounds, stop)), first)
        documents = np.asarray(self._corpus.documents[2 * first : 2 * last + 1])
        read = journal.read_part(self._corpus.tokens, int(documents[0]), int(documents[-1]))
        sizes = np.diff(documents)
        is_target = np.tile([False, True], last - first)
        targets = read[np.repeat(is_target, sizes)]
        ends = np.cumsum(sizes[1::2])
        tokens = np.insert(targets, ends, self._end)
        return tokens[start - self._bounds[first] :][: stop - start]


def num_held_out(count: int, fraction: float = HELD_OUT, most: int = MOST_HELD_OUT) -> int:
    """Return how many of `count` pairs are held out: at least 1."""
    return min(max(int(fraction * count), 1), most)
