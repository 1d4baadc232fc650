"""The commands, a dataclass each: its fields are the arguments."""
