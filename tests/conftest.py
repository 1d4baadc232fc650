"""What holds for every test file."""

import gc
import os

import jax
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks the Hub itself for a name that it mistypes


@pytest.fixture(autouse=True, scope="module")
def _forget_compiled_programs():
    """Free the programs of a test file when it ends.

    Each takes some memory mappings, of which Linux allows a process 65,530; past that number XLA
    crashes. The tests need more in all.
    """
    yield
    jax.clear_caches()
    gc.collect()
