"""Sequence to sequence (Sutskever et al. 2014), "Learning with Neural Networks".

https://arxiv.org/abs/1409.3215
Two recurrent networks. The encoder encodes a source into its last state; the decoder is a language
model that starts from that state. The source is read in reverse, so that its first words are close
to the first words of the target.

Trained to predict its own source, the model is a sequence autoencoder, whose encoder starts a
classifier (Dai and Le 2015, "Semi-supervised Sequence Learning", https://arxiv.org/abs/1511.01432).

Departures: as in rnn.py, each gate has two biases, and weights are initialized as in PyTorch. Any
cell can be used; the papers use the LSTM. The encoder and the decoder of Dai and Le share their
weights; these are separate, as in Sutskever et al.

B batch  L length of the source  T length of the target  D width  E embedding width  V vocabulary
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers import heads, recurrent
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import Embedding, UnprojectedLogits
from zoo.layers.linear import Dense
from zoo.layers.recurrent import Stack, States
from zoo.models.rnn import Head


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config of an encoder and a decoder; the defaults are the paper's.

    `cell` is a name in recurrent.CELLS; `start` is the token that begins every target. `max_length`
    is required by the trainer; the model itself works at any length.
    """

    vocab_size: int = 160000
    max_length: int = 1 << 30
    num_layers: int = 4
    width: int = 1000
    dropout: float = 0.0
    embed_width: int = 1000
    cell: str = "lstm"
    start: int = 0
    labels: tuple[str, ...] = heads.LABELS


SIZES = {
    "seq2seq-tiny": Config(vocab_size=256, num_layers=1, width=256, embed_width=128),  # 921,856
    "seq2seq-small": Config(vocab_size=4096, num_layers=1, width=336, embed_width=192),  # 4,377,856
    "seq2seq": Config(),  # 544,224,000
    "sequence-autoencoder-tiny": Config(
        vocab_size=4096, num_layers=1, width=256, embed_width=128
    ),  # 2,891,776
}


class Seq2Seq(nn.Module):
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
        self.output_dropout = Dropout(c.dropout)

    def encode(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> States:
        """Encode a source in reverse: the states after its first token."""
        x_BLE = self.source_dropout(self.source_embedding(tokens_BL[:, ::-1]), train=train)
        backwards_BL = None if document_ids_BL is None else document_ids_BL[:, ::-1]
        return self.encoder(x_BLE, backwards_BL, train=train)[1]

    def __call__(
        self,
        tokens_BL: jax.Array,
        targets_BT: jax.Array,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        states = self.encode(tokens_BL, document_ids_BL, train=train)
        y_BTE = self.target_dropout(self.target_embedding(targets_BT), train=train)
        x_BTD, _ = self.decoder(y_BTE, None, states, train=train)
        return self.output_dropout(x_BTD, train=train)

    def extend(self, token_B: jax.Array, states: States) -> States:
        """Return the states after one more target token."""
        return self.decoder.step(self.target_embedding(token_B), states)


class Seq2SeqClassifier(heads.OnTrunk):
    """Classifier of a text, from the last state of the encoder (Dai and Le 2015)."""

    config: Config
    trunk_class = Seq2Seq

    def setup(self):
        super().setup()
        self.dropout = Dropout(self.config.dropout)
        self.classes = Dense(len(self.config.labels), heads.INIT)

    def features(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None = None,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Return the last output of the encoder's top layer, x_BD; segments are ignored."""
        return self.trunk.encode(tokens_BL, document_ids_BL, train=train)[-1][0]

    def head(self, x_BD: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the logits of the classes: logits_BC."""
        return self.classes(self.dropout(x_BD, train=train))


class Seq2SeqLM(nn.Module):
    """The trunk with a head over the target vocabulary."""

    config: Config

    def setup(self):
        self.trunk = Seq2Seq(self.config)
        self.head = Head(self.config.vocab_size, self.config.width)

    @property
    def start_token(self) -> int:
        """The token that begins every target."""
        return self.config.start

    def encode(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> States:
        """Encode a source: the initial states of the decoder."""
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
    ) -> tuple[jax.Array, States]:
        """Encode a source: logits_BV of the first target token, and the states."""
        states = self.encode(tokens_BL, document_ids_BL)
        return self.step(jnp.full(len(tokens_BL), self.config.start), states)

    def step(self, token_B: jax.Array, states: States) -> tuple[jax.Array, States]:
        """Process one more target token: next-token logits_BV and the updated states."""
        states = self.trunk.extend(token_B, states)
        return self.head(states[-1][0][:, None]).logits()[:, 0], states


Model = Seq2SeqLM
MODELS = (Seq2SeqLM,)
Seq2SeqMultiLabel = heads.multi_label(Seq2SeqClassifier)
TASKS: dict[str, type[nn.Module]] = {
    "classification": Seq2SeqClassifier,
    "multi-label": Seq2SeqMultiLabel,
    "text-to-text": Seq2SeqLM,
}
GROUPS = (r"_embedding/", r"trunk/encoder/layers_(\d+)/", r"trunk/decoder/layers_(\d+)/", "")
AXES = recurrent.AXES
