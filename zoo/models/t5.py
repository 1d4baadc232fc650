"""T5 (Raffel et al. 2019), "Exploring the Limits of Transfer Learning".

https://arxiv.org/abs/1910.10683
A Transformer, encoder and decoder, for which every task is to write a text for a text. New against
the Transformer: distance moves the scores, by one table for all blocks of a side, and there are no
positions; norms only scale and stand in front of each sub-layer, one more at the end of each side;
no biases; attention is not scaled, but the output is.

Departures: dropout is drawn for every position, as in transformers; the released code draws it once
for all positions of a text. Weights are drawn as there, but the table of distances as in
transformers. Several documents in one source do not see each other; the decoder sees them all.

B batch  L length of the source  T length of the target  D width  F feed-forward width  H heads
M memory  K head width  V vocabulary
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers import attention, sharding
from zoo.layers.attention import Mix
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import Embedding, Scores
from zoo.layers.linear import Kernel, affine, into_heads, out_of_heads, product
from zoo.layers.norm import RMSNorm
from zoo.layers.relative_bias import DistanceBias, either_side, the_past


@dataclass(frozen=True)
class Config:
    """The sizes of a T5; the defaults are the base model.

    `max_length` is what it was trained at: no table of positions limits the length.
    """

    vocab_size: int = 32128
    max_length: int = 512
    num_layers: int = 12
    num_heads: int = 12
    width: int = 768
    mlp_width: int = 3072
    head_width: int = 64
    dropout: float = 0.1
    num_decoder_layers: int = 12
    num_buckets: int = 32
    max_distance: int = 128
    activation: str = "relu"
    epsilon: float = 1e-6


SIZES = {
    "t5-tiny": Config(
        vocab_size=4224,
        max_length=128,
        num_layers=4,
        num_heads=4,
        width=256,
        mlp_width=1024,
        dropout=0.0,
        num_decoder_layers=4,
    ),  # 8,427,264
    "t5-small": Config(
        num_layers=6, num_heads=8, width=512, mlp_width=2048, num_decoder_layers=6
    ),  # 60,506,624
    "t5-base": Config(),  # 222,903,552
    "t5-large": Config(
        num_layers=24, num_heads=16, width=1024, mlp_width=4096, num_decoder_layers=24
    ),  # 737,668,096
    "t5-3b": Config(
        num_layers=24,
        num_heads=32,
        width=1024,
        mlp_width=16384,
        head_width=128,
        num_decoder_layers=24,
    ),  # 2,851,598,336
    "t5-11b": Config(
        num_layers=24,
        num_heads=128,
        width=1024,
        mlp_width=65536,
        head_width=128,
        num_decoder_layers=24,
    ),  # 11,307,321,344
}

EPSILON = 1e-6
START = 0  # the padding token begins every target


class Cache(NamedTuple):
    """What a target's later tokens need of the source and of its earlier ones.

    Keys and values of each layer are [B, H, M, K]. `length` is the number of target tokens read,
    the same for every row.
    """

    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]
    sources: tuple[tuple[jax.Array, jax.Array], ...]
    mask_B11L: jax.Array
    length: jax.Array


class UnscaledAttention(nn.Module):
    """Attention without a scale, which the draw of the query kernel makes up for."""

    num_heads: int
    head_width: int
    width: int
    dropout: float

    def setup(self):
        D, H, K, normal = self.width, self.num_heads, self.head_width, nn.initializers.normal
        self.query = Kernel((D, H, K), normal((D * K) ** -0.5))
        self.key = Kernel((D, H, K), normal(D**-0.5))
        self.value = Kernel((D, H, K), normal(D**-0.5))
        self.mix = Mix(self.dropout)
        self.output = Kernel((H, K, D), normal((H * K) ** -0.5))

    def remember(self, memory_BMD):
        """What there is to look at: k_BHMK, v_BHMK."""
        return into_heads(memory_BMD, self.key()), into_heads(memory_BMD, self.value())

    def look(self, x_BLD, k_BHMK, v_BHMK, bias_HLM, mask, *, train: bool = False):
        """What x finds there: x_BLD. The bias may be 0; the mask broadcasts to [B, H, L, M]."""
        q_BHLK = into_heads(x_BLD, self.query())
        score_BHLM = product("BHLK,BHMK->BHLM", q_BHLK, k_BHMK) + bias_HLM
        return out_of_heads(self.mix(score_BHLM, v_BHMK, mask, train=train), self.output())


class EncoderBlock(nn.Module):
    """Normalise, attend, add; normalise, feed forward, add.

    `feed_forward` makes the part of that name from the numbers mlp_width, width and dropout.
    """

    num_heads: int
    head_width: int
    width: int
    mlp_width: int
    dropout: float
    epsilon: float
    feed_forward: Callable

    def setup(self):
        attention = (self.num_heads, self.head_width, self.width, self.dropout)
        self.attention_norm = RMSNorm(self.epsilon)
        self.attention = UnscaledAttention(*attention)
        self.attention_dropout = Dropout(self.dropout)
        self.mlp_norm = RMSNorm(self.epsilon)
        self.mlp = self.feed_forward(self.mlp_width, self.width, self.dropout)
        self.mlp_dropout = Dropout(self.dropout)

    def __call__(self, x_BLD, bias_HLL, mask, *, train: bool = False):
        normed_BLD = self.attention_norm(x_BLD)
        remembered = self.attention.remember(normed_BLD)
        attended_BLD = self.attention.look(normed_BLD, *remembered, bias_HLL, mask, train=train)
        x_BLD = x_BLD + self.attention_dropout(attended_BLD, train=train)
        return x_BLD + self.mlp_dropout(self.mlp(self.mlp_norm(x_BLD), train=train), train=train)


class DecoderBlock(nn.Module):
    """The same, and a look at a source between the two."""

    num_heads: int
    head_width: int
    width: int
    mlp_width: int
    dropout: float
    epsilon: float
    feed_forward: Callable

    def setup(self):
        attention = (self.num_heads, self.head_width, self.width, self.dropout)
        self.attention_norm = RMSNorm(self.epsilon)
        self.attention = UnscaledAttention(*attention)
        self.attention_dropout = Dropout(self.dropout)
        self.source_norm = RMSNorm(self.epsilon)
        self.source_attention = UnscaledAttention(*attention)
        self.source_dropout = Dropout(self.dropout)
        self.mlp_norm = RMSNorm(self.epsilon)
        self.mlp = self.feed_forward(self.mlp_width, self.width, self.dropout)
        self.mlp_dropout = Dropout(self.dropout)

    def remember(self, source_BLD):
        """What there is to look at in the source: its keys and values."""
        return self.source_attention.remember(source_BLD)

    def __call__(self, x_BTD, source, bias_HTT, mask, source_mask, *, train: bool = False):
        normed_BTD = self.attention_norm(x_BTD)
        remembered = self.attention.remember(normed_BTD)
        attended_BTD = self.attention.look(normed_BTD, *remembered, bias_HTT, mask, train=train)
        return self._after(x_BTD, attended_BTD, source, source_mask, train=train)

    def extend(self, x_B1D, k_BHMK, v_BHMK, at, source, bias_H1M, mask, source_mask):
        """The same for one token behind a memory: x_B1D, and the memory with it at `at`."""
        normed_B1D = self.attention_norm(x_B1D)
        k_BH1K, v_BH1K = self.attention.remember(normed_B1D)
        k_BHMK = jax.lax.dynamic_update_slice_in_dim(k_BHMK, k_BH1K, at, 2)
        v_BHMK = jax.lax.dynamic_update_slice_in_dim(v_BHMK, v_BH1K, at, 2)
        attended_B1D = self.attention.look(normed_B1D, k_BHMK, v_BHMK, bias_H1M, mask)
        return self._after(x_B1D, attended_B1D, source, source_mask, train=False), k_BHMK, v_BHMK

    def _after(self, x_BTD, attended_BTD, source, source_mask, *, train: bool):
        x_BTD = x_BTD + self.attention_dropout(attended_BTD, train=train)
        normed_BTD = self.source_norm(x_BTD)
        found_BTD = self.source_attention.look(normed_BTD, *source, 0.0, source_mask, train=train)
        x_BTD = x_BTD + self.source_dropout(found_BTD, train=train)
        return x_BTD + self.mlp_dropout(self.mlp(self.mlp_norm(x_BTD), train=train), train=train)


class FeedForward(nn.Module):
    """Two maps, a relu and dropout between them: x_BLD -> x_BLD."""

    mlp_width: int
    width: int
    dropout: float

    def setup(self):
        D, F, normal = self.width, self.mlp_width, nn.initializers.normal
        self.up = Kernel((D, F), normal(D**-0.5))
        self.inner_dropout = Dropout(self.dropout)
        self.down = Kernel((F, D), normal(F**-0.5))

    def __call__(self, x_BLD, *, train: bool = False):
        x_BLF = nn.relu(affine(x_BLD, self.up()))
        return affine(self.inner_dropout(x_BLF, train=train), self.down())


class T5(nn.Module):
    """The trunk: tokens_BL of the source, targets_BT shifted right -> x_BTD.

    `documents_BL` is of the source: 0 for padding, else the number of the document, from 1.
    """

    config: Config
    feed_forward: Callable

    def setup(self):
        c, normal = self.config, nn.initializers.normal
        bias = (c.num_heads, c.num_buckets, c.max_distance, normal(c.width**-0.5))
        sizes = (c.num_heads, c.head_width, c.width, c.mlp_width)
        block = (*sizes, c.dropout, EPSILON, self.feed_forward)
        self.token_embedding = Embedding(c.vocab_size, c.width, normal(1.0))
        self.embedding_dropout = Dropout(c.dropout)
        self.encoder_bias = DistanceBias(*bias, either_side)
        self.encoder = [EncoderBlock(*block) for _ in range(c.num_layers)]
        self.encoder_norm = RMSNorm(EPSILON)
        self.encoder_dropout = Dropout(c.dropout)
        self.decoder_bias = DistanceBias(*bias, the_past)
        self.decoder = [DecoderBlock(*block) for _ in range(c.num_decoder_layers)]
        self.decoder_norm = RMSNorm(EPSILON)
        self.decoder_dropout = Dropout(c.dropout)

    def encode(self, tokens_BL, documents_BL=None, *, train: bool = False):
        """Reads a source: x_BLD."""
        places_L = jnp.arange(tokens_BL.shape[1])
        bias_HLL = self.encoder_bias(places_L, places_L)
        mask = None if documents_BL is None else attention.same_document(documents_BL)
        x_BLD = self.embedding_dropout(self.token_embedding(tokens_BL), train=train)
        for block in self.encoder:
            x_BLD = block(x_BLD, bias_HLL, mask, train=train)
        return self.encoder_dropout(self.encoder_norm(x_BLD), train=train)

    def __call__(self, tokens_BL, targets_BT, documents_BL=None, *, train: bool = False):
        source_BLD = self.encode(tokens_BL, documents_BL, train=train)
        source_mask = None if documents_BL is None else (documents_BL > 0)[:, None, None]
        places_T = jnp.arange(targets_BT.shape[1])
        bias_HTT, mask = self.decoder_bias(places_T, places_T), attention.causal(len(places_T))
        x_BTD = self.embedding_dropout(self.token_embedding(targets_BT), train=train)
        for block in self.decoder:
            source = block.remember(source_BLD)
            x_BTD = block(x_BTD, source, bias_HTT, mask, source_mask, train=train)
        return self.decoder_dropout(self.decoder_norm(x_BTD), train=train)

    def start(self, tokens_BL, documents_BL, room: int):
        """Reads a source for targets of up to `room` tokens: Cache."""
        c, B = self.config, len(tokens_BL)
        source_BLD = self.encode(tokens_BL, documents_BL)
        sources = tuple(block.remember(source_BLD) for block in self.decoder)
        dtype = self.token_embedding.embedding.dtype
        empty = (jnp.zeros((B, c.num_heads, room, c.head_width), dtype),) * c.num_decoder_layers
        return Cache(empty, empty, sources, (documents_BL > 0)[:, None, None], jnp.int32(0))

    def extend(self, token_B, cache: Cache):
        """Reads one token more of the target: x_B1D, and the new cache."""
        at, places_M = cache.length, jnp.arange(cache.keys[0].shape[2])
        bias_H1M, mask = self.decoder_bias(at[None], places_M), places_M <= at
        x_B1D = self.token_embedding(token_B[:, None])
        keys, values = [], []
        for block, k_BHMK, v_BHMK, source in zip(
            self.decoder, cache.keys, cache.values, cache.sources, strict=True
        ):
            x_B1D, k_BHMK, v_BHMK = block.extend(
                x_B1D, k_BHMK, v_BHMK, at, source, bias_H1M, mask, cache.mask_B11L
            )
            keys.append(k_BHMK)
            values.append(v_BHMK)
        cache = cache._replace(keys=tuple(keys), values=tuple(values), length=at + 1)
        return self.decoder_norm(x_B1D), cache


class T5LM(nn.Module):
    """The trunk and its language-model head, the token table again, on states scaled down."""

    config: Config

    def setup(self):
        self.trunk = T5(self.config, FeedForward)

    @property
    def start_token(self) -> int:
        """The token that begins every target."""
        return START

    def encode(self, tokens_BL, documents_BL=None, *, train: bool = False):
        """The states of a source: x_BLD."""
        return self.trunk.encode(tokens_BL, documents_BL, train=train)

    def scores(self, tokens_BL, targets_BT, documents_BL=None, *, train: bool = False):
        """What each position believes of the next token, before the product with the vocabulary."""
        return self._scores(self.trunk(tokens_BL, targets_BT, documents_BL, train=train))

    def __call__(self, tokens_BL, targets_BT=None, documents_BL=None, *, train: bool = False):
        """logits_BTV of the next token; without targets, of the first alone."""
        if targets_BT is None:
            targets_BT = jnp.full((len(tokens_BL), 1), START)
        return self.scores(tokens_BL, targets_BT, documents_BL, train=train).logits()

    def start(self, tokens_BL, documents_BL, room: int):
        """Reads a source: logits_BV of the first token, and a cache with room for more."""
        cache = self.trunk.start(tokens_BL, documents_BL, 1 + room)
        return self.step(jnp.full(len(tokens_BL), START), cache)

    def step(self, token_B, cache: Cache):
        """Reads one token more of the target: logits_BV after it, and the cache with it."""
        x_B1D, cache = self.trunk.extend(token_B, cache)
        return self._scores(x_B1D).logits()[:, 0], cache

    def _scores(self, x_BTD):
        return Scores(x_BTD * x_BTD.shape[-1] ** -0.5, self.trunk.token_embedding.embedding, 0.0)


Model = T5LM
MODELS = (T5LM,)
TASKS = {"text-to-text": T5LM}
GROUPS = ("embedding|_bias", r"trunk/encoder_(\d+)/", "encoder_norm", r"trunk/decoder_(\d+)/", "")
AXES = sharding.AXES
