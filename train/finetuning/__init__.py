"""Fine-tuning: from a pretrained model to a task."""
