"""Labelled examples, from files or from TensorFlow Datasets."""
