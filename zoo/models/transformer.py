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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from zoo.layers import sharding
from zoo.layers.attention import Attention, KeysValues, Mask, append, positions
from zoo.layers.blocks import PostNormBlock, extend_blocks, run_blocks
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import Embedding, Scores
from zoo.layers.feed_forward import ACTIVATIONS
from zoo.layers.norm import Norm


@dataclass(frozen=True, kw_only=True)
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


class Cache(NamedTuple):
    """What later tokens of a target need: the keys and values of each block, [B, H, M, K].

    `blocks` has those of the target, `sources` those of the source, whose padding has document 0;
    `length` is the number of target tokens read, the same for every row.
    """

    blocks: tuple[KeysValues, ...]
    sources: tuple[KeysValues, ...]
    source_document_ids_BL: jax.Array
    length: jax.Array


def sinusoids(length: int, width: int) -> jax.Array:
    """Return the sinusoidal positional encoding, sines, then cosines (section 3.5): table_LD."""
    # In doubles: a float32 angle at a place some thousand is off by 1e-4.
    angles = np.arange(length)[:, None] / 10000.0 ** (np.arange(0, width, 2) / width)
    return jnp.asarray(np.concatenate([np.sin(angles), np.cos(angles)], -1), jnp.float32)


def xavier(key: chex.PRNGKey, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Return the draw of Glorot and Bengio (2010), for a map whose heads together are one axis."""
    size, width = np.prod(shape), max(shape)
    return nn.initializers.xavier_uniform()(key, (width, size // width), dtype).reshape(shape)


class DecoderBlock(PostNormBlock):
    """Attend, attend to a source, feed forward: each time add and normalise."""

    def setup(self):
        heads = (self.num_heads, self.head_width, self.width, self.dropout)
        self.source_attention = Attention(*heads, self.kernel_init, self.kernel_init)
        self.source_dropout = Dropout(self.dropout)
        self.source_attention_norm = Norm(self.epsilon)
        super().setup()

    def project_source(self, source_BLD: jax.Array) -> KeysValues:
        """Return the keys and values of a source."""
        return self.source_attention.project_keys_values(source_BLD)

    def __call__(  # type: ignore[override]  # it has a source to attend to
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

    def extend(
        self,
        x_BTD: jax.Array,
        cached: KeysValues,
        source: KeysValues,
        mask: Mask,
        source_mask: Mask,
    ) -> tuple[jax.Array, KeysValues]:
        """Return x_BTD for tokens behind a cache, and the cache with them at the mask's offset."""
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
    """The trunk: tokens_BL of the source, targets_BT shifted right -> x_BTD.

    `documents_BL` is of the source: 0 for padding, else the number of the document, from 1.
    """

    config: Config

    def setup(self):
        c, normal = self.config, nn.initializers.normal
        sizes = (c.num_heads, c.head_width, c.width, c.mlp_width)
        block = (*sizes, c.dropout, ACTIVATIONS[c.activation], c.epsilon, xavier)
        self.token_embedding = Embedding(c.vocab_size, c.width, normal(c.width**-0.5))
        self.embedding_dropout = Dropout(c.dropout)
        self.encoder = [PostNormBlock(*block) for _ in range(c.num_layers)]
        self.decoder = [DecoderBlock(*block) for _ in range(c.num_decoder_layers)]

    def encode(
        self, tokens_BL: jax.Array, documents_BL: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """Reads a source: x_BLD."""
        encoding = sinusoids(tokens_BL.shape[1], self.config.width)
        if documents_BL is not None:
            encoding = encoding[positions(documents_BL)]
        x_BLD = self._embed(tokens_BL, encoding, train=train)
        mask, name = Mask.bidirectional(documents_BL), "encoder_hidden_states"
        return run_blocks(self, self.encoder, x_BLD, mask, name=name, train=train)[-1]

    def __call__(
        self,
        tokens_BL: jax.Array,
        targets_BT: jax.Array,
        documents_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        source_BLD = self.encode(tokens_BL, documents_BL, train=train)
        encoding = sinusoids(targets_BT.shape[1], self.config.width)
        x_BTD = self._embed(targets_BT, encoding, train=train)
        inputs = source_BLD, Mask.causal(), Mask.source(documents_BL)
        name = "decoder_hidden_states"
        return run_blocks(self, self.decoder, x_BTD, *inputs, name=name, train=train)[-1]

    def start(self, tokens_BL: jax.Array, documents_BL: jax.Array, room: int) -> Cache:
        """Reads a source for targets of up to `room` tokens: Cache."""
        c, source_BLD = self.config, self.encode(tokens_BL, documents_BL)
        shape = (len(tokens_BL), c.num_heads, room, c.head_width)
        empty = (jnp.zeros(shape, self.token_embedding.embedding.dtype),) * 2
        sources = tuple(block.project_source(source_BLD) for block in self.decoder)
        return Cache((empty,) * len(sources), sources, documents_BL, jnp.int32(0))

    def extend(self, token_B: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Reads one token more of the target: x_B1D, and the new cache."""
        at, M = cache.length, cache.blocks[0][0].shape[2]
        x_B1D = self._embed(token_B[:, None], sinusoids(M, self.config.width)[at])
        masks = Mask.cached(at), Mask.source(cache.source_document_ids_BL)
        x_B1D, blocks = extend_blocks(
            self.decoder, x_B1D, cache.blocks, *masks, per_block=cache.sources
        )
        return x_B1D, cache._replace(blocks=blocks, length=at + 1)

    def _embed(self, tokens_BL, encoding, *, train: bool = False):
        x_BLD = self.token_embedding(tokens_BL) * self.config.width**0.5 + encoding
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

    def encode(
        self, tokens_BL: jax.Array, documents_BL: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """The states of a source: x_BLD."""
        return self.trunk.encode(tokens_BL, documents_BL, train=train)

    def scores(
        self,
        tokens_BL: jax.Array,
        targets_BT: jax.Array,
        documents_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> Scores:
        """What each position believes of the next token, before the product with the vocabulary."""
        return self._scores(self.trunk(tokens_BL, targets_BT, documents_BL, train=train))

    def __call__(
        self,
        tokens_BL: jax.Array,
        targets_BT: jax.Array | None = None,
        documents_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """logits_BTV of the next token; without targets, of the first alone."""
        if targets_BT is None:
            targets_BT = jnp.full((len(tokens_BL), 1), self.config.start)
        return self.scores(tokens_BL, targets_BT, documents_BL, train=train).logits()

    def start(
        self, tokens_BL: jax.Array, documents_BL: jax.Array, room: int
    ) -> tuple[jax.Array, Cache]:
        """Reads a source: logits_BV of the first token, and a cache with room for more."""
        cache = self.trunk.start(tokens_BL, documents_BL, 1 + room)
        return self.step(jnp.full(len(tokens_BL), self.config.start), cache)

    def step(self, token_B: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Reads one token more of the target: logits_BV after it, and the cache with it."""
        x_B1D, cache = self.trunk.extend(token_B, cache)
        logits_BV = self._scores(x_B1D).logits()[:, 0]
        # No target has the start, yet published folders score it 0, likelier than many a word.
        return logits_BV.at[:, self.config.start].set(-1e30), cache

    def _scores(self, x_BTD):
        return Scores(x_BTD, self.trunk.token_embedding.embedding, self.bias[0])


Model = TransformerLM
MODELS = (TransformerLM,)
TASKS: dict[str, type[nn.Module]] = {"text-to-text": TransformerLM}
GROUPS = ("trunk/token_embedding", r"trunk/encoder_(\d+)/", r"trunk/decoder_(\d+)/", "")
AXES = sharding.AXES
