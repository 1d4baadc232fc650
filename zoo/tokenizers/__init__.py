"""Tokenizers: read from model folders, with the special tokens of the published models."""

from tokenizers import Tokenizer

from zoo.tokenizers.folder import Sides, fingerprint, load, lowercase, ordinary, save, sides

__all__ = [
    "Sides",
    "Tokenizer",
    "fingerprint",
    "load",
    "lowercase",
    "ordinary",
    "save",
    "sides",
]
