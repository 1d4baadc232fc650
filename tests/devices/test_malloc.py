"""A step's memory is kept from one call to the next, unless the environment says otherwise."""

import os
import platform
import subprocess
import sys

import pytest

from train.devices import malloc

# 64 MB of scratch memory in every call: 16,384 pages, if they are not kept.
SCRIPT = """
import resource
from train.devices.malloc import keep_freed_memory
print(keep_freed_memory())
import jax, jax.numpy as jnp
x = jnp.ones((4096, 64))
run = jax.jit(lambda x: (x @ x.T) @ x)
for _ in range(10):
    run(x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    run(x).block_until_ready()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 20)
"""


def faults(**settings):
    """Whether memory is kept, and how many pages a call asks the system for."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment | {"PYTHONPATH": ".", "JAX_PLATFORMS": "cpu"} | settings,
        capture_output=True,
        text=True,
        check=True,
    )
    kept, count = done.stdout.split()
    return kept, int(count)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_scratch_memory_is_kept():
    if any(map(malloc.find_spec, malloc.ACCELERATORS)):
        pytest.skip("JAX may have more than a CPU")
    kept, count = faults()
    assert kept == "True"
    assert count < 4000  # the heap may still grow once or twice
    kept, count = faults(MALLOC_ARENA_TEST="8")  # glibc's own value
    assert kept == "False"
    assert count > 16_000
