"""Zoo's LSTM alone: the gradients of its weights and of what it reads."""

from pathlib import Path

import jax
import jax.numpy as jnp

import zoo
from tests.speed import zoo_weights
from tests.speed.competitor import Run, serve
from tests.speed.work import Work, waves
from train.devices.malloc import keep_freed_memory
from zoo.layers.recurrent import Stack


def build(work: Work, _folder: Path, _variant: str) -> tuple[dict, Run]:
    keep_freed_memory()  # as `zoo pretrain` does
    params = zoo_weights.draw(work, "rnn")[1]["trunk"]["stack"]
    model, x_BLD = Stack(work.num_layers, "lstm", work.width, 0.0), jnp.asarray(waves(work))
    loss = lambda params, x_BLD: jnp.square(model.apply({"params": params}, x_BLD)[0]).mean()
    gradients = jax.jit(jax.grad(loss, (0, 1)))

    def run(steps: int) -> None:
        for _ in range(steps):
            jax.block_until_ready(gradients(params, x_BLD))

    parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    versions = {"zoo": zoo.__version__, "jax": jax.__version__}
    return {"loss": float(loss(params, x_BLD)), "parameters": parameters, "versions": versions}, run


if __name__ == "__main__":
    serve(build)
