"""How fast this machine multiplies matrices at best: the yardstick beside the competitors.

The variant "large" has products that fill a GPU, and "copy" reads and writes memory instead.
"""

import math
from pathlib import Path

import jax
import jax.numpy as jnp

from tests.speed.competitor import Run, serve
from tests.speed.work import PRODUCT, Work

LARGE, COPIED = (8192, 8192, 8192), 2**27  # numbers of 4 bytes


def amount(variant: str) -> float:
    """The FLOP of one product, or the bytes that are read and written."""
    if variant == "copy":
        return 2 * 4 * COPIED
    return 2 * math.prod(LARGE if variant == "large" else PRODUCT)


def build(work: Work, _folder: Path, variant: str) -> tuple[dict, Run]:
    rows, inner, columns = LARGE if variant == "large" else PRODUCT
    x_key, y_key = jax.random.split(jax.random.key(0))
    x = jax.random.normal(x_key, (rows, inner)).astype(work.dtype)
    y = jax.random.normal(y_key, (inner, columns)).astype(work.dtype)
    product = jax.jit(lambda x, y: jnp.matmul(x, y, preferred_element_type=jnp.float32))
    if variant == "copy":
        x, y = jnp.ones(COPIED), jnp.float32(1)
        product = jax.jit(jnp.add)

    def run(steps: int) -> None:
        for _ in range(steps):
            z = product(x, y)
        z.block_until_ready()

    device = jax.devices()[0].device_kind
    return {"versions": {"jax": jax.__version__}, "device": device}, run


if __name__ == "__main__":
    serve(build)
