"""The cache of all runs, for what they derive from texts: in ZOO_CACHE (default: ~/.cache/zoo)."""

import hashlib
import os
from pathlib import Path


def root() -> Path:
    """Return the folder that holds all of the cache."""
    return Path(os.environ.get("ZOO_CACHE", Path.home() / ".cache" / "zoo"))


def folder(kind: str, identity: str) -> Path:
    """Return the folder of a thing of some kind, such as "corpora", that an identity determines."""
    return root() / kind / hashlib.sha256(identity.encode()).hexdigest()[:16]
