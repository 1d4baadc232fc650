"""What a command sets before it compiles: programs that are kept, and a quicker compiler on GPUs.

Compiling a step takes seconds on a CPU, and up to minutes on a GPU or a TPU. The command line keeps
compiled programs in the cache of all runs. A library must not decide that for its users: who wants
it calls `keep_programs`.
"""

import os
import sys
from pathlib import Path

import filelock
import jax

from train.data import cache
from train.devices import nvidia

# Of the kept programs together; the least recently used are removed. JAX takes a lock for a limit,
# without which a process may read what another has half written.
MOST_BYTES = 4 * 1024**3
# Before JAX keeps a program it reads the age of each that it has: trifles would make that slow.
LEAST_SECONDS = 0.5
# Which kernel to take for a product is found by trying; fusions tried too take over 100 s for some
# programs, for kernels that are as fast without.
GPU_FLAGS = ("--xla_gpu_experimental_enable_fusion_autotuner=false",)


def begin() -> None:
    """Set up JAX for a command; what the environment sets for JAX and XLA stays as it is.

    Raises:
      ValueError: If the environment asks for a GPU that JAX cannot use.
    """
    nvidia.check()
    if line := nvidia.outdated_driver():
        _note(line)
    if nvidia.is_used():
        set_gpu_flags()
    keep_programs()


def set_gpu_flags() -> None:
    """Add the flags of XLA for GPUs to XLA_FLAGS, where they are not set; XLA reads it only once.

    A flag that XLA does not know ends the process: these are in all versions of JAX from 0.10 to
    0.12.
    """
    given = os.environ.get("XLA_FLAGS", "")
    new = [flag for flag in GPU_FLAGS if flag.partition("=")[0] not in given]
    os.environ["XLA_FLAGS"] = " ".join([*given.split(), *new])


def keep_programs() -> Path | None:
    """Keep compiled programs on disk for later processes, and return the folder.

    Returns None, and changes nothing, if JAX_COMPILATION_CACHE_DIR names another folder, or if the
    folder cannot be written, which is noted on standard error.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return None
    folder = cache.root().absolute() / "compiled"
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
        _note(f"compiled programs are not kept, as {nearest} cannot be written: set ZOO_CACHE")
        return None
    _remove_partial(folder)
    settings = {
        "jax_persistent_cache_min_compile_time_secs": LEAST_SECONDS,
        "jax_compilation_cache_max_size": MOST_BYTES,
        # Which kernels were the fastest on a GPU is kept too, for programs that are new.
        "jax_persistent_cache_enable_xla_caches": "xla_gpu_per_fusion_autotune_cache_dir",
    }
    jax.config.update("jax_compilation_cache_dir", str(folder))
    for name, value in settings.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)
    return folder


def _remove_partial(folder: Path) -> None:
    """Remove what a process that was killed has written in part, which JAX would try to read.

    JAX writes the age of a program after the program, and holds this lock meanwhile.
    """
    if not folder.exists():
        return
    try:
        with filelock.FileLock(folder / ".lockfile", timeout=0):
            for program in folder.glob("*-cache"):
                if not program.with_name(program.name.removesuffix("cache") + "atime").exists():
                    program.unlink()
    except (OSError, filelock.Timeout):  # another process is writing, or has removed it
        return


def _note(line: str) -> None:
    print(f"zoo: {line}", file=sys.stderr)
