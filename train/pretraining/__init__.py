"""Pretraining: from text to a model folder."""
