"""Sources of documents: text files, datasets, built-in texts."""
