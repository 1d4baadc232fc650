"""From text to batches: sources of documents, the tokenized corpus, and batch sources."""
