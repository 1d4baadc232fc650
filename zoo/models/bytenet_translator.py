"""ByteNet translators (Kalchbrenner et al. 2016), "Neural Machine Translation in Linear Time".

https://arxiv.org/abs/1610.10099
A ByteNet decoder stacked on an encoder of the same blocks, whose convolutions read both sides. New
compared with the recurrent translators: neither recurrence nor attention. The decoder reads at its
position t the source representation of the same position t, and the time is linear in the lengths
of source and target. For targets that are longer than their source s, the representation is
unfolded to a |s| + b positions (section 3.2); the decoder continues without one after them.

Departures: as in bytenet.py. Source and target may have separate vocabularies of one size. The
unfolding of a row is exact, where the paper first pads sentences to a multiple of 50 characters.

B batch  L source length  U length of the unfolded source  T target length  D width
M length of a buffer  I inner width  V vocabulary
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from zoo.layers import dilated_blocks
from zoo.layers.blocks import extend_blocks, run_blocks
from zoo.layers.dilated_blocks import Head, ReluBlock, dilation
from zoo.layers.dilated_convolution import both_sides, past
from zoo.layers.embedding import Embedding, UnprojectedLogits


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config of an encoder and a decoder; the defaults are the paper's English to German.

    `width` and `max_dilation` are those of bytenet.Config. A source of n tokens is unfolded to
    `unfolding` * n + `margin` positions, a and b in the paper, rounded up. `start` is the token
    that begins every target, the one that also ends it. `max_length` is required by the trainer;
    the model itself works at any length.
    """

    vocab_size: int = 323
    max_length: int = 1 << 30
    num_layers: int = 30
    width: int = 1600
    dropout: float = 0.0
    num_decoder_layers: int = 30
    filter_width: int = 3
    max_dilation: int = 16
    unfolding: float = 1.2
    margin: int = 0
    start: int = 1


SIZES = {
    "bytenet-translator-tiny": Config(
        vocab_size=256, num_layers=5, width=192, num_decoder_layers=5
    ),  # 841,408
    "bytenet-translator": Config(),  # 273,488,323
}


def unfolded_length(config: Config, length: int | np.ndarray) -> np.ndarray:
    """Return the length of the representation of a source, which is never shorter than it."""
    bound = np.ceil(np.round(config.unfolding * np.asarray(length) + config.margin, 6))
    return np.maximum(bound, length).astype(int)


class Cache(NamedTuple):
    """The unfolded source, x_BUD, the last inputs of each block's convolution, and the steps.

    The buffers are arrays [B, M, I]; `steps` is the number of target tokens so far.
    """

    source_BUD: jax.Array
    buffers: tuple[jax.Array, ...]
    steps: jax.Array


