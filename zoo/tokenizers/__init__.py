"""Tokenizers: read from model folders, with the special tokens of the published models."""

from tokenizers import Tokenizer

from zoo.tokenizers.folder import (
    AnyTokenizer,
    Sides,
    fingerprint,
    load,
    lowercase,
    ordinary,
    save,
    sides,
    token_id,
)

__all__ = [
    "AnyTokenizer",
    "Sides",
    "Tokenizer",
    "fingerprint",
    "load",
    "lowercase",
    "ordinary",
    "save",
    "sides",
    "token_id",
]
