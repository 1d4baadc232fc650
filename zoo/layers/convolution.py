"""Convolutions over the letters of a word (Kim et al. 2015, https://arxiv.org/abs/1508.06615).

N words  C characters of a word  I width of a character  K width of a filter  O number of filters
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers.embedding import Embedding
from zoo.tokenizers import word_bytes


def uniform(bound: float) -> nn.initializers.Initializer:
    """Return an initializer that is uniform within a bound."""
    return lambda key, shape: jax.random.uniform(key, shape, minval=-bound, maxval=bound)


class Convolution(nn.Module):
    """Filters over the characters of a word, and the largest value of each: x_NCI -> x_NO."""

    width: int
    num_filters: int

    @nn.compact
    def __call__(self, x_NCI: jax.Array) -> jax.Array:
        K, I, O = self.width, x_NCI.shape[-1], self.num_filters
        kernel_KIO = self.param("kernel", uniform(0.05), (K, I, O))
        bias_O = self.param("bias", nn.initializers.zeros, (O,))
        x = jax.lax.conv_general_dilated(
            x_NCI.astype(kernel_KIO.dtype),
            kernel_KIO,
            window_strides=(1,),
            padding="VALID",
            dimension_numbers=("NWC", "WIO", "NWC"),
            preferred_element_type=jnp.float32,
        )
        return nn.relu(x.max(1) + bias_O)


class Letters(nn.Module):
    """The features of words from their letters: characters_BLC -> x_BLO.

    Ma and Hovy 2016, section 2.1 (https://arxiv.org/abs/1603.01354): embeddings of 30, and filters
    over three letters.
    """

    num_filters: int

    @nn.compact
    def __call__(self, characters_BLC: jax.Array) -> jax.Array:
        B, L, C = characters_BLC.shape
        embedding = Embedding(word_bytes.NUM_IDS, 30, uniform((3 / 30) ** 0.5))
        x_NCI = embedding(characters_BLC.reshape(B * L, C))
        return Convolution(3, self.num_filters)(x_NCI).reshape(B, L, self.num_filters)
