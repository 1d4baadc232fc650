"""The Transformer (Vaswani et al. 2017), "Attention Is All You Need".

https://arxiv.org/abs/1706.03762
A bidirectional encoder, and a decoder that attends to previous tokens and to the source. New
compared with attention over a recurrent network: no recurrence, multi-head attention, sinusoidal
positional encoding, a norm after every residual sum, and one embedding table for source, target and
output.

Departures, for Marian's published weights (Junczys-Dowmunt et al. 2018): attention and the output
have biases, initialized to zero; sines come before cosines, which only permutes axes; the epsilon
of the norms; activations other than relu, embeddings that are not scaled, decoders of other sizes
and a head with a table of its own; the start token is never generated. Dropout is also applied to
attention weights, as in tensor2tensor 2. Documents packed into one source do not attend to each
other; the decoder attends to all of them.

B batch  L source length  T target length  D width  H heads  M memory  K head width  V vocabulary
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from zoo.layers import sharding
from zoo.layers.attention import Attention, KeysValues, append
from zoo.layers.blocks import PostNormBlock, extend_blocks, run_blocks
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import OUTPUT_TABLES, Embedding, UnprojectedLogits
from zoo.layers.feed_forward import ACTIVATIONS
from zoo.layers.mask import Mask, positions
from zoo.layers.norm import Norm


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config of a Transformer; the defaults are the base model."""

    vocab_size: int = 37000
    max_length: int = 512  # in training; without a position table, longer inputs work too
    num_layers: int = 6
    num_heads: int = 8
    width: int = 512
    mlp_width: int = 2048
    head_width: int = 64
    dropout: float = 0.1
    num_decoder_layers: int = 6
    start: int = 0  # the token that precedes every target, never predicted
    activation: str = "relu"
    end: int = 1  # the token that ends every target
    epsilon: float = 1e-5
    output_table: str = "tied"  # of the vocabulary head; a name in OUTPUT_TABLES
    embedding_exponent: float = 0.5  # embeddings are multiplied by width to this power
    decoder_heads: int | None = None  # None: as in the encoder
    decoder_mlp_width: int | None = None


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


class Cache(NamedTuple):
    """The keys and values of each block for decoding, [B, H, M, K].

    `blocks` holds those of the target, `sources` those of the source, whose padding has document id
    0. `length` is the number of target tokens processed, the same for every row.
    """

    blocks: tuple[KeysValues, ...]
    sources: tuple[KeysValues, ...]
    source_document_ids_BL: jax.Array
    length: jax.Array


def decoder_sizes(c: Config) -> tuple[int, int, int, int]:
    """Return the number of heads, their width, the width and the feed-forward width of decoders."""
    heads = c.num_heads if c.decoder_heads is None else c.decoder_heads
    mlp_width = c.mlp_width if c.decoder_mlp_width is None else c.decoder_mlp_width
    return heads, c.num_heads * c.head_width // heads, c.width, mlp_width


def sinusoids(length: int, width: int) -> jax.Array:
    """Return the sinusoidal positional encoding, sines, then cosines (section 3.5): table_LD."""
    # In float64: at positions in the thousands a float32 angle is off by 1e-4.
    angles = np.arange(length)[:, None] / 10000.0 ** (np.arange(0, width, 2) / width)
    return jnp.asarray(np.concatenate([np.sin(angles), np.cos(angles)], -1), jnp.float32)


