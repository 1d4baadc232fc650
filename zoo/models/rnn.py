"""Recurrent language models (Zaremba et al. 2014), "Recurrent Neural Network Regularization".

https://arxiv.org/abs/1409.2329
After Mikolov et al. 2010: a state is all that a token knows of those before it, so nothing limits
the length of a text, and the state after one window goes into the next. New is where dropout
stands: on what goes up, from the embedding to the head, never on what goes on in time.

Departures: two biases a gate, as PyTorch and cuDNN have them; weights are drawn as PyTorch draws
them, where the paper draws all evenly within a bound for each size.

B batch  L length  D width  E embedding width  V vocabulary
"""

from dataclasses import dataclass
from functools import partial

import jax
from flax import linen as nn

from zoo.layers import heads, recurrent
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import Embedding, Scores
from zoo.layers.linear import Dense
from zoo.layers.recurrent import Stack, States, uniform


@dataclass(frozen=True, kw_only=True)
class Config:
    """The sizes of a recurrent language model; the defaults are Zaremba's medium one.

    `cell` is a name of recurrent.CELLS. `max_length` is there for the trainer: any length will do.
    """

    vocab_size: int = 10000
    max_length: int = 1 << 30
    num_layers: int = 2
    width: int = 650
    dropout: float = 0.5
    embed_width: int = 650
    cell: str = "lstm"
    labels: tuple[str, ...] = heads.LABELS
    pooling: str = "concatenation"  # of heads.POOLS: what stands for a whole text


Tiny = partial(Config, vocab_size=4096, num_layers=2, width=256, dropout=0.0, embed_width=256)
SIZES = {
    "rnn-lm-tiny": Tiny(cell="rnn"),  # 2,364,416
    "gru-lm-tiny": Tiny(cell="gru"),  # 2,890,752
    "lstm-lm-tiny": Tiny(),  # 3,153,920
    "lstm-lm-small": Config(width=200, embed_width=200, dropout=0.0),  # 4,653,200
    "lstm-lm-medium": Config(),  # 19,780,400
    "lstm-lm-large": Config(width=1500, embed_width=1500, dropout=0.65),  # 66,034,000
}


class RNN(nn.Module):
    """The trunk: tokens_BL -> x_BLD, and the states after the last token.

    `documents_BL` numbers the document of each token from 1, and 0 is padding; `states` are those
    that document 1 has from an earlier window.
    """

    config: Config

    def setup(self):
        c = self.config
        self.token_embedding = Embedding(c.vocab_size, c.embed_width, nn.initializers.normal(1.0))
        self.embedding_dropout = Dropout(c.dropout)
        self.stack = Stack(c.num_layers, c.cell, c.width, c.dropout)
        self.output_dropout = Dropout(c.dropout)

    def __call__(
        self,
        tokens_BL: jax.Array,
        documents_BL: jax.Array | None = None,
        states: States | None = None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, States]:
        x_BLE = self.embedding_dropout(self.token_embedding(tokens_BL), train=train)
        x_BLD, states = self.stack(x_BLE, documents_BL, states, train=train)
        return self.output_dropout(x_BLD, train=train), states

    def step(self, token_B: jax.Array, states: States) -> States:
        """The states after one token more; what they put out is states[-1][0]."""
        return self.stack.step(self.token_embedding(token_B), states)

    def read(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None,
        documents_BL: jax.Array | None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """x_BLD for a head, whose segments it does not know."""
        return self(tokens_BL, documents_BL, train=train)[0]


class RNNClassifier(heads.OnTrunk):
    """The trunk and the classes of a text, from all that it put out (Howard and Ruder 2018)."""

    config: Config
    trunk_class = RNN

    def setup(self):
        super().setup()
        self.hidden, self.dropout = Dense(50, heads.INIT), Dropout(0.1)
        self.classes = Dense(len(self.config.labels), heads.INIT)

    def pool(self, x_BLD: jax.Array, documents_BL: jax.Array | None) -> jax.Array:
        """Last, mean or largest state, or the three of them, as the config has it: x_BD."""
        return heads.POOLS[self.config.pooling](x_BLD, documents_BL)

    def head(self, x_BD: jax.Array, *, train: bool = False) -> jax.Array:
        """The scores of the classes: logits_BC."""
        x_BD = nn.relu(self.hidden(x_BD))
        return self.classes(self.dropout(x_BD, train=train))


class Head(nn.Module):
    """What each position believes of the next token: x_BLD -> Scores."""

    vocab_size: int
    width: int

    def setup(self):
        init = uniform(self.width)
        self.table = self.param("embedding", init, (self.vocab_size, self.width))
        self.bias = self.param("bias", init, (self.vocab_size,))

    def __call__(self, x_BLD: jax.Array) -> Scores:
        return Scores(x_BLD, self.table, self.bias)


class RNNLM(nn.Module):
    """The trunk and a head with a table of its own."""

    config: Config

    def setup(self):
        self.trunk = RNN(self.config)
        self.head = Head(self.config.vocab_size, self.config.width)

    def scores(
        self,
        tokens_BL: jax.Array,
        documents_BL: jax.Array | None = None,
        states: States | None = None,
        *,
        train: bool = False,
    ) -> tuple[Scores, States]:
        """What each position believes of the next token, before the product with the vocabulary.

        And the states after the last token.
        """
        x_BLD, states = self.trunk(tokens_BL, documents_BL, states, train=train)
        return self.head(x_BLD), states

    def __call__(
        self, tokens_BL: jax.Array, documents_BL: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """logits_BLV of the next token; `documents_BL` as in the trunk."""
        return self.scores(tokens_BL, documents_BL, train=train)[0].logits()

    def start(
        self, tokens_BL: jax.Array, documents_BL: jax.Array, room: int
    ) -> tuple[jax.Array, States]:
        """Reads a prompt: logits_BV after it, and the states, which have room for any length."""
        x_BLD, states = self.trunk(tokens_BL, documents_BL)
        return self.head(x_BLD[:, -1:]).logits()[:, 0], states

    def step(self, token_B: jax.Array, states: States) -> tuple[jax.Array, States]:
        """Reads one token more: logits_BV after it, and the states with it."""
        states = self.trunk.step(token_B, states)
        return self.head(states[-1][0][:, None]).logits()[:, 0], states


Model = RNNLM
MODELS = (RNNLM,)
RNNTagger = heads.tagger(RNN)
TASKS: dict[str, type[nn.Module]] = {"classification": RNNClassifier, "tagging": RNNTagger}
GROUPS = ("trunk/token_embedding", r"trunk/stack/layers_(\d+)/", "")
AXES = recurrent.AXES
