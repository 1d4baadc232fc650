"""Optimizers, learning-rate schedules and weight decay."""
