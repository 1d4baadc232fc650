"""The commands: one dataclass per command, whose fields are its arguments."""
