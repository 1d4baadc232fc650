"""Attention (Bahdanau et al. 2014), "Jointly Learning to Align and Translate".

https://arxiv.org/abs/1409.0473
The first attention, before Luong's. New compared with sequence to sequence: the encoder is
bidirectional, and its states at all words are kept. The decoder's state *before* a word scores each
of them; their weighted sum, the context, is an input of the next state and, with the state and the
last word, of a maxout layer from which the word is predicted (appendix A.2).

Departures: the cell is PyTorch's GRU, which applies the reset gate after the product (see
recurrent.py); each gate has two biases; weights are initialized as in PyTorch.

B batch  L length of the source  T length of the target  D width  E embedding width  V vocabulary
A width of an annotation, twice D  R width of the readout
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers import recurrent, seq2seq_attention
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import Embedding, UnprojectedLogits
from zoo.layers.linear import Dense
from zoo.layers.recurrent import Bidirectional, Layer, State
from zoo.layers.seq2seq_attention import Source, SourceAttention
from zoo.models.rnn import Head


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config of an encoder and a decoder; the defaults are the paper's.

    `cell` is a name in recurrent.CELLS, `score` one in seq2seq_attention.SCORES; `start` is the
    token that begins every target. `max_length` is required by the trainer; the model itself works
    at any length.
    """

    vocab_size: int = 30000
    max_length: int = 1 << 30
    num_layers: int = 1
    width: int = 1000
    dropout: float = 0.0
    embed_width: int = 620
    cell: str = "gru"
    score: str = "additive"
    start: int = 0
    readout_width: int = 500


SIZES = {
    "bahdanau-tiny": Config(
        vocab_size=256, width=192, embed_width=128, readout_width=128
    ),  # 1,204,480
    "bahdanau-small": Config(
        vocab_size=4096, width=248, embed_width=192, readout_width=192
    ),  # 4,325,280
    "bahdanau": Config(),  # 80,451,000
}

Cache = tuple[Source, State]  # what the decoder attends to, and its state


class Bahdanau(nn.Module):
    """The trunk, without a head: source tokens_BL, targets_BT shifted right -> x_BTR.

    `document_ids_BL` is 1 for the tokens of the source and 0 for its padding.
    """

    config: Config

    def setup(self):
        c = self.config
        embedding = (c.vocab_size, c.embed_width, nn.initializers.normal(1.0))
        self.source_embedding = Embedding(*embedding)
        self.source_dropout = Dropout(c.dropout)
        self.encoder = Bidirectional(c.num_layers, c.cell, c.width, c.dropout)
        self.begin = Dense(c.width, seq2seq_attention.INIT)
        self.target_embedding = Embedding(*embedding)
        self.target_dropout = Dropout(c.dropout)
        self.decoder = Layer(c.cell, c.width)
        self.look = SourceAttention(c.score, c.width, 2 * c.width)
        self.readout = Dense(2 * c.readout_width, seq2seq_attention.INIT)
        self.output_dropout = Dropout(c.dropout)

    def encode(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> Cache:
        """Encode a source: the Source to attend to and the decoder's first state.

        The first state is computed from the final state of the backward encoder, which ends at the
        first word.
        """
        x_BLE = self.source_dropout(self.source_embedding(tokens_BL), train=train)
        x_BLA, (_, backward) = self.encoder(x_BLE, document_ids_BL, train=train)
        s_BD = jnp.tanh(self.begin(backward[-1][0]))
        rest = backward[-1][1:]  # an LSTM's cell state is passed on unchanged
        return self.look.project_keys_values(x_BLA, document_ids_BL), (s_BD, *rest)

    def advance(
        self, state: State, y_BE: jax.Array, source: Source, *, train: bool = False
    ) -> tuple[State, jax.Array]:
        """Process one target word: the new state and the vector that predicts the next word."""
        context_BA = self.look.attend(state[0], source)
        pairs = self.readout(jnp.concatenate([state[0], y_BE, context_BA], -1))
        x_BR = self.output_dropout(pairs.reshape(len(y_BE), -1, 2).max(-1), train=train)
        return self.decoder.step(jnp.concatenate([y_BE, context_BA], -1), state), x_BR

    def __call__(
        self,
        tokens_BL: jax.Array,
        targets_BT: jax.Array,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        source, state = self.encode(tokens_BL, document_ids_BL, train=train)
        y_BTE = self.target_dropout(self.target_embedding(targets_BT), train=train)
        return recurrent.unroll(self, "advance", state, y_BTE, source, train=train)

    def extend(self, token_B: jax.Array, state: State, source: Source) -> tuple[State, jax.Array]:
        """Process one more target token: the new state and the vector for the next word."""
        return self.advance(state, self.target_embedding(token_B), source)


class BahdanauLM(nn.Module):
    """The trunk with a head over the target vocabulary."""

    config: Config

    def setup(self):
        self.trunk = Bahdanau(self.config)
        self.head = Head(self.config.vocab_size, self.config.readout_width)

    @property
    def start_token(self) -> int:
        """The token that begins every target."""
        return self.config.start

    def encode(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> Cache:
        """Encode a source: the Source to attend to and the decoder's first state."""
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
        source, state = cache
        state, x_BR = self.trunk.extend(token_B, state, source)
        return self.head(x_BR[:, None]).logits()[:, 0], (source, state)


Model = BahdanauLM
MODELS = (BahdanauLM,)
TASKS: dict[str, type[nn.Module]] = {"text-to-text": BahdanauLM}
GROUPS = (r"_embedding/", r"trunk/encoder/\w+_(\d+)/", "trunk/(?:begin|look|decoder)/", "")
AXES = recurrent.AXES
