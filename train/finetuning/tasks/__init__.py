"""The kinds of task that a model can be fine-tuned to."""
