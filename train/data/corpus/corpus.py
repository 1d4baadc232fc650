"""A corpus: a text, tokenized once into memory-mapped arrays."""

from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np

from train.data.corpus import journal
from zoo.tokenizers import AnyTokenizer

HELD_OUT, MOST_HELD_OUT = 0.05, 1_000_000  # fraction of a text that is held out; most tokens


class Tokens(Protocol):
    """A sequence of token ids of which parts are read as arrays; an array is one."""

    def __len__(self) -> int:
        """Return the number of tokens."""
        ...

    def __getitem__(self, part: slice, /) -> np.ndarray:
        """Return the tokens of a part."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Corpus:
    """A tokenized text, or a part of one.

    A part shares `tokens` and `words` with the whole corpus and spans from the first to the last
    offset in its `sentences`. All offsets count from the start of the whole corpus.

    Attributes:
      tokens: All token ids: uint16 or uint32.
      words: One bit per token, 1 where a word starts, packed into uint8 with the low bit first.
      sentences: Start offsets of the sentences, then the end offset: int64.
      documents: Start offsets of the documents, then the end offset: int64.
      bytes: Bytes of UTF-8 text before each sentence and before the end: int64.
      vocab_size: Upper bound (exclusive) of the token ids.
      fingerprint: The sha256 of the arrays of the whole corpus.
    """

    tokens: np.ndarray
    words: np.ndarray
    sentences: np.ndarray
    documents: np.ndarray
    bytes: np.ndarray
    vocab_size: int
    fingerprint: str

    @property
    def start(self) -> int:
        """The offset of the first token."""
        return int(self.sentences[0])

    @property
    def stop(self) -> int:
        """The offset after the last token."""
        return int(self.sentences[-1])

    @property
    def num_tokens(self) -> int:
        """The number of tokens."""
        return self.stop - self.start

    @property
    def num_bytes(self) -> int:
        """The number of bytes of UTF-8 text that the tokens encode."""
        return int(self.bytes[-1] - self.bytes[0])

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the tokens from `start` to `stop`: int32 [stop - start].

        Raises:
          ValueError: If an id is out of range, which means that a file is damaged.
        """
        tokens = self.tokens[start:stop].astype(np.int32)
        if len(tokens) and tokens.max() >= self.vocab_size:
            index = start + int(tokens.argmax())
            raise ValueError(
                f"token {index} of the corpus is {tokens.max()}, but the vocabulary ends at "
                f"{self.vocab_size - 1}: delete the corpus and prepare it again"
            )
        return tokens

    def word_starts(self, start: int, stop: int) -> np.ndarray:
        """Return which tokens from `start` to `stop` begin a word: bool [stop - start]."""
        bits = np.unpackbits(self.words[start // 8 : -(-stop // 8)], bitorder="little")
        return bits[start % 8 :][: stop - start].astype(bool)

    def predicted_tokens(self, tokenizer: AnyTokenizer) -> Tokens:
        """Return the tokens that a model predicts, in any order: here all tokens."""
        return _Part(self.tokens, self.start, self.stop)

    def split(self, fraction: float = HELD_OUT, most: int = MOST_HELD_OUT) -> tuple[Self, Self]:
        """Return the training part and the held-out last part, without copying anything.

        The held-out part starts at a document boundary, or, if the nearest one is off by more than
        half of its size, at a sentence boundary.

        Args:
          fraction: Approximate fraction of the tokens to hold out.
          most: Approximate upper limit on the number of held-out tokens.

        Raises:
          ValueError: If there are too few sentences for two parts.
        """
        size = min(round(fraction * self.num_tokens), most)
        target = self.stop - size
        boundary = _nearest(self.documents, target)
        if boundary is None or abs(boundary - target) > size // 2:
            boundary = _nearest(self.sentences, target)
        if boundary is None:
            raise ValueError("the text is a single sentence, which cannot be split into two parts")
        document = int(np.searchsorted(self.documents, boundary))
        before, after = self.documents[: document + 1], self.documents[document:]
        if int(self.documents[document]) != boundary:  # the split is inside a document
            bound = np.array([boundary], np.int64)
            before = np.concatenate([self.documents[:document], bound])
            after = np.concatenate([bound, after])
        return self._split_at(boundary, before, after)

    def _split_at(self, boundary: int, before: np.ndarray, after: np.ndarray) -> tuple[Self, Self]:
        """Return the parts before and after a sentence offset, given the documents of each."""
        sentence = int(np.searchsorted(self.sentences, boundary))
        first = {name: getattr(self, name)[: sentence + 1] for name in ("sentences", "bytes")}
        last = {name: getattr(self, name)[sentence:] for name in ("sentences", "bytes")}
        return replace(self, documents=before, **first), replace(self, documents=after, **last)


@dataclass(frozen=True, eq=False)
class _Part:
    """The tokens of an array from `start` to `stop`."""

    tokens: np.ndarray
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, part: slice) -> np.ndarray:
        first, last, _ = part.indices(len(self))
        return journal.read_part(self.tokens, self.start + first, self.start + last)


def _nearest(offsets: np.ndarray, target: int) -> int | None:
    """Return the offset nearest to the target, excluding the first and the last."""
    inner = offsets[1:-1]
    if not len(inner):
        return None
    index = int(np.searchsorted(inner, target))
    candidates = [int(offset) for offset in inner[max(index - 1, 0) : index + 1]]
    return min(candidates, key=lambda offset: abs(offset - target))
