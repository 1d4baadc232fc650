"""What a network is trained to do, one idea a file.

An objective is a frozen dataclass with

    corrupt(key, example) -> example
        What the network is to see and to predict, for ONE example: the trainer maps it over the
        batch, each row with a key of its own, so masks do not depend on devices, processes or
        accumulation. example["weights"] maps the name of each term of the loss to weights, one a
        prediction.
    loss(model, params, batch, carry, key, *, train) -> ({name: Term}, carry)
    carry(model, batch) -> carry
        The state that passes from batch to batch: () where there is none.

The loss of a run is the sum over terms of (sum of losses / sum of weights), both sums taken over
the whole batch: padding, devices and accumulation change nothing.
"""

from typing import NamedTuple

import jax


class Term(NamedTuple):
    """One term of a loss, summed with the weights of its predictions: nats, and how many right."""

    loss: jax.Array
    right: jax.Array


def rngs(key):
    """The random streams of a training pass, from the key of its step."""
    return {"dropout": jax.random.fold_in(key, 1)}
