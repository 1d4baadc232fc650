"""T5 (Raffel et al. 2019), "Exploring the Limits of Transfer Learning".

https://arxiv.org/abs/1910.10683
An encoder-decoder Transformer that treats every task as text to text. New compared with the
Transformer: instead of positions, a relative position bias is added to the attention scores, from
one table shared by all blocks of a side; norms have a scale only and come before each sub-layer,
with a final norm on each side; no biases; attention is not scaled, but the output is.

Departures: dropout is drawn for every position, as in transformers; the released code draws it once
for all positions of a text. Weights are initialized as in the released code, except the relative
position bias, which follows transformers. Documents packed into one source do not attend to each
other; the decoder attends to all of them, unless the targets are packed too.

B batch  L length of the source  T length of the target  D width  F feed-forward width  H heads
M memory  K head width  V vocabulary
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers import heads, sharding
from zoo.layers.attention import KeysValues, WeightedSum, append, attend
from zoo.layers.blocks import extend_blocks, run_blocks
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import OUTPUT_TABLES, Embedding, UnprojectedLogits
from zoo.layers.feed_forward import ACTIVATIONS, Activation
from zoo.layers.linear import Linear, LinearHeadsIn, LinearHeadsOut
from zoo.layers.mask import Mask
from zoo.layers.norm import RMSNorm
from zoo.layers.relative_bias import DistanceBias, either_side, the_past


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config of a T5; the defaults are the base model.

    `max_length` is the length in training; there is no position table, so longer inputs work.
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
    output_table: str = "tied"  # of the vocabulary head; a name in OUTPUT_TABLES
    head_exponent: float = -0.5  # the input of the head is multiplied by width to this power


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

START = 0  # the padding token begins every target
# Builds a feed-forward layer from mlp_width, width, dropout and activation; T5 1.1 has a gated one.
MakeFeedForward = Callable[[int, int, float, Activation], nn.Module]


class Cache(NamedTuple):
    """The keys and values of each block for decoding, [B, H, M, K].

    `blocks` holds those of the target, `sources` those of the source, whose padding has document id
    0. `length` is the number of target tokens processed, the same for every row.
    """

    blocks: tuple[KeysValues, ...]
    sources: tuple[KeysValues, ...]
    source_document_ids_BL: jax.Array
    length: jax.Array


class UnscaledAttention(nn.Module):
    """Multi-head attention without scaling; the query kernel is initialized smaller instead."""

    num_heads: int
    head_width: int
    width: int
    dropout: float

    def setup(self):
        D, H, K, normal = self.width, self.num_heads, self.head_width, nn.initializers.normal
        self.query = LinearHeadsIn(H, K, normal((D * K) ** -0.5))
        self.key = LinearHeadsIn(H, K, normal(D**-0.5))
        self.value = LinearHeadsIn(H, K, normal(D**-0.5))
        self.mix = WeightedSum(self.dropout)
        self.output = LinearHeadsOut(D, normal((H * K) ** -0.5))

    def project_keys_values(self, memory_BMD: jax.Array) -> KeysValues:
        """Return the keys and values of a memory: k_BHMK, v_BHMK."""
        return self.key(memory_BMD), self.value(memory_BMD)

    def attend(
        self,
        x_BLD: jax.Array,
        keys_values: KeysValues,
        mask: Mask,
        bias_HLM: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Return the attention output for x: x_BLD."""
        q_BHLK = self.query(x_BLD)
        x_BHLK = attend(
            self.mix, q_BHLK, keys_values, mask, scale=1.0, bias_HLM=bias_HLM, train=train
        )
        return self.output(x_BHLK)


