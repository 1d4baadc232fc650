"""Tokenizers: read from model folders, with the special tokens of the published models."""

from tokenizers import Tokenizer

from zoo.tokenizers.folder import Sides, fingerprint, load, lowercase, ordinary, save, sides

# The tokenizer of a model: one for all texts, or one for each side of a pair.
AnyTokenizer = Tokenizer | Sides

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
]
