"""Zoo: language models from the n-gram to ELECTRA, each in one readable file, on JAX and Flax."""

from zoo.checkpoints.load import export, load
from zoo.registry import create, sizes
from zoo.version import __version__

__all__ = ["__version__", "create", "export", "load", "sizes"]