class EncoderBlock(nn.Module):
    """A pre-norm block: normalize, attend, add; normalize, feed forward, add.

    `feed_forward` builds the feed-forward layer.
    """

    num_heads: int
    head_width: int
    width: int
    mlp_width: int
    dropout: float
    activation: Activation
    epsilon: float
    feed_forward: MakeFeedForward

    def setup(self):
        attention = (self.num_heads, self.head_width, self.width, self.dropout)
        self.attention_norm = RMSNorm(self.epsilon)
        self.attention = UnscaledAttention(*attention)
        self.attention_dropout = Dropout(self.dropout)
        self.mlp_norm = RMSNorm(self.epsilon)
        self.mlp = self.feed_forward(self.mlp_width, self.width, self.dropout, self.activation)
        self.mlp_dropout = Dropout(self.dropout)

    def __call__(
        self, x_BLD: jax.Array, mask: Mask, bias_HLL: jax.Array, *, train: bool = False
    ) -> jax.Array:
        normed_BLD = self.attention_norm(x_BLD)
        keys_values = self.attention.project_keys_values(normed_BLD)
        attended_BLD = self.attention.attend(normed_BLD, keys_values, mask, bias_HLL, train=train)
        x_BLD = x_BLD + self.attention_dropout(attended_BLD, train=train)
        return x_BLD + self.mlp_dropout(self.mlp(self.mlp_norm(x_BLD), train=train), train=train)


class DecoderBlock(nn.Module):
    """A pre-norm block with attention to a source between its two sub-layers."""

    num_heads: int
    head_width: int
    width: int
    mlp_width: int
    dropout: float
    activation: Activation
    epsilon: float
    feed_forward: MakeFeedForward

    def setup(self):
        attention = (self.num_heads, self.head_width, self.width, self.dropout)
        self.attention_norm = RMSNorm(self.epsilon)
        self.attention = UnscaledAttention(*attention)
        self.attention_dropout = Dropout(self.dropout)
        self.source_norm = RMSNorm(self.epsilon)
        self.source_attention = UnscaledAttention(*attention)
        self.source_dropout = Dropout(self.dropout)
        self.mlp_norm = RMSNorm(self.epsilon)
        self.mlp = self.feed_forward(self.mlp_width, self.width, self.dropout, self.activation)
        self.mlp_dropout = Dropout(self.dropout)

    def project_source(self, source_BLD: jax.Array) -> KeysValues:
        """Return the keys and values of a source."""
        return self.source_attention.project_keys_values(source_BLD)

    def __call__(
        self,
        x_BTD: jax.Array,
        source_BLD: jax.Array,
        mask: Mask,
        source_mask: Mask,
        bias_HTT: jax.Array,
        *,
        train: bool = False,
    ) -> jax.Array:
        normed_BTD = self.attention_norm(x_BTD)
        target = self.attention.project_keys_values(normed_BTD)
        attended_BTD = self.attention.attend(normed_BTD, target, mask, bias_HTT, train=train)
        source = self.project_source(source_BLD)
        return self._attend_source(x_BTD, attended_BTD, source, source_mask, train=train)

    def extend(
        self,
        x_BTD: jax.Array,
        cached: KeysValues,
        source: KeysValues,
        mask: Mask,
        source_mask: Mask,
        bias_HTM: jax.Array,
    ) -> tuple[jax.Array, KeysValues]:
        """Return x_BTD for tokens after a cache, and the cache extended at the mask's offset."""
        normed_BTD = self.attention_norm(x_BTD)
        new = self.attention.project_keys_values(normed_BTD)
        cached = append(cached, new, mask.query_offset)
        attended_BTD = self.attention.attend(normed_BTD, cached, mask, bias_HTM)
        return self._attend_source(x_BTD, attended_BTD, source, source_mask), cached

    def _attend_source(self, x_BTD, attended_BTD, source, source_mask, *, train: bool = False):
        x_BTD = x_BTD + self.attention_dropout(attended_BTD, train=train)
        normed_BTD = self.source_norm(x_BTD)
        attended_BTD = self.source_attention.attend(normed_BTD, source, source_mask, train=train)
        x_BTD = x_BTD + self.source_dropout(attended_BTD, train=train)
        return x_BTD + self.mlp_dropout(self.mlp(self.mlp_norm(x_BTD), train=train), train=train)


