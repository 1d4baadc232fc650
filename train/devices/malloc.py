"""Memory allocation on CPUs: keep the memory that a step frees for the next step."""

import ctypes
import os
import platform
from importlib.util import find_spec

# glibc, malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
ACCELERATORS = "jax_plugins", "libtpu"  # the packages through which JAX supports accelerators


def keep_freed_memory() -> bool:
    """Configure glibc to keep freed memory, and return whether it does.

    This must be called before JAX starts threads. A step allocates its scratch memory as one block.
    By default, glibc returns that block to the system after every step, and the system provides it
    again page by page, filled with zeros: a quarter of the CPU time of `bert-shallow`. With this
    configuration nothing is returned, and all threads share one heap, because per-thread heaps are
    too small for such a block. Training is 1.04 to 1.26 times as fast, but the process uses 1.05 to
    2 times the memory, a short run compiles in 52 s instead of 38, and two threads tokenize at 0.6
    of their speed.

    Does nothing if JAX supports more than the CPU, if there is no glibc, or if the environment sets
    one of glibc's MALLOC_... variables.
    """
    accelerated = any(find_spec(name) for name in ACCELERATORS)
    configured = any(name.startswith("MALLOC_") for name in os.environ)
    if accelerated or configured or platform.libc_ver()[0] != "glibc":
        return False
    settings = (M_TRIM_THRESHOLD, -1), (M_MMAP_MAX, 0), (M_ARENA_MAX, 1)
    return all(ctypes.CDLL(None).mallopt(*setting) for setting in settings)
