"""The programs: turn text into a model folder."""
