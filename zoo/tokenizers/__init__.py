"""Tokenizers: read from model folders, with the special tokens of the published models."""

from tokenizers import Tokenizer

from zoo.tokenizers.exported import config
from zoo.tokenizers.folder import (
    ENDS,
    AnyTokenizer,
    Sides,
    end_of_document,
    fingerprint,
    last_token,
    load,
    ordinary,
    save,
    sides,
    special_tokens,
    token_id,
)
from zoo.tokenizers.words import add_words, known_id, known_words, unknown_id, whole_words

__all__ = [
    "ENDS",
    "AnyTokenizer",
    "Sides",
    "Tokenizer",
    "add_words",
    "config",
    "end_of_document",
    "fingerprint",
    "known_id",
    "known_words",
    "last_token",
    "load",
    "ordinary",
    "save",
    "sides",
    "special_tokens",
    "token_id",
    "unknown_id",
    "whole_words",
]
