"""Fine-tuning of pretrained models for tasks."""
