"""Layers that architectures share; their arguments are numbers, never configs."""
