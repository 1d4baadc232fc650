"""WaveNet (van den Oord et al. 2016), "WaveNet: A Generative Model for Raw Audio".

https://arxiv.org/abs/1609.03499
A causal model of a sequence, here of text or of the levels of a waveform, without recurrence: the
dilation of the convolutions doubles from block to block, so a prediction depends on thousands of
tokens. A block has gates, and one output for the next block and one for the prediction (figure 4).

The first layer is a causal filter of width 2 over one-hot vectors, without a bias or an activation,
so each of its two positions is an embedding table: this is exact, and needs no product.

Departures: the paper states neither widths nor initialization. Widths are those of a well-known
reproduction (ibab/tensorflow-wavenet), which has 1,515,968 parameters: 1,056 more than ours,
because it projects the last block to a next one, which nothing reads. Dropout is ours, off in the
published sizes. Conditioning on a speaker or on a text (section 2.5) is left out.

B batch  L length  M length of a buffer  D width of the residual stream  G width of the gates
O width of the skip connections  V vocabulary
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers import heads, sharding
from zoo.layers.blocks import extend_blocks, run_blocks
from zoo.layers.dilated_convolution import DilatedConvolution, past, shifted
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import Embedding, UnprojectedLogits
from zoo.layers.linear import Dense


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config of a WaveNet; the defaults are those of the reproduction, for 256 levels.

    The dilations of the blocks are 1, 2, 4, ... up to `max_dilation`, again and again. `rate` is
    the number of samples per second of a model of sound. `max_length` is required by the trainer;
    the model itself works at any length.
    """

    vocab_size: int = 256
    max_length: int = 1 << 30
    num_layers: int = 50
    width: int = 32
    dropout: float = 0.0
    gate_width: int = 32
    skip_width: int = 512
    max_dilation: int = 512
    rate: int = 16000
    labels: tuple[str, ...] = heads.LABELS
    direction: str = "forward"  # or "backward": see zoo/direction.py


SIZES = {
    "wavenet-tiny": Config(
        vocab_size=4096,
        num_layers=8,
        width=192,
        gate_width=192,
        skip_width=192,
        max_dilation=8,
    ),  # 4,139,008
    "wavenet": Config(
        vocab_size=50257,
        num_layers=30,
        width=512,
        gate_width=512,
        skip_width=512,
    ),  # 124,492,369
    "wavenet-sound-tiny": Config(
        num_layers=16, skip_width=128, max_dilation=128, rate=8000
    ),  # 215,904
    "wavenet-sound": Config(),  # 1,514,912
}

FILTER_WIDTH = 2
INIT = nn.initializers.glorot_uniform()


def dilations(config: Config) -> tuple[int, ...]:
    """Return the dilation of each block."""
    cycle = config.max_dilation.bit_length()
    return tuple(1 << layer % cycle for layer in range(config.num_layers))


def receptive_field(config: Config) -> int:
    """Return how many tokens a prediction depends on, the last one included."""
    return 1 + (FILTER_WIDTH - 1) * (1 + sum(dilations(config)))


class Cache(NamedTuple):
    """What later tokens need of earlier ones.

    `previous_B1D` is the first layer's product of the last token at the earlier position of the
    filter, `buffers` the last inputs of each block, [B, M, D], `steps` the number of steps so far.
    """

    previous_B1D: jax.Array
    buffers: tuple[jax.Array, ...]
    steps: jax.Array


Streams = tuple[jax.Array, jax.Array]  # the residual stream and the sum of the skip connections


