"""The tasks that models can be fine-tuned for."""
