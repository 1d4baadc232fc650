"""Devices: where state and batches are placed, and how the step runs over them."""