class LastBlock(nn.Module):
    """A block without a next one: it adds to the skip connections only (section 2.3, equation 2).

    Both filters are one convolution: the first half is tanh's, the second the sigmoid's.
    """

    width: int
    gate_width: int
    skip_width: int
    dilation: int

    def setup(self):
        offsets = past(FILTER_WIDTH, self.dilation)
        self.gates = DilatedConvolution(self.width, 2 * self.gate_width, offsets, INIT)
        self.skip = Dense(self.skip_width, INIT)

    def __call__(
        self, streams: Streams, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> Streams:
        return self._add(streams, self.gates(streams[0], document_ids_BL))

    def start(self, streams: Streams, document_ids_BL: jax.Array) -> tuple[Streams, jax.Array]:
        """Return the output for a prompt, and the buffer_BMD of its convolution."""
        return self(streams, document_ids_BL), self.gates.buffer(streams[0], document_ids_BL)

    def extend(
        self, streams: Streams, buffer_BMD: jax.Array, steps: jax.Array
    ) -> tuple[Streams, jax.Array]:
        """Return the output for one more token, and the updated buffer."""
        gates, buffer_BMD = self.gates.step(streams[0][:, 0], buffer_BMD, steps)
        return self._add(streams, gates[:, None]), buffer_BMD

    def _add(self, streams: Streams, gates: jax.Array) -> Streams:
        """Return both streams with what the block adds, given the inputs of tanh and sigmoid."""
        x_BLD, skips_BLO = streams
        filter_BLG, gate_BLG = jnp.split(gates, 2, -1)
        z_BLG = jnp.tanh(filter_BLG) * jax.nn.sigmoid(gate_BLG)
        return self.residual_stream(x_BLD, z_BLG), skips_BLO + self.skip(z_BLG)

    def residual_stream(self, x_BLD: jax.Array, z_BLG: jax.Array) -> jax.Array:
        """Return the residual stream after the block: here unchanged."""
        return x_BLD


class Block(LastBlock):
    """A block that adds to the residual stream, which the next one reads, and to the skips."""

    def setup(self):
        super().setup()
        self.residual = Dense(self.width, INIT)

    def residual_stream(self, x_BLD: jax.Array, z_BLG: jax.Array) -> jax.Array:
        """Return the residual stream after the block."""
        return x_BLD + self.residual(z_BLG)


class WaveNet(nn.Module):
    """The trunk, without a head: tokens_BL -> x_BLO, the ReLU of the sum of all skips.

    `document_ids_BL` counts documents from 1; 0 is padding, so a 0/1 mask is valid.
    """

    config: Config

    def setup(self):
        c = self.config
        init = nn.initializers.normal(FILTER_WIDTH**-0.5)
        self.previous_embedding = Embedding(c.vocab_size, c.width, init)
        self.token_embedding = Embedding(c.vocab_size, c.width, init)
        self.embedding_dropout = Dropout(c.dropout)
        kinds = [Block] * (c.num_layers - 1) + [LastBlock]
        self.blocks = [
            kind(c.width, c.gate_width, c.skip_width, dilation)
            for kind, dilation in zip(kinds, dilations(c), strict=True)
        ]
        self.output_dropout = Dropout(c.dropout)

    def __call__(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        x_BLD = self.embedding_dropout(self.embed(tokens_BL, document_ids_BL), train=train)
        streams = self.begin(x_BLD)
        _, skips_BLO = run_blocks(self, self.blocks, streams, document_ids_BL, train=train)[-1]
        return self.output_dropout(nn.relu(skips_BLO), train=train)

    def embed(self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None) -> jax.Array:
        """Return the output of the first layer: x_BLD."""
        previous_BLD = self.previous_embedding(tokens_BL)
        return self.token_embedding(tokens_BL) + shifted(previous_BLD, document_ids_BL, -1)

    @nn.nowrap
    def begin(self, x_BLD: jax.Array) -> Streams:
        """Return the inputs of the first block: the output of the first layer, and no skips."""
        return x_BLD, jnp.zeros((*x_BLD.shape[:-1], self.config.skip_width))

    def read(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None,
        document_ids_BL: jax.Array | None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Return one vector per token for a task head; segments are ignored."""
        return self(tokens_BL, document_ids_BL, train=train)

    def start(self, tokens_BL: jax.Array, document_ids_BL: jax.Array) -> tuple[jax.Array, Cache]:
        """Process left-padded prompts: the output of the trunk and the cache."""
        streams, buffers = self.begin(self.embed(tokens_BL, document_ids_BL)), []
        for block in self.blocks:
            streams, buffer_BMD = block.start(streams, document_ids_BL)
            buffers.append(buffer_BMD)
        previous_B1D = self.previous_embedding(tokens_BL[:, -1:])
        return nn.relu(streams[1]), Cache(previous_B1D, tuple(buffers), jnp.int32(0))

    def extend(self, token_B1: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Process one more token: the output of the trunk and the updated cache."""
        streams = self.begin(self.token_embedding(token_B1) + cache.previous_B1D)
        (_, skips_B1O), buffers = extend_blocks(self.blocks, streams, cache.buffers, cache.steps)
        previous_B1D = self.previous_embedding(token_B1)
        return nn.relu(skips_B1O), Cache(previous_B1D, buffers, cache.steps + 1)


class WaveNetClassifier(heads.OnTrunk):
    """Classifier of a text, from the mean of all positions, as for phonemes in section 3.4."""

    trunk_class = WaveNet
    pool = staticmethod(heads.mean)

    def setup(self):
        super().setup()
        self.dropout = Dropout(self.config.dropout)
        self.classes = Dense(len(self.config.labels), heads.INIT)

    def head(self, x_BD: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the logits of the classes: logits_BC."""
        return self.classes(self.dropout(x_BD, train=train))


class Head(nn.Module):
    """Next-token head with a hidden layer of the same width: x_BLD -> UnprojectedLogits."""

    vocab_size: int
    width: int

    def setup(self):
        self.hidden = Dense(self.width, INIT)
        init = nn.initializers.normal(self.width**-0.5)
        self.table = self.param("embedding", init, (self.vocab_size, self.width))
        self.bias = self.param("bias", nn.initializers.zeros, (self.vocab_size,))

    def __call__(self, x_BLD: jax.Array) -> UnprojectedLogits:
        return UnprojectedLogits(nn.relu(self.hidden(x_BLD)), self.table, self.bias)


class WaveNetLM(nn.Module):
    """The trunk with a head over the vocabulary."""

    config: Config

    def setup(self):
        self.trunk = WaveNet(self.config)
        self.head = Head(self.config.vocab_size, self.config.skip_width)

    def unprojected(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> UnprojectedLogits:
        """Return next-token logits before the product with the vocabulary table."""
        return self.head(self.trunk(tokens_BL, document_ids_BL, train=train))

    def __call__(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """Return the next-token logits: logits_BLV."""
        return self.unprojected(tokens_BL, document_ids_BL, train=train).logits()

    def start(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array, max_new_tokens: int
    ) -> tuple[jax.Array, Cache]:
        """Process prompts: next-token logits_BV and the cache; `max_new_tokens` is not limited."""
        skips_BLO, cache = self.trunk.start(tokens_BL, document_ids_BL)
        return self.head(skips_BLO[:, -1:]).logits()[:, 0], cache

    def step(self, token_B: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Process one more token: next-token logits_BV and the updated cache."""
        skips_B1O, cache = self.trunk.extend(token_B[:, None], cache)
        return self.head(skips_B1O).logits()[:, 0], cache


Model = WaveNetLM


class WaveNetSound(WaveNetLM):
    """A WaveNet of sound, whose tokens are the mu-law levels of samples (section 2.2)."""

    @property
    def rate(self) -> int:
        """The number of samples per second."""
        return self.config.rate


MODELS = (WaveNetLM, WaveNetSound)
WaveNetTagger = heads.tagger(WaveNet)
WaveNetMultiLabel = heads.multi_label(WaveNetClassifier)
TASKS: dict[str, type[nn.Module]] = {
    "classification": WaveNetClassifier,
    "multi-label": WaveNetMultiLabel,
    "tagging": WaveNetTagger,
}
GROUPS = (r"trunk/\w*embedding", r"trunk/blocks_(\d+)/", "")
AXES = (
    *sharding.AXES,
    (r"gates/kernel$", (None, "fsdp", "tensor")),
    (r"(residual|skip)/kernel$", ("tensor", "fsdp")),
    (r"hidden/kernel$", ("fsdp", "tensor")),
)
