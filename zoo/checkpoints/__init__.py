"""Model folders: written atomically, and verified by checksums when read."""
