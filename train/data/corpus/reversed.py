"""A corpus from its last token to its first, for language models that read backward."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from train.data.corpus.corpus import HELD_OUT, MOST_HELD_OUT, Corpus


@dataclass(frozen=True, eq=False, kw_only=True)
class Reversed(Corpus):
    """A view of a corpus from its last token to its first; nothing is copied.

    The token that begins documents begins the reversed ones too. If the text begins with it and
    does not end with it, as `</s> a b </s> c d`, its first token also begins the view:
    `</s> d c </s> b a`. A view has no sentences within a document.

    Attributes:
      forward: The corpus in the order of the text.
      end_of_document: The token that begins documents.
    """

    forward: Corpus
    end_of_document: int

    @classmethod
    def of(cls, corpus: Corpus, end_of_document: int) -> Self:
        """Return the view of a corpus, given the token that begins documents."""
        bytes_before = corpus.bytes[np.searchsorted(corpus.sentences, corpus.documents)]
        fields = {name: getattr(corpus, name) for name in Corpus.__dataclass_fields__}
        view = cls(**fields, forward=corpus, end_of_document=end_of_document)
        documents = corpus.start + corpus.stop - corpus.documents[::-1]
        if not view.rotates:  # the token that begins a document is now behind its boundary
            documents[1:-1] -= 1
        fields |= {"documents": documents, "sentences": documents}
        fields |= {"bytes": corpus.bytes[0] + corpus.bytes[-1] - bytes_before[::-1]}
        return cls(**fields, forward=corpus, end_of_document=end_of_document)

    @cached_property
    def rotates(self) -> bool:
        """Whether the first token of the text begins the view."""
        start, stop = self.forward.start, self.forward.stop
        first, last = self.forward.read(start, start + 1), self.forward.read(stop - 1, stop)
        return bool((first == self.end_of_document).all() and (last != self.end_of_document).all())

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the tokens from `start` to `stop` of the view: int32 [stop - start]."""
        return self._mirrored(self.forward.read, start, stop)

    def word_starts(self, start: int, stop: int) -> np.ndarray:
        """Return which tokens begin a word in the order of the text: bool [stop - start]."""
        return self._mirrored(self.forward.word_starts, start, stop)

    def split(self, fraction: float = HELD_OUT, most: int = MOST_HELD_OUT) -> tuple[Self, Self]:
        """Return the two parts of the text, each reversed; the second is held out.

        The arguments and errors are those of `Corpus.split`.
        """
        first, last = self.forward.split(fraction, most)
        return self.of(first, self.end_of_document), self.of(last, self.end_of_document)

    def _mirrored(
        self, read: Callable[[int, int], np.ndarray], start: int, stop: int
    ) -> np.ndarray:
        """Return the values of a part of the view, from a function that reads those of the text."""
        sum_of_ends = self.forward.start + self.forward.stop
        if not self.rotates:
            return read(sum_of_ends - stop, sum_of_ends - start)[::-1]
        second = self.forward.start + 1
        begin = read(start, min(stop, second)) if start < second else read(start, start)
        first = max(start, second)
        rest = read(sum_of_ends + 1 - max(stop, first), sum_of_ends + 1 - first)
        return np.concatenate([begin, rest[::-1]])