class FeedForward(nn.Module):
    """Two bias-free layers with an activation and dropout in between: x_BLD -> x_BLD."""

    mlp_width: int
    width: int
    dropout: float
    activation: Activation

    def setup(self):
        D, F, normal = self.width, self.mlp_width, nn.initializers.normal
        self.up = Linear(F, normal(D**-0.5))
        self.inner_dropout = Dropout(self.dropout)
        self.down = Linear(D, normal(F**-0.5))

    def __call__(self, x_BLD: jax.Array, *, train: bool = False) -> jax.Array:
        x_BLF = self.activation(self.up(x_BLD).astype(jnp.float32))
        return self.down(self.inner_dropout(x_BLF, train=train))


class T5(nn.Module):
    """The trunk, without a head: source tokens_BL, targets_BT shifted right -> x_BTD.

    `document_ids_BL` numbers the document of each source token from 1; 0 is padding. So does
    `target_document_ids_BT` for packed targets, which attend to their own document alone.
    """

    config: Config
    feed_forward: MakeFeedForward

    def setup(self):
        c, normal = self.config, nn.initializers.normal
        bias = (c.num_heads, c.num_buckets, c.max_distance, normal(c.width**-0.5))
        sizes = (c.num_heads, c.head_width, c.width, c.mlp_width)
        block = (*sizes, c.dropout, ACTIVATIONS[c.activation], c.epsilon, self.feed_forward)
        self.token_embedding = Embedding(c.vocab_size, c.width, normal(1.0))
        self.embedding_dropout = Dropout(c.dropout)
        self.encoder_bias = DistanceBias(*bias, either_side)
        self.encoder = [EncoderBlock(*block) for _ in range(c.num_layers)]
        self.encoder_norm = RMSNorm(c.epsilon)
        self.encoder_dropout = Dropout(c.dropout)
        self.decoder_bias = DistanceBias(*bias, the_past)
        self.decoder = [DecoderBlock(*block) for _ in range(c.num_decoder_layers)]
        self.decoder_norm = RMSNorm(c.epsilon)
        self.decoder_dropout = Dropout(c.dropout)

    def encode(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """Encode a source: x_BLD."""
        positions_L = jnp.arange(tokens_BL.shape[1])
        inputs = Mask.bidirectional(document_ids_BL), self.encoder_bias(positions_L, positions_L)
        x_BLD = self.embedding_dropout(self.token_embedding(tokens_BL), train=train)
        x_BLD = run_blocks(
            self, self.encoder, x_BLD, *inputs, name="encoder_hidden_states", train=train
        )[-1]
        return self.encoder_dropout(self.encoder_norm(x_BLD), train=train)

    def read(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None,
        document_ids_BL: jax.Array | None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Return the encoder's x_BLD; segments are ignored."""
        return self.encode(tokens_BL, document_ids_BL, train=train)

    def __call__(
        self,
        tokens_BL: jax.Array,
        targets_BT: jax.Array,
        document_ids_BL: jax.Array | None = None,
        target_document_ids_BT: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        source_BLD = self.encode(tokens_BL, document_ids_BL, train=train)
        positions_T = jnp.arange(targets_BT.shape[1])
        source_mask = Mask(target_document_ids_BT, document_ids_BL)
        masks = Mask.causal(target_document_ids_BT), source_mask
        inputs = source_BLD, *masks, self.decoder_bias(positions_T, positions_T)
        x_BTD = self.embedding_dropout(self.token_embedding(targets_BT), train=train)
        x_BTD = run_blocks(
            self, self.decoder, x_BTD, *inputs, name="decoder_hidden_states", train=train
        )[-1]
        return self.decoder_dropout(self.decoder_norm(x_BTD), train=train)

    def start(self, tokens_BL: jax.Array, document_ids_BL: jax.Array, max_new_tokens: int) -> Cache:
        """Encode a source: a cache for targets of up to `max_new_tokens` tokens."""
        c, B = self.config, len(tokens_BL)
        source_BLD = self.encode(tokens_BL, document_ids_BL)
        sources = tuple(block.project_source(source_BLD) for block in self.decoder)
        shape = (B, c.num_heads, max_new_tokens, c.head_width)
        empty = (jnp.zeros(shape, self.token_embedding.embedding.dtype),) * 2
        return Cache((empty,) * len(sources), sources, document_ids_BL, jnp.int32(0))

    def extend(self, token_B: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Process one more target token: x_B1D and the new cache."""
        at, positions_M = cache.length, jnp.arange(cache.blocks[0][0].shape[2])
        masks = Mask.cached(at), Mask.source(cache.source_document_ids_BL)
        inputs = *masks, self.decoder_bias(at[None], positions_M)
        x_B1D, blocks = extend_blocks(
            self.decoder,
            self.token_embedding(token_B[:, None]),
            cache.blocks,
            *inputs,
            per_block=cache.sources,
        )
        return self.decoder_norm(x_B1D), cache._replace(blocks=blocks, length=at + 1)


class T5Encoder(heads.Trunk):
    """The encoder alone: x_BLD."""

    config: Any  # a Config, which has no labels for a head

    def setup(self):
        self.trunk = T5(self.config, FeedForward)


class T5LM(nn.Module):
    """The trunk with a language-model head: the token embedding again, on scaled hidden states.

    `output_table` and `head_exponent` of the config are for folders in which it is not.
    """

    config: Config

    def setup(self):
        c = self.config
        self.trunk = T5(c, FeedForward)
        init = nn.initializers.normal(1.0)
        self.head = OUTPUT_TABLES[c.output_table](c.vocab_size, c.width, init)

    @property
    def start_token(self) -> int:
        """The token that begins every target."""
        return START

    def encode(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """Encode a source: x_BLD."""
        return self.trunk.encode(tokens_BL, document_ids_BL, train=train)

    def unprojected(
        self,
        tokens_BL: jax.Array,
        targets_BT: jax.Array,
        document_ids_BL: jax.Array | None = None,
        target_document_ids_BT: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> UnprojectedLogits:
        """Return next-token logits before the product with the vocabulary table."""
        documents = document_ids_BL, target_document_ids_BT
        return self._unprojected(self.trunk(tokens_BL, targets_BT, *documents, train=train))

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
            targets_BT = jnp.full((len(tokens_BL), 1), START)
        return self.unprojected(tokens_BL, targets_BT, document_ids_BL, train=train).logits()

    def start(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array, max_new_tokens: int
    ) -> tuple[jax.Array, Cache]:
        """Encode a source: logits_BV of the first target token, and a cache with room for more."""
        cache = self.trunk.start(tokens_BL, document_ids_BL, 1 + max_new_tokens)
        return self.step(jnp.full(len(tokens_BL), START), cache)

    def step(self, token_B: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Process one more target token: next-token logits_BV and the updated cache."""
        x_B1D, cache = self.trunk.extend(token_B, cache)
        return self._unprojected(x_B1D).logits()[:, 0], cache

    def _unprojected(self, x_BTD):
        scale = self.config.width**self.config.head_exponent
        table_VD = self.head(self.trunk.token_embedding.embedding)
        return UnprojectedLogits(x_BTD * scale, table_VD, 0.0)


Model = T5LM
MODELS = (T5LM, T5Encoder)
TASKS: dict[str, type[nn.Module]] = {"text-to-text": T5LM}
GROUPS = ("embedding|_bias", r"trunk/encoder_(\d+)/", "encoder_norm", r"trunk/decoder_(\d+)/", "")
AXES = sharding.AXES
