"""A corpus: a text, tokenized once into arrays that are mapped into memory."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from zoo.tokenizers import AnyTokenizer

HELD_OUT, MOST_HELD_OUT = 0.05, 1_000_000  # the part of a text, and the most of its tokens


@dataclass(frozen=True, eq=False, kw_only=True)
class Corpus:
    """A tokenized text, or a part of one.

    A part shares `tokens` and `words` with the whole; it is what lies between the first and the
    last of its `sentences`. All offsets count from the beginning of the whole.

    Attributes:
      tokens: The whole stream: uint16 or uint32.
      words: A bit per token, 1 where a word starts, in uint8 with the low bit first.
      sentences: Offsets of the sentences, and the end: int64.
      documents: Offsets of the documents, and the end: int64.
      bytes: Bytes of UTF-8 text before each sentence, and before the end: int64.
      vocab_size: Every token is below this.
      fingerprint: The sha256 of the arrays of the whole.
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
        """The offset behind the last token."""
        return int(self.sentences[-1])

    @property
    def num_tokens(self) -> int:
        """How many tokens there are."""
        return self.stop - self.start

    @property
    def num_bytes(self) -> int:
        """How many bytes of UTF-8 text the tokens were made from."""
        return int(self.bytes[-1] - self.bytes[0])

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the tokens from `start` to `stop`: int32 [stop - start].

        Raises:
          ValueError: If an id is out of range, as in a damaged file.
        """
        tokens = self.tokens[start:stop].astype(np.int32)
        if len(tokens) and tokens.max() >= self.vocab_size:
            place = start + int(tokens.argmax())
            raise ValueError(
                f"token {place} of the corpus is {tokens.max()}, the vocabulary ends at "
                f"{self.vocab_size - 1}: delete the corpus and prepare it again"
            )
        return tokens

    def word_starts(self, start: int, stop: int) -> np.ndarray:
        """Return which tokens from `start` to `stop` begin a word: bool [stop - start]."""
        bits = np.unpackbits(self.words[start // 8 : -(-stop // 8)], bitorder="little")
        return bits[start % 8 :][: stop - start].astype(bool)

    def predicted_tokens(self, tokenizer: AnyTokenizer) -> np.ndarray:
        """Return the tokens that a model predicts, in any order: all of them, not copied."""
        return self.tokens[self.start : self.stop]

    def split(self, fraction: float = HELD_OUT, most: int = MOST_HELD_OUT) -> tuple[Self, Self]:
        """Return the corpus without its last part, and the last part. Nothing is copied.

        The last part begins with a document, or where that would be far off (by half its size),
        with a sentence.

        Args:
          fraction: About which part of the tokens the last part has.
          most: About how many tokens it has at most.

        Raises:
          ValueError: If there are too few sentences for two parts.
        """
        size = min(round(fraction * self.num_tokens), most)
        target = self.stop - size
        cut = _nearest(self.documents, target)
        if cut is None or abs(cut - target) > size // 2:
            cut = _nearest(self.sentences, target)
        if cut is None:
            raise ValueError("the text is a single sentence, which cannot be split into two parts")
        document = int(np.searchsorted(self.documents, cut))
        before, after = self.documents[: document + 1], self.documents[document:]
        if int(self.documents[document]) != cut:  # then that document is in both parts
            bound = np.array([cut], np.int64)
            before = np.concatenate([self.documents[:document], bound])
            after = np.concatenate([bound, after])
        return self._split_at(cut, before, after)

    def _split_at(self, cut: int, before: np.ndarray, after: np.ndarray) -> tuple[Self, Self]:
        """Return the parts up to and from a sentence, given the documents of each."""
        sentence = int(np.searchsorted(self.sentences, cut))
        first = {name: getattr(self, name)[: sentence + 1] for name in ("sentences", "bytes")}
        last = {name: getattr(self, name)[sentence:] for name in ("sentences", "bytes")}
        return replace(self, documents=before, **first), replace(self, documents=after, **last)


def _nearest(offsets: np.ndarray, target: int) -> int | None:
    """Return the offset nearest to a target, other than the first and the last."""
    inner = offsets[1:-1]
    if not len(inner):
        return None
    place = int(np.searchsorted(inner, target))
    near = [int(offset) for offset in inner[max(place - 1, 0) : place + 1]]
    return min(near, key=lambda offset: abs(offset - target))
