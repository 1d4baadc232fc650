"""How fast this machine multiplies matrices at best: the yardstick beside the competitors."""

from pathlib import Path

import jax
import jax.numpy as jnp

from tests.speed.competitor import Run, serve
from tests.speed.work import PRODUCT, Work


def build(work: Work, _folder: Path, _variant: str) -> tuple[dict, Run]:
    rows, inner, columns = PRODUCT
    x_key, y_key = jax.random.split(jax.random.key(0))
    x = jax.random.normal(x_key, (rows, inner)).astype(work.dtype)
    y = jax.random.normal(y_key, (inner, columns)).astype(work.dtype)
    product = jax.jit(lambda x, y: jnp.matmul(x, y, preferred_element_type=jnp.float32))

    def run(steps: int) -> None:
        for _ in range(steps):
            product(x, y).block_until_ready()

    return {"versions": {"jax": jax.__version__}}, run


if __name__ == "__main__":
    serve(build)
