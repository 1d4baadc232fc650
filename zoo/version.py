"""The version of Zoo, which model folders and runs record."""

__version__ = "0.1.0"
