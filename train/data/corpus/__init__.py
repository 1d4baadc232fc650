"""The tokenized corpus on disk."""
