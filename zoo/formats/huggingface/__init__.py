"""Hugging Face folders, read and written without PyTorch."""

from zoo.formats.huggingface.engine import (
    LINEAR,
    nested,
    other_heads,
    published_labels,
    read,
    read_config,
    write,
)

__all__ = ["LINEAR", "nested", "other_heads", "published_labels", "read", "read_config", "write"]
