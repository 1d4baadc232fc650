"""Reader of SentencePiece model files (Kudo and Richardson 2018), without a protobuf library.

The fields are those of `sentencepiece_model.proto`. Only those of a unigram model are read.
"""

import math
import struct
from typing import NamedTuple

NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4
UNIGRAM = 1
_KINDS = {2: "byte-pair", 3: "word", 4: "character"}


class Piece(NamedTuple):
    """An entry of the vocabulary: its text, its log probability, its type."""

    text: str
    score: float
    type: int


class Model(NamedTuple):
    """A unigram model: pieces by id, the id of the unknown token, the compiled normalization."""

    pieces: list[Piece]
    unknown: int
    charsmap: bytes


def read(data: bytes) -> Model:
    """Return the unigram model in the bytes of a `.model` file.

    Raises:
      ValueError: If the bytes are not a SentencePiece model, or the model is not supported:
        byte-pair, word and character models, byte fallback, and non-default treatment of spaces.
    """
    try:
        fields = _fields(data)
        pieces = [_piece(_fields(piece)) for piece in fields[1]]
        trainer, normalizer = _fields(fields[2][-1]), _fields(fields[3][-1])
    except (LookupError, struct.error, AttributeError, TypeError, UnicodeDecodeError):
        raise ValueError("not a SentencePiece model, or the file is truncated") from None
    kind = trainer.get(3, [UNIGRAM])[-1]
    if kind != UNIGRAM:
        name = _KINDS.get(kind, "unknown")
        raise ValueError(f"a SentencePiece {name} model is not supported; expected a unigram model")
    if trainer.get(35, [0])[-1]:
        raise ValueError("a SentencePiece model with byte fallback is not supported")
    # add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces; treat_whitespace_as_suffix
    if 0 in (normalizer.get(field, [1])[-1] for field in (3, 4, 5)) or trainer.get(24, [0])[-1]:
        raise ValueError(
            "a SentencePiece model with non-default treatment of spaces is not supported"
        )
    if not all(math.isfinite(piece.score) for piece in pieces):
        raise ValueError("a piece of the SentencePiece model has a score that is not finite")
    unknown = next((i for i, piece in enumerate(pieces) if piece.type == UNKNOWN), 0)
    return Model(pieces, unknown, normalizer.get(2, [b""])[-1])


def scores(model: Model) -> list[float]:
    """Return the score of every piece for segmentation.

    SentencePiece's search gives a user-defined piece -0.1, far above any other piece, so that it is
    never split.
    """
    return [-0.1 if piece.type == USER_DEFINED else piece.score for piece in model.pieces]


def _piece(fields: dict) -> Piece:
    (score,) = struct.unpack("<f", fields.get(2, [bytes(4)])[-1])
    return Piece(fields[1][-1].decode(), score, fields.get(3, [NORMAL])[-1])


def _fields(data: bytes) -> dict[int, list]:
    """Return the values of a message by field number: integers, or bytes for longer types."""
    fields: dict[int, list] = {}
    value: int | bytes
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
        else:
            length, at = _varint(data, at) if wire == 2 else ({1: 8, 5: 4}.get(wire), at)
            if length is None or at + length > len(data):
                raise IndexError
            value, at = data[at : at + length], at + length
        fields.setdefault(number, []).append(value)
    return fields


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        if shift > 63:  # a number of more than 64 bits
            raise IndexError
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
