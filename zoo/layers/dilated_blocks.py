"""The parts of a ByteNet (Kalchbrenner et al. 2016, https://arxiv.org/abs/1610.10099).

A residual block of width D reduces its input to I = D / 2 channels, runs a dilated convolution over
time, and expands the result to D again (figure 3). Norms are over channels only, so that no
position reads another one through them. The multiplicative unit is that of Video Pixel Networks
(Kalchbrenner et al. 2016, https://arxiv.org/abs/1610.00527, section 3.2).

D width of the residual stream  I inner width  M length of a buffer  V vocabulary
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers import sharding
from zoo.layers.dilated_convolution import DilatedConvolution
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import UnprojectedLogits
from zoo.layers.linear import Dense
from zoo.layers.norm import Norm

AXES = (
    *sharding.AXES,
    (r"(reduce|gates|hidden)/kernel$", ("fsdp", "tensor")),
    (r"expand/kernel$", ("tensor", "fsdp")),
    (r"convolution/(filters/)?kernel$", (None, "fsdp", "tensor")),
)
EPSILON = 1e-5
INIT = nn.initializers.lecun_normal()


def dilation(layer: int, max_dilation: int) -> int:
    """Return the dilation of a block: 1, 2, 4, ... up to `max_dilation`, then 1 again."""
    return 1 << layer % max_dilation.bit_length()


def multiplicative_unit(gates: jax.Array, h: jax.Array) -> jax.Array:
    """Return g1 tanh(g2 h + g3 u): an LSTM's step with h in place of the state, [..., I].

    `gates` holds the inputs of the sigmoids of g1, g2 and g3 and of the tanh of u: [..., 4 I].
    """
    g1, g2, g3, u = jnp.split(gates, 4, -1)
    mixed = jax.nn.sigmoid(g2) * h + jax.nn.sigmoid(g3) * jnp.tanh(u)
    return jax.nn.sigmoid(g1) * jnp.tanh(mixed)


class MultiplicativeConvolution(nn.Module):
    """A multiplicative unit whose gates are dilated convolutions, h_BLI -> h_BLI."""

    width: int
    offsets: tuple[int, ...]

    def setup(self):
        self.filters = DilatedConvolution(self.width, 4 * self.width, self.offsets, INIT)

    def __call__(self, h_BLI: jax.Array, document_ids_BL: jax.Array | None = None) -> jax.Array:
        return multiplicative_unit(self.filters(h_BLI, document_ids_BL), h_BLI)

    def buffer(self, h_BLI: jax.Array, document_ids_BL: jax.Array) -> jax.Array:
        """Return the last inputs of a prompt: buffer_BMI."""
        return self.filters.buffer(h_BLI, document_ids_BL)

    def step(
        self, h_BI: jax.Array, buffer_BMI: jax.Array, steps: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Return the output for one more input, and the updated buffer."""
        gates, buffer_BMI = self.filters.step(h_BI, buffer_BMI, steps)
        return multiplicative_unit(gates, h_BI), buffer_BMI


class ResidualBlock(nn.Module):
    """A residual block, x_BLD -> x_BLD.

    Subclasses define `convolution`, over time, and `expand`, with what comes before it.
    """

    width: int
    offsets: tuple[int, ...]

    def setup(self):
        self.norm, self.reduce = Norm(EPSILON), Dense(self.width // 2, INIT)
        self.reduced_norm = Norm(EPSILON)
        self.expand = Dense(self.width, INIT)

    def __call__(
        self, x_BLD: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        h_BLI = self.convolution(self._reduce(x_BLD), document_ids_BL)
        return x_BLD + self._expand(h_BLI)

    @nn.nowrap
    def empty_buffer(self, batch_size: int) -> jax.Array:
        """Return the buffer_BMI before the first position."""
        return jnp.zeros((batch_size, -self.offsets[0], self.width // 2))

    def start(self, x_BLD: jax.Array, document_ids_BL: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the output for a prompt, x_BLD, and the buffer_BMI of its convolution."""
        h_BLI = self._reduce(x_BLD)
        buffer_BMI = self.convolution.buffer(h_BLI, document_ids_BL)
        return x_BLD + self._expand(self.convolution(h_BLI, document_ids_BL)), buffer_BMI

    def extend(
        self, x_B1D: jax.Array, buffer_BMI: jax.Array, steps: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Return the output for one more position, x_B1D, and the updated buffer."""
        h_BI = self._reduce(x_B1D)[:, 0]
        h_BI, buffer_BMI = self.convolution.step(h_BI, buffer_BMI, steps)
        return x_B1D + self._expand(h_BI[:, None]), buffer_BMI

    def _reduce(self, x_BLD):
        return nn.relu(self.reduced_norm(self.reduce(nn.relu(self.norm(x_BLD)))))


class ReluBlock(ResidualBlock):
    """The residual block with ReLUs (figure 3, left), for translation."""

    def setup(self):
        super().setup()
        self.convolution = DilatedConvolution(self.width // 2, self.width // 2, self.offsets, INIT)
        self.output_norm = Norm(EPSILON)

    def _expand(self, h_BLI):
        return self.expand(nn.relu(self.output_norm(h_BLI)))


class MultiplicativeBlock(ResidualBlock):
    """The residual block with multiplicative units (figure 3, right), for language models.

    As in Video Pixel Networks it has two units; only the first reads other positions.
    """

    def setup(self):
        super().setup()
        self.convolution = MultiplicativeConvolution(self.width // 2, self.offsets)
        self.gates = Dense(2 * self.width, INIT)

    def _expand(self, h_BLI):
        return self.expand(multiplicative_unit(self.gates(h_BLI), h_BLI))


BLOCKS: dict[str, type[ResidualBlock]] = {
    "multiplicative": MultiplicativeBlock,
    "relu": ReluBlock,
}


class Head(nn.Module):
    """Next-token head with a hidden layer: x_BLD -> UnprojectedLogits.

    Dropout is applied to the ReLU of that layer (section 5).
    """

    vocab_size: int
    width: int
    dropout: float

    def setup(self):
        self.hidden, self.hidden_dropout = Dense(self.width, INIT), Dropout(self.dropout)
        init = nn.initializers.normal(self.width**-0.5)
        self.table = self.param("embedding", init, (self.vocab_size, self.width))
        self.bias = self.param("bias", nn.initializers.zeros, (self.vocab_size,))

    def __call__(self, x_BLD: jax.Array, *, train: bool = False) -> UnprojectedLogits:
        x_BLD = self.hidden_dropout(nn.relu(self.hidden(x_BLD)), train=train)
        return UnprojectedLogits(x_BLD, self.table, self.bias)
