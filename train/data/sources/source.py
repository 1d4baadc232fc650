"""What every source of text offers: documents that can be read again and again."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, NamedTuple


class Piece(NamedTuple):
    """A document, or a part of one that is too long for memory."""

    document: int  # the number of its document, from 0
    text: str


class Source(ABC):
    """Documents that can be read more than once.

    Attributes:
      kind: "text" for running text, "pairs" where every two documents belong together.
    """

    kind: ClassVar[str] = "text"

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A sha256 that differs for any other documents."""

    @abstractmethod
    def documents(self) -> Iterator[str]:
        """Yield the documents, each as one string."""

    def pieces(self) -> Iterator[Piece]:
        """Yield the documents in order, those that are too long for memory in several pieces."""
        return itertools.starmap(Piece, enumerate(self.documents()))
