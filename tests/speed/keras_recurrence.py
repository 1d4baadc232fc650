"""Keras on JAX, its LSTM alone: the gradients of its weights and of what it reads."""

from pathlib import Path

import jax
import keras

from tests.speed import keras_model
from tests.speed.competitor import Run, serve
from tests.speed.work import Work, waves


def build(work: Work, folder: Path, _: str) -> tuple[dict, Run]:
    inputs = keras.Input(batch_shape=(work.rows, work.max_length, work.width))
    model = keras.Sequential([inputs, *keras_model.lstms(work, folder)])
    weights, others = (
        [v.value for v in vs] for vs in (model.trainable_variables, model.non_trainable_variables)
    )
    x_BLD = jax.numpy.asarray(waves(work))

    def loss(weights, x_BLD):
        return keras.ops.mean(keras.ops.square(model.stateless_call(weights, others, x_BLD)[0]))

    gradients = jax.jit(jax.grad(loss, (0, 1)))

    def run(steps: int) -> None:
        for _ in range(steps):
            jax.block_until_ready(gradients(weights, x_BLD))

    parameters = sum(weight.size for weight in weights) + keras_model.second_biases(work)
    versions = {"keras": keras.__version__, "jax (Keras)": jax.__version__}
    facts = {"loss": float(loss(weights, x_BLD)), "parameters": parameters, "versions": versions}
    return facts | {"note": "one bias a gate"}, run


if __name__ == "__main__":
    serve(build)
