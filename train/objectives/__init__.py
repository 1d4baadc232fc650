"""What a network is trained to do, one objective per file."""
