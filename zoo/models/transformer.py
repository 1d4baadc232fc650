"""The Transformer (Vaswani et al. 2017), "Attention Is All You Need".

https://arxiv.org/abs/1706.03762
An encoder that looks both ways, and a decoder that looks back and at the source. New against
attention over a recurrent network: nothing recurs, attention has heads, waves added to the words
tell places, every sum is normalised; source, target and output share one table.

Departures, for Marian's published weights (Junczys-Dowmunt et al. 2018): biases in attention and
on the output, all from zero; the sines first, then the cosines, which only renames axes; the norms'
epsilon; activations other than relu; no target has the start twice. Dropout on attention's weights
too, as in tensor2tensor 2. Documents of one source do not see each other; the decoder sees them.

B batch  L source length  T target length  D width  H heads  M memory  K head width  V vocabulary
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from zoo.layers import attention, sharding
from zoo.layers.attention import Attention
from zoo.layers.blocks import PostNormBlock
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import Embedding, Scores
from zoo.layers.feed_forward import gelu
from zoo.layers.norm import Norm


@dataclass(frozen=True)
class Config:
    """The sizes of a Transformer; the defaults are the base model."""

    vocab_size: int = 37000
    max_length: int = 512  # what it was trained at: no table of positions limits it
    num_layers: int = 6
    num_heads: int = 8
    width: int = 512
    mlp_width: int = 2048
    head_width: int = 64
    dropout: float = 0.1
    num_decoder_layers: int = 6
    start: int = 0  # the token that begins every target, and is in none
    activation: str = "relu"
    end: int = 1  # the token that ends every target
    epsilon: float = 1e-5


SIZES = {
    "transformer-tiny": Config(
        vocab_size=256,
        max_length=128,
        num_layers=2,
        num_heads=4,
        width=128,
        mlp_width=512,
        head_width=32,
        dropout=0.0,
        num_decoder_layers=2,
    ),  # 958,720
    "transformer-small": Config(
        vocab_size=4096,
        max_length=128,
        num_layers=2,
        num_heads=4,
        width=256,
        mlp_width=832,
        dropout=0.0,
        num_decoder_layers=2,
    ),  # 4,345,088
    "transformer-base": Config(),  # 63,119,496
    "transformer-big": Config(num_heads=16, width=1024, mlp_width=4096, dropout=0.3),  # 214,282,376
}

EPSILON = 1e-5
ACTIVATIONS = {"relu": nn.relu, "swish": nn.silu, "silu": nn.silu, "gelu": gelu}


class Cache(NamedTuple):
    """What later tokens need: keys and values [B, H, M, K] of each layer, how many were read."""

    targets: tuple[tuple[jax.Array, jax.Array], ...]
    sources: tuple[tuple[jax.Array, jax.Array], ...]
    mask_B11L: jax.Array
    length: jax.Array


def sinusoids(length: int, width: int):
    """The waves of each place, sines, then cosines (section 3.5): table_LD."""
    # In doubles: a float32 angle at a place some thousand is off by 1e-4.
    angles = np.arange(length)[:, None] / 10000.0 ** (np.arange(0, width, 2) / width)
    return jnp.asarray(np.concatenate([np.sin(angles), np.cos(angles)], -1), jnp.float32)


def xavier(key, shape, dtype=jnp.float32):
    """The draw of Glorot and Bengio (2010), for a map whose heads together are one axis."""
    size, width = np.prod(shape), max(shape)
    return nn.initializers.xavier_uniform()(key, (width, size // width), dtype).reshape(shape)


class DecoderBlock(PostNormBlock):
    """Attend, look at a source, feed forward: each time add and normalise."""

    def setup(self):
        heads = (self.num_heads, self.head_width, self.width, self.dropout)
        self.source_attention = Attention(*heads, self.kernel_init, self.kernel_init)
        self.source_dropout = Dropout(self.dropout)
        self.source_attention_norm = Norm(self.epsilon)
        super().setup()

    def remember(self, source_BLD):
        """What there is to look at in the source: its keys and values."""
        return self.source_attention.remember(source_BLD)

    def __call__(self, x_BTD, source, mask, source_mask, *, train: bool = False):
        target = self.attention.remember(x_BTD)
        return self._look(x_BTD, target, source, mask, source_mask, train=train)

    def extend(self, x_B1D, target, at, source, mask, source_mask):
        """The same for one token behind a memory: x_B1D, and the memory with it at `at`."""
        join = lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new, at, 2)
        target = jax.tree.map(join, target, self.attention.remember(x_B1D))
        return self._look(x_B1D, target, source, mask, source_mask), target

    def _look(self, x_BTD, target, source, mask, source_mask, *, train: bool = False):
        found_BTD = self.attention.look(x_BTD, *target, mask, train=train)
        x_BTD = self.attention_norm(x_BTD + self.attention_dropout(found_BTD, train=train))
        found_BTD = self.source_attention.look(x_BTD, *source, source_mask, train=train)
        x_BTD = self.source_attention_norm(x_BTD + self.source_dropout(found_BTD, train=train))
        return self.mlp_norm(x_BTD + self.mlp_dropout(self.mlp(x_BTD), train=train))


class Transformer(nn.Module):
    """The trunk: tokens_BL of the source, targets_BT shifted right -> x_BTD.

    `documents_BL` is of the source: 0 for padding, else the number of the document, from 1.
    """

    config: Config

    def setup(self):
        c, normal = self.config, nn.initializers.normal
        sizes = (c.num_heads, c.head_width, c.width, c.mlp_width)
        block = (*sizes, c.dropout, ACTIVATIONS[c.activation], EPSILON, xavier)
        self.token_embedding = Embedding(c.vocab_size, c.width, normal(c.width**-0.5))
        self.embedding_dropout = Dropout(c.dropout)
        self.encoder = [PostNormBlock(*block) for _ in range(c.num_layers)]
        self.decoder = [DecoderBlock(*block) for _ in range(c.num_decoder_layers)]

    def encode(self, tokens_BL, documents_BL=None, *, train: bool = False):
        """Reads a source: x_BLD."""
        waves, mask = sinusoids(tokens_BL.shape[1], self.config.width), None
        if documents_BL is not None:
            waves = waves[attention.positions(documents_BL)]
            mask = attention.same_document(documents_BL)
        x_BLD = self._embed(tokens_BL, waves, train=train)
        for block in self.encoder:
            x_BLD = block(x_BLD, mask, train=train)
        return x_BLD

    def __call__(self, tokens_BL, targets_BT, documents_BL=None, *, train: bool = False):
        source_BLD = self.encode(tokens_BL, documents_BL, train=train)
        source_mask = None if documents_BL is None else (documents_BL > 0)[:, None, None]
        T = targets_BT.shape[1]
        x_BTD = self._embed(targets_BT, sinusoids(T, self.config.width), train=train)
        for block in self.decoder:
            source = block.remember(source_BLD)
            x_BTD = block(x_BTD, source, attention.causal(T), source_mask, train=train)
        return x_BTD

    def start(self, tokens_BL, documents_BL, room: int):
        """Reads a source for targets of up to `room` tokens: Cache."""
        c, source_BLD = self.config, self.encode(tokens_BL, documents_BL)
        shape = (len(tokens_BL), c.num_heads, room, c.head_width)
        empty = (jnp.zeros(shape, self.token_embedding.embedding.dtype),) * 2
        sources = tuple(block.remember(source_BLD) for block in self.decoder)
        mask_B11L = (documents_BL > 0)[:, None, None]
        return Cache((empty,) * len(sources), sources, mask_B11L, jnp.int32(0))

    def extend(self, token_B, cache: Cache):
        """Reads one token more of the target: x_B1D, and the new cache."""
        at, M = cache.length, cache.targets[0][0].shape[2]
        x_B1D = self._embed(token_B[:, None], sinusoids(M, self.config.width)[at])
        targets, mask_M = [], jnp.arange(M) <= at
        for block, target, source in zip(self.decoder, cache.targets, cache.sources, strict=True):
            x_B1D, target = block.extend(x_B1D, target, at, source, mask_M, cache.mask_B11L)
            targets.append(target)
        return x_B1D, cache._replace(targets=tuple(targets), length=at + 1)

    def _embed(self, tokens_BL, waves, *, train: bool = False):
        x_BLD = self.token_embedding(tokens_BL) * self.config.width**0.5 + waves
        return self.embedding_dropout(x_BLD, train=train)


class TransformerLM(nn.Module):
    """The trunk and its language-model head, the token table again and a bias."""

    config: Config

    def setup(self):
        self.trunk = Transformer(self.config)
        self.bias = self.param("bias", nn.initializers.zeros, (1, self.config.vocab_size))

    @property
    def start_token(self) -> int:
        """The token that begins every target."""
        return self.config.start

    def encode(self, tokens_BL, documents_BL=None, *, train: bool = False):
        """The states of a source: x_BLD."""
        return self.trunk.encode(tokens_BL, documents_BL, train=train)

    def scores(self, tokens_BL, targets_BT, documents_BL=None, *, train: bool = False):
        """What each position believes of the next token, before the product with the vocabulary."""
        return self._scores(self.trunk(tokens_BL, targets_BT, documents_BL, train=train))

    def __call__(self, tokens_BL, targets_BT=None, documents_BL=None, *, train: bool = False):
        """logits_BTV of the next token; without targets, of the first alone."""
        if targets_BT is None:
            targets_BT = jnp.full((len(tokens_BL), 1), self.config.start)
        return self.scores(tokens_BL, targets_BT, documents_BL, train=train).logits()

    def start(self, tokens_BL, documents_BL, room: int):
        """Reads a source: logits_BV of the first token, and a cache with room for more."""
        cache = self.trunk.start(tokens_BL, documents_BL, 1 + room)
        return self.step(jnp.full(len(tokens_BL), self.config.start), cache)

    def step(self, token_B, cache: Cache):
        """Reads one token more of the target: logits_BV after it, and the cache with it."""
        x_B1D, cache = self.trunk.extend(token_B, cache)
        logits_BV = self._scores(x_B1D).logits()[:, 0]
        # No target has the start, yet published folders score it 0, likelier than many a word.
        return logits_BV.at[:, self.config.start].set(-1e30), cache

    def _scores(self, x_BTD):
        return Scores(x_BTD, self.trunk.token_embedding.embedding, self.bias[0])


Model = TransformerLM
MODELS = (TransformerLM,)
TASKS = {"text-to-text": TransformerLM}
GROUPS = ("trunk/token_embedding", r"trunk/encoder_(\d+)/", r"trunk/decoder_(\d+)/", "")
AXES = sharding.AXES
