"""Large random values, which reveal errors that a standard deviation of 0.02 would hide."""

import jax.numpy as jnp
import numpy as np


def widen(torch_model, seed: int = 0) -> None:
    """Fill every parameter of a torch model, in place, with standard deviation 0.2."""
    import torch

    random = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in torch_model.parameters():
            array = random.normal(0, 0.2, parameter.shape).astype(np.float32)
            parameter.copy_(torch.from_numpy(array))


def draw(*shape, seed: int = 0):
    """Return normally distributed values as a float32 array."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def relative(ours, theirs) -> float:
    """Return the largest difference divided by the largest value."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())
