"""What a network is trained to do, one idea a file.

An objective is a frozen dataclass, made by `objective`, with

    factors
        What each term of the loss counts: {name: factor}.
    corrupt(key, example) -> example
        What the network is to see and to predict, for ONE example: the trainer maps it over the
        batch, each row with a key of its own, so masks do not depend on devices, processes or
        accumulation. example["weights"] maps the name of each term of the loss to weights, one a
        prediction.
    loss(model, params, batch, carry, key, *, train) -> ({name: Term}, carry)
    carry(model, batch) -> carry
        The state that passes from batch to batch: () where there is none.

The loss of a run is the sum over terms of factor * (sum of losses / sum of weights), both sums
taken over the whole batch: padding, devices and accumulation change nothing.
"""

from dataclasses import dataclass, field, fields
from typing import NamedTuple

import jax


def objective(cls):
    """Makes a class a frozen dataclass that is a pytree: its `arrays` are leaves, the rest static.

    So an objective is an argument of the compiled step, and what it holds lies on the devices.
    """
    cls = dataclass(frozen=True)(cls)
    leaves = [f.name for f in fields(cls) if "array" in f.metadata]
    static = [f.name for f in fields(cls) if f.name not in leaves]
    return jax.tree_util.register_dataclass(cls, data_fields=leaves, meta_fields=static)


def arrays():
    """A field of an objective that holds arrays, such as a teacher's parameters."""
    return field(metadata={"array": True})


class Term(NamedTuple):
    """One term of a loss, summed with the weights of its predictions: nats, and how many right.

    None are right where nothing is predicted.
    """

    loss: jax.Array
    right: jax.Array | None


def rngs(key):
    """The random streams of a training pass, from the key of its step."""
    return {"dropout": jax.random.fold_in(key, 1)}
