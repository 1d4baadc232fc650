"""Layers that architectures share; they take numbers, never configs."""
