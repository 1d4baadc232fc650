"""ByteNet language models (Kalchbrenner et al. 2016), "Neural Machine Translation in Linear Time".

https://arxiv.org/abs/1610.10099
The decoder of a ByteNet alone: a stack of residual blocks with causal dilated convolutions. New
compared with WaveNet: the dilations stay small and are repeated more often, a block works at half
the width, its gates are multiplicative units, and layer norm keeps deep stacks stable. The
translator is in bytenet_translator.py.

Departures: the paper gives no code, so initialization is ours, and so is the order of the two
multiplicative units in a block: the first has the dilated filter, the second a filter of width 1.
The paper reports a receptive field of 315 characters for its 30 blocks; by their dilations it is
373. Documents packed into one window do not read each other.

B batch  L length  D width  M length of a buffer  I inner width  V vocabulary
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers import dilated_blocks, heads
from zoo.layers.blocks import extend_blocks, run_blocks
from zoo.layers.dilated_blocks import BLOCKS, Head, dilation
from zoo.layers.dilated_convolution import past
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import Embedding, UnprojectedLogits
from zoo.layers.linear import Dense


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config of a ByteNet; the defaults are the paper's model of the characters of enwik8.

    `width` is that of the residual stream, which the paper calls 2d. The dilations of the blocks
    are 1, 2, 4, ... up to `max_dilation`, again and again. `block` is a name in
    dilated_blocks.BLOCKS. `max_length` is required by the trainer; the model itself works at any
    length.
    """

    vocab_size: int = 205
    max_length: int = 1 << 30
    num_layers: int = 30
    width: int = 1024
    dropout: float = 0.1
    filter_width: int = 3
    max_dilation: int = 16
    block: str = "multiplicative"
    labels: tuple[str, ...] = heads.LABELS
    pooling: str = "concatenation"  # a name in heads.POOLS
    direction: str = "forward"  # or "backward": see zoo/direction.py


SIZES = {
    "bytenet-tiny": Config(vocab_size=4096, num_layers=10, width=224, dropout=0.0),  # 4,417,344
    "bytenet": Config(),  # 159,017,165
}


def receptive_field(config: Config) -> int:
    """Return how many tokens a prediction depends on, the last one included."""
    dilations = [dilation(layer, config.max_dilation) for layer in range(config.num_layers)]
    return 1 + (config.filter_width - 1) * sum(dilations)


class Cache(NamedTuple):
    """The last inputs of each block's convolution, [B, M, I], and the number of steps so far."""

    buffers: tuple[jax.Array, ...]
    steps: jax.Array


class ByteNet(nn.Module):
    """The trunk, without a head: tokens_BL -> x_BLD.

    `document_ids_BL` counts documents from 1; 0 is padding, so a 0/1 mask is valid.
    """

    config: Config

    def setup(self):
        c = self.config
        if c.width % 2:
            raise ValueError(f"the width {c.width} is odd: a block needs a width that it can halve")
        if c.block not in BLOCKS:
            raise ValueError(f"unknown block {c.block!r}: use one of {', '.join(BLOCKS)}")
        self.token_embedding = Embedding(c.vocab_size, c.width, nn.initializers.normal(1.0))
        self.blocks = [
            BLOCKS[c.block](c.width, past(c.filter_width, dilation(layer, c.max_dilation)))
            for layer in range(c.num_layers)
        ]

    def __call__(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        x_BLD = self.token_embedding(tokens_BL)
        return run_blocks(self, self.blocks, x_BLD, document_ids_BL, train=train)[-1]

    def read(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None,
        document_ids_BL: jax.Array | None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Return x_BLD for a task head; segments are ignored."""
        return self(tokens_BL, document_ids_BL, train=train)

    def start(self, tokens_BL: jax.Array, document_ids_BL: jax.Array) -> tuple[jax.Array, Cache]:
        """Process left-padded prompts: x_BLD and the cache."""
        x_BLD, buffers = self.token_embedding(tokens_BL), []
        for block in self.blocks:
            x_BLD, buffer_BMI = block.start(x_BLD, document_ids_BL)
            buffers.append(buffer_BMI)
        return x_BLD, Cache(tuple(buffers), jnp.int32(0))

    def extend(self, token_B: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Process one more token: x_B1D and the new cache."""
        x_B1D = self.token_embedding(token_B[:, None])
        x_B1D, buffers = extend_blocks(self.blocks, x_B1D, cache.buffers, cache.steps)
        return x_B1D, Cache(buffers, cache.steps + 1)


class ByteNetClassifier(heads.OnTrunk):
    """Classifier of a text, from its pooled hidden states, as no position may read all of it."""

    config: Config
    trunk_class = ByteNet

    def setup(self):
        super().setup()
        self.dropout = Dropout(self.config.dropout)
        self.classes = Dense(len(self.config.labels), heads.INIT)

    def pool(self, x_BLD: jax.Array, document_ids_BL: jax.Array | None) -> jax.Array:
        """Return the last, mean or max state, or all three, as in `config.pooling`: x_BD."""
        return heads.POOLS[self.config.pooling](x_BLD, document_ids_BL)

    def head(self, x_BD: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the logits of the classes: logits_BC."""
        return self.classes(self.dropout(x_BD, train=train))


class ByteNetLM(nn.Module):
    """The trunk with a language-model head that has a hidden layer and its own table."""

    config: Config

    def setup(self):
        c = self.config
        self.trunk = ByteNet(c)
        self.head = Head(c.vocab_size, c.width, c.dropout)

    def unprojected(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> UnprojectedLogits:
        """Return next-token logits before the product with the vocabulary table."""
        return self.head(self.trunk(tokens_BL, document_ids_BL, train=train), train=train)

    def __call__(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """Return the next-token logits: logits_BLV."""
        return self.unprojected(tokens_BL, document_ids_BL, train=train).logits()

    def start(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array, max_new_tokens: int
    ) -> tuple[jax.Array, Cache]:
        """Process prompts: next-token logits_BV and the cache; `max_new_tokens` is not limited."""
        x_BLD, cache = self.trunk.start(tokens_BL, document_ids_BL)
        return self.head(x_BLD[:, -1:]).logits()[:, 0], cache

    def step(self, token_B: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Process one more token: next-token logits_BV and the updated cache."""
        x_B1D, cache = self.trunk.extend(token_B, cache)
        return self.head(x_B1D).logits()[:, 0], cache


Model = ByteNetLM
MODELS = (ByteNetLM,)
ByteNetTagger = heads.tagger(ByteNet)
ByteNetMultiLabel = heads.multi_label(ByteNetClassifier)
TASKS: dict[str, type[nn.Module]] = {
    "classification": ByteNetClassifier,
    "multi-label": ByteNetMultiLabel,
    "tagging": ByteNetTagger,
}
GROUPS = ("trunk/token_embedding", r"trunk/blocks_(\d+)/", "")
AXES = dilated_blocks.AXES
