"""Keras and KerasHub on JAX, one training step: their own layers, loss and AdamW in one jitted step
with donated state, as its guide to custom training loops has it."""

import itertools
from functools import partial
from pathlib import Path

import jax
import keras
import keras_hub
import numpy as np

from tests.speed import keras_model
from tests.speed.competitor import Run, serve
from tests.speed.work import BETAS, EPSILON, LEARNING_RATE, WEIGHT_DECAY, Work, batches


def features(batch: dict, model: str) -> tuple[dict | np.ndarray, np.ndarray, np.ndarray]:
    """What the model reads, the targets, and how much each of them counts."""
    words = batch["tokens"]
    if model == "rnn":
        return words, batch["targets"], np.ones(words.shape, np.float32)
    inputs = {"token_ids": words, "padding_mask": np.ones_like(words)}
    if model == "gpt2":
        counts = np.ones(words.shape, np.float32)
        counts[:, -1] = 0  # the last word has no successor
        return inputs, np.roll(words, -1, axis=1), counts
    inputs |= {"segment_ids": np.zeros_like(words), "mask_positions": batch["positions"]}
    return inputs, batch["targets"], np.ones(batch["targets"].shape, np.float32)


def mean_loss(logits, targets, counts):
    each = keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True)
    return (each * counts).sum() / counts.sum()


def first_loss(model: keras.Model, batch: tuple) -> float:
    """The loss before training.

    KerasHub's BERT takes the tanh GELU where the published one takes the exact: it borrows that one
    here, so that equal weights give an equal loss.
    """
    inputs, targets, counts = batch
    bends = [
        layer._feedforward_intermediate_dense
        for layer in model.layers
        if isinstance(layer, keras_hub.layers.TransformerEncoder)
    ]
    own = [bend.activation for bend in bends]
    for bend in bends:
        bend.activation = keras.activations.gelu
    loss = mean_loss(model(inputs), targets, counts)
    for bend, activation in zip(bends, own, strict=True):
        bend.activation = activation
    return float(loss)


def build(work: Work, folder: Path, _: str) -> tuple[dict, Run]:
    if work.dtype == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    model = getattr(keras_model, work.model)(work, folder)
    optimizer = keras.optimizers.AdamW(LEARNING_RATE, WEIGHT_DECAY, *BETAS, EPSILON)
    optimizer.build(model.trainable_variables)
    data = [features(batch, work.model) for batch in batches(work)]
    loss = first_loss(model, data[0])

    def loss_of(trained, others, batch):
        inputs, targets, counts = batch
        logits, others = model.stateless_call(trained, others, inputs, training=True)
        return mean_loss(logits, targets, counts), others

    @partial(jax.jit, donate_argnums=0)
    def step(state, batch):
        trained, others, moments = state
        (_, others), gradient = jax.value_and_grad(loss_of, has_aux=True)(trained, others, batch)
        trained, moments = optimizer.stateless_apply(moments, gradient, trained)
        return trained, others, moments

    values = lambda variables: [jax.numpy.copy(variable.value) for variable in variables]
    state = (
        values(model.trainable_variables),
        values(model.non_trainable_variables),
        values(optimizer.variables),
    )
    feed = itertools.cycle(jax.device_put(data))

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state = step(state, next(feed))
        jax.block_until_ready(state)

    parameters = sum(variable.size for variable in state[0])
    versions = {"keras-hub": keras_hub.__version__, "keras": keras.__version__}
    versions["jax (KerasHub)"] = jax.__version__
    facts = {"loss": loss, "parameters": parameters, "versions": versions}
    if work.model == "bert":
        facts["note"] = "tanh GELU"
    if work.model == "rnn":
        facts["parameters"] += keras_model.second_biases(work)
        facts["note"] = "one bias a gate"
    return facts, run


if __name__ == "__main__":
    serve(build)
