"""Inference: generate, translate, classify and so on."""
