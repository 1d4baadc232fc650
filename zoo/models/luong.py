"""Global attention (Luong et al. 2015), "Effective Approaches to Attention-based NMT".

https://arxiv.org/abs/1508.04025
A recurrent decoder that attends to the source. New compared with sequence to sequence: all encoder
states are kept. The decoder's new state scores each of them; their weighted sum is the context;
state and context together give the attentional vector, from which the next word is predicted. That
vector is also an input of the next step, beside the word ("input feeding", section 3.3), so that
the decoder has a record of past alignments.

Departures: as in seq2seq.py.

B batch  L length of the source  T length of the target  D width  E embedding width  V vocabulary
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers import recurrent, seq2seq_attention
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import Embedding, UnprojectedLogits
from zoo.layers.linear import Linear
from zoo.layers.recurrent import Stack, States
from zoo.layers.seq2seq_attention import Source, SourceAttention
from zoo.models.rnn import Head


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config of an encoder and a decoder; the defaults are the paper's.

    `cell` is a name in recurrent.CELLS, `score` one in seq2seq_attention.SCORES; `start` is the
    token that begins every target. `max_length` is required by the trainer; the model itself works
    at any length.
    """

    vocab_size: int = 50000
    max_length: int = 1 << 30
    num_layers: int = 4
    width: int = 1000
    dropout: float = 0.2
    embed_width: int = 1000
    cell: str = "lstm"
    score: str = "general"
    start: int = 0


SIZES = {
    "luong-tiny": Config(
        vocab_size=256, num_layers=1, width=256, dropout=0.0, embed_width=128
    ),  # 1,380,608
    "luong-small": Config(
        vocab_size=4096, num_layers=1, width=280, dropout=0.0, embed_width=192
    ),  # 4,334,400
    "luong": Config(),  # 221,114,000
}

Memory = tuple[States, jax.Array]  # the decoder's states, and the attentional vector
Cache = tuple[Source, Memory]


class Luong(nn.Module):
    """The trunk, without a head: source tokens_BL, targets_BT shifted right -> x_BTD.

    `document_ids_BL` is 1 for the tokens of the source and 0 for its padding.
    """

    config: Config

    def setup(self):
        c = self.config
        embedding = (c.vocab_size, c.embed_width, nn.initializers.normal(1.0))
        stack = (c.num_layers, c.cell, c.width, c.dropout)
        self.source_embedding = Embedding(*embedding)
        self.source_dropout = Dropout(c.dropout)
        self.encoder = Stack(*stack)
        self.target_embedding = Embedding(*embedding)
        self.target_dropout = Dropout(c.dropout)
        self.decoder = Stack(*stack)
        self.look = SourceAttention(c.score, c.width, c.width)
        self.combine = Linear(c.width, seq2seq_attention.INIT)
        self.output_dropout = Dropout(c.dropout)

    def encode(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> Cache:
        """Encode a source in reverse: the Source to attend to and the decoder's first memory."""
        x_BLE = self.source_dropout(self.source_embedding(tokens_BL[:, ::-1]), train=train)
        backwards_BL = None if document_ids_BL is None else document_ids_BL[:, ::-1]
        x_BLD, states = self.encoder(x_BLE, backwards_BL, train=train)
        source = self.look.project_keys_values(x_BLD[:, ::-1], document_ids_BL)
        return source, (states, jnp.zeros_like(x_BLD[:, 0]))

    def advance(
        self, memory: Memory, y_BE: jax.Array, source: Source, *, train: bool = False
    ) -> tuple[Memory, jax.Array]:
        """Process one target word: the new memory and the vector that predicts the next word."""
        states, attentional_BD = memory
        states = self.decoder.step(jnp.concatenate([y_BE, attentional_BD], -1), states, train=train)
        h_BD = states[-1][0]
        context_BD = self.look.attend(h_BD, source)
        x_BD = jnp.tanh(self.combine(jnp.concatenate([context_BD, h_BD], -1)))
        x_BD = self.output_dropout(x_BD, train=train)
        return (states, x_BD), x_BD

    def __call__(
        self,
        tokens_BL: jax.Array,
        targets_BT: jax.Array,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        source, memory = self.encode(tokens_BL, document_ids_BL, train=train)
        y_BTE = self.target_dropout(self.target_embedding(targets_BT), train=train)
        return recurrent.unroll(self, "advance", memory, y_BTE, source, train=train)

    def extend(
        self, token_B: jax.Array, memory: Memory, source: Source
    ) -> tuple[Memory, jax.Array]:
        """Process one more target token: the new memory and the vector for the next word."""
        return self.advance(memory, self.target_embedding(token_B), source)


class LuongLM(nn.Module):
    """The trunk with a head over the target vocabulary."""

    config: Config

    def setup(self):
        self.trunk = Luong(self.config)
        self.head = Head(self.config.vocab_size, self.config.width)

    @property
    def start_token(self) -> int:
        """The token that begins every target."""
        return self.config.start

    def encode(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> Cache:
        """Encode a source: the Source to attend to and the decoder's first memory."""
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
        return self.head(self.trunk(tokens_BL, targets_BT, document_ids_BL, train=train))

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
        cache = self.encode(tokens_BL, document_ids_BL)
        return self.step(jnp.full(len(tokens_BL), self.config.start), cache)

    def step(self, token_B: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Process one more target token: next-token logits_BV and the updated cache."""
        source, memory = cache
        memory, x_BD = self.trunk.extend(token_B, memory, source)
        return self.head(x_BD[:, None]).logits()[:, 0], (source, memory)


Model = LuongLM
MODELS = (LuongLM,)
TASKS: dict[str, type[nn.Module]] = {"text-to-text": LuongLM}
GROUPS = (r"_embedding/", r"trunk/encoder/layers_(\d+)/", r"trunk/decoder/layers_(\d+)/", "")
AXES = recurrent.AXES
