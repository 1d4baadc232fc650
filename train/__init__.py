"""Training: from text to a model folder."""
