"""Devices: placement of state and batches, and the parallel step."""
