"""Sources of documents: files, datasets, what is built in."""
