"""What a model can be fine-tuned to, one kind of task per file."""
