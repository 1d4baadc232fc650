"""Activations and the feed-forward layer."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers.linear import Dense

Activation = Callable[[jax.Array], jax.Array]  # elementwise


def gelu(x: jax.Array) -> jax.Array:
    """Return the exact Gaussian error linear unit of x (Hendrycks and Gimpel 2016)."""
    return x * (0.5 + 0.5 * jax.lax.erf(x * 0.5**0.5))


def gelu_tanh(x: jax.Array) -> jax.Array:
    """Return the tanh approximation of gelu, used by the GPTs; it differs by up to 5e-4."""
    return nn.gelu(x, approximate=True)


# By their names in configs; "swish" is the older name of "silu".
ACTIVATIONS = {
    "relu": nn.relu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "silu": nn.silu,
    "swish": nn.silu,
    "tanh": jnp.tanh,
}


class FeedForward(nn.Module):
    """Two dense layers with an activation between them: x_BLD -> x_BLD."""

    mlp_width: int
    width: int
    activation: Activation
    kernel_init: nn.initializers.Initializer
    output_init: nn.initializers.Initializer

    def setup(self):
        self.up = Dense(self.mlp_width, self.kernel_init)
        self.down = Dense(self.width, self.output_init)

    def __call__(self, x_BLD: jax.Array) -> jax.Array:
        return self.down(self.activation(self.up(x_BLD).astype(jnp.float32)))
