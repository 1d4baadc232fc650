"""Tokenizers: read from model folders, with the special tokens of the published models."""

from zoo.tokenizers.folder import Sides, fingerprint, load, ordinary, save, sides

__all__ = ["Sides", "fingerprint", "load", "ordinary", "save", "sides"]