class ByteNetEncoderDecoder(nn.Module):
    """The trunk, without a head: source tokens_BL, targets_BT shifted right -> x_BTD.

    `document_ids_BL` is 1 for the tokens of the source and 0 for its padding.
    """

    config: Config

    def setup(self):
        c = self.config
        if c.width % 2:
            raise ValueError(f"the width {c.width} is odd: a block needs a width that it can halve")
        embedding = (c.vocab_size, c.width, nn.initializers.normal(1.0))
        self.source_embedding = Embedding(*embedding)
        self.encoder = self._blocks(c.num_layers, both_sides)
        self.target_embedding = Embedding(*embedding)
        self.decoder = self._blocks(c.num_decoder_layers, past)

    @nn.nowrap
    def _blocks(self, count, offsets):
        c = self.config
        dilations = [dilation(layer, c.max_dilation) for layer in range(count)]
        return [ReluBlock(c.width, offsets(c.filter_width, d)) for d in dilations]

    def encode(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """Encode a source: x_BUD, zero after its unfolded length.

        Position 0 is its first token, wherever its padding is. Between the end of a source and its
        unfolded length, the encoder reads zeros; padding after that is read by no convolution.
        """
        L = tokens_BL.shape[1]
        if document_ids_BL is None:
            document_ids_BL = jnp.ones_like(tokens_BL)
        order_BL = jnp.argsort(document_ids_BL == 0, 1, stable=True)  # real tokens come first
        length_B1 = (document_ids_BL > 0).sum(1, keepdims=True)
        x_BLD = self.source_embedding(jnp.take_along_axis(tokens_BL, order_BL, 1))
        x_BLD = jnp.where((jnp.arange(L) < length_B1)[:, :, None], x_BLD, 0)

        lengths = unfolded_length(self.config, np.arange(L + 1))
        U = int(lengths[-1])
        real_BU = jnp.arange(U) < jnp.asarray(lengths)[length_B1]
        x_BUD = jnp.pad(x_BLD, ((0, 0), (0, U - L), (0, 0)))
        inputs, name = real_BU.astype(jnp.int32), "encoder_hidden_states"
        x_BUD = run_blocks(self, self.encoder, x_BUD, inputs, name=name, train=train)[-1]
        return jnp.where(real_BU[:, :, None], x_BUD, 0)

    def __call__(
        self,
        tokens_BL: jax.Array,
        targets_BT: jax.Array,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        T, source_BUD = targets_BT.shape[1], self.encode(tokens_BL, document_ids_BL, train=train)
        missing = max(T - source_BUD.shape[1], 0)
        source_BTD = jnp.pad(source_BUD, ((0, 0), (0, missing), (0, 0)))[:, :T]
        x_BTD = self.target_embedding(targets_BT) + source_BTD
        name = "decoder_hidden_states"
        return run_blocks(self, self.decoder, x_BTD, None, name=name, train=train)[-1]

    def start(self, tokens_BL: jax.Array, document_ids_BL: jax.Array) -> Cache:
        """Encode a source: the cache before the first target token."""
        source_BUD = self.encode(tokens_BL, document_ids_BL)
        buffers = tuple(block.empty_buffer(len(tokens_BL)) for block in self.decoder)
        return Cache(source_BUD, buffers, jnp.int32(0))

    def extend(self, token_B: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Process one more target token: x_B1D and the new cache."""
        source_BUD, steps = cache.source_BUD, cache.steps
        # Indices after the last one are clipped to it.
        source_B1D = jax.lax.dynamic_slice_in_dim(source_BUD, steps, 1, 1)
        source_B1D = jnp.where(steps < source_BUD.shape[1], source_B1D, 0)
        x_B1D = self.target_embedding(token_B[:, None]) + source_B1D
        x_B1D, buffers = extend_blocks(self.decoder, x_B1D, cache.buffers, steps)
        return x_B1D, cache._replace(buffers=buffers, steps=steps + 1)


class ByteNetTranslator(nn.Module):
    """The trunk with a head over the target vocabulary."""

    config: Config

    def setup(self):
        c = self.config
        self.trunk = ByteNetEncoderDecoder(c)
        self.head = Head(c.vocab_size, c.width, c.dropout)

    @property
    def start_token(self) -> int:
        """The token that begins every target."""
        return self.config.start

    def encode(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """Encode a source: x_BUD, zero after its unfolded length."""
        return self.trunk.encode(tokens_BL, document_ids_BL, train=train)

    def unprojected(
        self,
        tokens_BL: jax.Array,
        targets_BT: jax.Array,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> UnprojectedLogits:
        """Return next-token logits before the product with the vocabulary table."""
        x_BTD = self.trunk(tokens_BL, targets_BT, document_ids_BL, train=train)
        return self.head(x_BTD, train=train)

    def __call__(
        self,
        tokens_BL: jax.Array,
        targets_BT: jax.Array | None = None,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Return next-token logits_BTV; without targets, those of the first token only."""
        if targets_BT is None:
            targets_BT = jnp.full((len(tokens_BL), 1), self.config.start)
        return self.unprojected(tokens_BL, targets_BT, document_ids_BL, train=train).logits()

    def start(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array, max_new_tokens: int
    ) -> tuple[jax.Array, Cache]:
        """Encode a source: logits_BV of the first target token, and the cache."""
        cache = self.trunk.start(tokens_BL, document_ids_BL)
        return self.step(jnp.full(len(tokens_BL), self.config.start), cache)

    def step(self, token_B: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Process one more target token: next-token logits_BV and the updated cache."""
        x_B1D, cache = self.trunk.extend(token_B, cache)
        return self.head(x_B1D).logits()[:, 0], cache


Model = ByteNetTranslator
MODELS = (ByteNetTranslator,)
TASKS: dict[str, type[nn.Module]] = {"text-to-text": ByteNetTranslator}
GROUPS = (r"_embedding/", r"trunk/encoder_(\d+)/", r"trunk/decoder_(\d+)/", "")
AXES = dilated_blocks.AXES
