"""Text to batches: sources of documents, the tokenised corpus, and the orders it is read in."""