def xavier(key: chex.PRNGKey, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Return Xavier-uniform weights (Glorot and Bengio 2010); all heads form one output axis."""
    size, width = np.prod(shape), max(shape)
    return nn.initializers.xavier_uniform()(key, (width, size // width), dtype).reshape(shape)


class DecoderBlock(PostNormBlock):
    """A post-norm block with attention to a source between its two sub-layers."""

    def setup(self):
        heads = (self.num_heads, self.head_width, self.width, self.dropout)
        self.source_attention = Attention(*heads, self.kernel_init, self.kernel_init)
        self.source_dropout = Dropout(self.dropout)
        self.source_attention_norm = Norm(self.epsilon)
        super().setup()

    def project_source(self, source_BLD: jax.Array) -> KeysValues:
        """Return the keys and values of a source."""
        return self.source_attention.project_keys_values(source_BLD)

    def __call__(  # type: ignore[override]  # has the source as an argument
        self,
        x_BTD: jax.Array,
        source_BLD: jax.Array,
        mask: Mask,
        source_mask: Mask,
        *,
        train: bool = False,
    ) -> jax.Array:
        source = self.project_source(source_BLD)
        target = self.attention.project_keys_values(x_BTD)
        return self._attend(x_BTD, target, source, mask, source_mask, train=train)

    def extend(  # type: ignore[override]  # likewise
        self,
        x_BTD: jax.Array,
        cached: KeysValues,
        source: KeysValues,
        mask: Mask,
        source_mask: Mask,
    ) -> tuple[jax.Array, KeysValues]:
        """Return x_BTD for tokens after a cache, and the cache extended at the mask's offset."""
        new = self.attention.project_keys_values(x_BTD)
        cached = append(cached, new, mask.query_offset)
        return self._attend(x_BTD, cached, source, mask, source_mask), cached

    def _attend(self, x_BTD, target, source, mask, source_mask, *, train: bool = False):
        attended_BTD = self.attention.attend(x_BTD, target, mask, train=train)
        x_BTD = self.attention_norm(x_BTD + self.attention_dropout(attended_BTD, train=train))
        attended_BTD = self.source_attention.attend(x_BTD, source, source_mask, train=train)
        x_BTD = self.source_attention_norm(x_BTD + self.source_dropout(attended_BTD, train=train))
        return self.mlp_norm(x_BTD + self.mlp_dropout(self.mlp(x_BTD), train=train))


class Transformer(nn.Module):
    """The trunk, without a head: source tokens_BL, targets_BT shifted right -> x_BTD.

    `document_ids_BL` numbers the document of each source token from 1; 0 is padding.
    """

    config: Config

    def setup(self):
        c, normal = self.config, nn.initializers.normal
        sizes = (c.num_heads, c.head_width, c.width, c.mlp_width)
        block = (c.dropout, ACTIVATIONS[c.activation], c.epsilon, xavier)
        self.token_embedding = Embedding(c.vocab_size, c.width, normal(c.width**-0.5))
        self.embedding_dropout = Dropout(c.dropout)
        self.encoder = [PostNormBlock(*sizes, *block) for _ in range(c.num_layers)]
        self.decoder = [
            DecoderBlock(*decoder_sizes(c), *block) for _ in range(c.num_decoder_layers)
        ]

    def encode(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """Encode a source: x_BLD."""
        encoding = sinusoids(tokens_BL.shape[1], self.config.width)
        if document_ids_BL is not None:
            encoding = encoding[positions(document_ids_BL)]
        x_BLD = self._embed(tokens_BL, encoding, train=train)
        mask, name = Mask.bidirectional(document_ids_BL), "encoder_hidden_states"
        return run_blocks(self, self.encoder, x_BLD, mask, name=name, train=train)[-1]

    def __call__(
        self,
        tokens_BL: jax.Array,
        targets_BT: jax.Array,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        source_BLD = self.encode(tokens_BL, document_ids_BL, train=train)
        encoding = sinusoids(targets_BT.shape[1], self.config.width)
        x_BTD = self._embed(targets_BT, encoding, train=train)
        inputs = source_BLD, Mask.causal(), Mask.source(document_ids_BL)
        name = "decoder_hidden_states"
        return run_blocks(self, self.decoder, x_BTD, *inputs, name=name, train=train)[-1]

    def start(self, tokens_BL: jax.Array, document_ids_BL: jax.Array, max_new_tokens: int) -> Cache:
        """Encode a source: a cache for targets of up to `max_new_tokens` tokens."""
        source_BLD = self.encode(tokens_BL, document_ids_BL)
        heads, head_width, *_ = decoder_sizes(self.config)
        shape = (len(tokens_BL), heads, max_new_tokens, head_width)
        empty = (jnp.zeros(shape, self.token_embedding.embedding.dtype),) * 2
        sources = tuple(block.project_source(source_BLD) for block in self.decoder)
        return Cache((empty,) * len(sources), sources, document_ids_BL, jnp.int32(0))

    def extend(self, token_B: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Process one more target token: x_B1D and the new cache."""
        at, M = cache.length, cache.blocks[0][0].shape[2]
        x_B1D = self._embed(token_B[:, None], sinusoids(M, self.config.width)[at])
        masks = Mask.cached(at), Mask.source(cache.source_document_ids_BL)
        x_B1D, blocks = extend_blocks(
            self.decoder, x_B1D, cache.blocks, *masks, per_block=cache.sources
        )
        return x_B1D, cache._replace(blocks=blocks, length=at + 1)

    def _embed(self, tokens_BL, encoding, *, train: bool = False):
        scale = self.config.width**self.config.embedding_exponent
        x_BLD = self.token_embedding(tokens_BL) * scale + encoding
        return self.embedding_dropout(x_BLD, train=train)


class TransformerLM(nn.Module):
    """The trunk with a language-model head: the token embedding again, and a bias."""

    config: Config

    def setup(self):
        c = self.config
        self.trunk = Transformer(c)
        init = nn.initializers.normal(c.width**-0.5)
        self.output_table = OUTPUT_TABLES[c.output_table](c.vocab_size, c.width, init)
        self.bias = self.param("bias", nn.initializers.zeros, (1, c.vocab_size))

    @property
    def start_token(self) -> int:
        """The token that begins every target."""
        return self.config.start

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
        *,
        train: bool = False,
    ) -> UnprojectedLogits:
        """Return next-token logits before the product with the vocabulary table."""
        return self._unprojected(self.trunk(tokens_BL, targets_BT, document_ids_BL, train=train))

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
        """Encode a source: logits_BV of the first target token, and a cache with room for more."""
        cache = self.trunk.start(tokens_BL, document_ids_BL, 1 + max_new_tokens)
        return self.step(jnp.full(len(tokens_BL), self.config.start), cache)

    def step(self, token_B: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Process one more target token: next-token logits_BV and the updated cache."""
        x_B1D, cache = self.trunk.extend(token_B, cache)
        logits_BV = self._unprojected(x_B1D).logits()[:, 0]
        # No target contains the start token, but published weights give it a logit of 0, above many
        # words.
        return logits_BV.at[:, self.config.start].set(-1e30), cache

    def _unprojected(self, x_BTD):
        table_VD = self.output_table(self.trunk.token_embedding.embedding)
        return UnprojectedLogits(x_BTD, table_VD, self.bias[0])


Model = TransformerLM
MODELS = (TransformerLM,)
TASKS: dict[str, type[nn.Module]] = {"text-to-text": TransformerLM}
GROUPS = ("trunk/token_embedding", r"trunk/encoder_(\d+)/", r"trunk/decoder_(\d+)/", "")
AXES = sharding.AXES
