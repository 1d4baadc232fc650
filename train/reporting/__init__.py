"""Reports of a run: progress, log, curves, manifest."""
