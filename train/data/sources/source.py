"""The contract of all sources of text: documents that can be read repeatedly."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, NamedTuple


class Piece(NamedTuple):
    """A document, or a part of a document that is too long for memory."""

    document: int  # index of the document, from 0
    text: str


class Source(ABC):
    """Documents that can be read more than once.

    Attributes:
      kind: "text" for running text, "pairs" if every two consecutive documents form a pair, "sound"
        if a document is a second of sound.
    """

    kind: ClassVar[str] = "text"

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A sha256 that identifies the documents."""

    @property
    def num_bytes(self) -> int | None:
        """The bytes of UTF-8 text, to show progress; None if they are not known beforehand."""
        return None

    @abstractmethod
    def documents(self) -> Iterator[str]:
        """Yield every document as one string."""

    def pieces(self) -> Iterator[Piece]:
        """Yield the documents in order, splitting those that are too long for memory."""
        return itertools.starmap(Piece, enumerate(self.documents()))
