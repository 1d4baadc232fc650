"""The commands, a dataclass each: its fields are what can be said on the command line."""
