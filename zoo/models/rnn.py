"""Recurrent language models (Zaremba et al. 2014), "Recurrent Neural Network Regularization".

https://arxiv.org/abs/1409.2329
Following Mikolov et al. 2010, one state summarizes all previous tokens, so the length of a text is
not limited, and the state after one window is the initial state of the next. New: dropout is
applied to the non-recurrent connections only, from the embedding up to the head, and not between
time steps.

Departures: each gate has two biases, as in PyTorch and cuDNN; weights are initialized as in
PyTorch, where the paper draws all of them uniformly from one range for each size.

B batch  L length  D width  E embedding width  V vocabulary
"""

from dataclasses import dataclass
from functools import partial

import jax
from flax import linen as nn

from zoo.layers import heads, recurrent
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import Embedding, UnprojectedLogits
from zoo.layers.linear import Dense
from zoo.layers.recurrent import Stack, States, uniform


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config of a recurrent language model; the defaults are Zaremba's medium model.

    `cell` is a name in recurrent.CELLS. `max_length` is required by the trainer; the model itself
    works at any length.
    """

    vocab_size: int = 10000
    max_length: int = 1 << 30
    num_layers: int = 2
    width: int = 650
    dropout: float = 0.5
    embed_width: int = 650
    cell: str = "lstm"
    labels: tuple[str, ...] = heads.LABELS
    pooling: str = "concatenation"  # a name in heads.POOLS
    direction: str = "forward"  # or "backward": see zoo/direction.py


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
    """The trunk, without a head: tokens_BL -> x_BLD, and the states after the last token.

    `document_ids_BL` counts documents from 1; 0 is padding, so a 0/1 mask is valid.
    `states` are those of document 1 from an earlier window.
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
        document_ids_BL: jax.Array | None = None,
        states: States | None = None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, States]:
        x_BLE = self.embedding_dropout(self.token_embedding(tokens_BL), train=train)
        x_BLD, states = self.stack(x_BLE, document_ids_BL, states, train=train)
        return self.output_dropout(x_BLD, train=train), states

    def step(self, token_B: jax.Array, states: States) -> States:
        """Return the states after one more token; the output is states[-1][0]."""
        return self.stack.step(self.token_embedding(token_B), states)

    def read(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None,
        document_ids_BL: jax.Array | None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Return x_BLD for a task head; segments are ignored."""
        return self(tokens_BL, document_ids_BL, train=train)[0]


class RNNClassifier(heads.OnTrunk):
    """Classifier of a text, from its pooled hidden states (Howard and Ruder 2018)."""

    config: Config
    trunk_class = RNN

    def setup(self):
        super().setup()
        self.hidden, self.dropout = Dense(50, heads.INIT), Dropout(0.1)
        self.classes = Dense(len(self.config.labels), heads.INIT)

    def pool(self, x_BLD: jax.Array, document_ids_BL: jax.Array | None) -> jax.Array:
        """Return the last, mean or max state, or all three, as in `config.pooling`: x_BD."""
        return heads.POOLS[self.config.pooling](x_BLD, document_ids_BL)

    def head(self, x_BD: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the logits of the classes: logits_BC."""
        x_BD = nn.relu(self.hidden(x_BD))
        return self.classes(self.dropout(x_BD, train=train))


class Head(nn.Module):
    """Next-token head: x_BLD -> UnprojectedLogits."""

    vocab_size: int
    width: int

    def setup(self):
        init = uniform(self.width)
        self.table = self.param("embedding", init, (self.vocab_size, self.width))
        self.bias = self.param("bias", init, (self.vocab_size,))

    def __call__(self, x_BLD: jax.Array) -> UnprojectedLogits:
        return UnprojectedLogits(x_BLD, self.table, self.bias)


class RNNLM(nn.Module):
    """The trunk with a language-model head that has its own table."""

    config: Config

    def setup(self):
        self.trunk = RNN(self.config)
        self.head = Head(self.config.vocab_size, self.config.width)

    @nn.nowrap
    def initial_states(self, batch_size: int) -> States:
        """Return the states before the first token, which are zeros."""
        c = self.config
        return (recurrent.zeros(c.cell, c.width, batch_size),) * c.num_layers

    def unprojected(
        self,
        tokens_BL: jax.Array,
        document_ids_BL: jax.Array | None = None,
        states: States | None = None,
        *,
        train: bool = False,
    ) -> tuple[UnprojectedLogits, States]:
        """Return unprojected next-token logits, and the states after the last token."""
        x_BLD, states = self.trunk(tokens_BL, document_ids_BL, states, train=train)
        return self.head(x_BLD), states

    def __call__(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """Return the next-token logits: logits_BLV."""
        return self.unprojected(tokens_BL, document_ids_BL, train=train)[0].logits()

    def start(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array, max_new_tokens: int
    ) -> tuple[jax.Array, States]:
        """Process prompts: next-token logits_BV and the states; `max_new_tokens` is not limited."""
        x_BLD, states = self.trunk(tokens_BL, document_ids_BL)
        return self.head(x_BLD[:, -1:]).logits()[:, 0], states

    def step(self, token_B: jax.Array, states: States) -> tuple[jax.Array, States]:
        """Process one more token: next-token logits_BV and the updated states."""
        states = self.trunk.step(token_B, states)
        return self.head(states[-1][0][:, None]).logits()[:, 0], states


Model = RNNLM
MODELS = (RNNLM,)
RNNTagger = heads.tagger(RNN)
RNNMultiLabel = heads.multi_label(RNNClassifier)
TASKS: dict[str, type[nn.Module]] = {
    "classification": RNNClassifier,
    "multi-label": RNNMultiLabel,
    "tagging": RNNTagger,
}
GROUPS = ("trunk/token_embedding", r"trunk/stack/layers_(\d+)/", "")
AXES = recurrent.AXES
