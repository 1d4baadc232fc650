"""Sequence to sequence (Sutskever et al. 2014), "Learning with Neural Networks".

https://arxiv.org/abs/1409.3215
Two recurrent networks: the encoder squeezes a source into its last state, the decoder is a language
model that begins with that state. The source is read from its end to its beginning, so that its
first words are near to those of the target.

Departures: as in rnn.py, two biases a gate, and weights drawn as PyTorch draws them. Any cell will
do; the paper has LSTM.

B batch  L length of the source  T length of the target  D width  E embedding width  V vocabulary
"""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import linen as nn

from zoo.layers import recurrent
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import Embedding
from zoo.layers.recurrent import Stack
from zoo.models.rnn import Head


@dataclass(frozen=True)
class Config:
    """The sizes of an encoder and a decoder; the defaults are the paper's.

    `cell` is a name of recurrent.CELLS; `start` is the token that begins every target. `max_length`
    is there for the trainer: any length will do.
    """

    vocab_size: int = 160000
    max_length: int = 1 << 30
    num_layers: int = 4
    width: int = 1000
    dropout: float = 0.0
    embed_width: int = 1000
    cell: str = "lstm"
    start: int = 0


SIZES = {
    "seq2seq-tiny": Config(256, 1 << 30, 1, 256, 0.0, 128),  # 921,856
    "seq2seq-small": Config(4096, 1 << 30, 1, 336, 0.0, 192),  # 4,377,856
    "seq2seq": Config(),  # 544,224,000
}


class Seq2Seq(nn.Module):
    """The trunk: tokens_BL of the source, targets_BT shifted right -> x_BTD.

    `documents_BL` is 0 for the padding of the source, else 1.
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

    def encode(self, tokens_BL, documents_BL=None, *, train: bool = False):
        """Reads a source backwards: the states at its beginning."""
        x_BLE = self.source_dropout(self.source_embedding(tokens_BL[:, ::-1]), train=train)
        backwards_BL = None if documents_BL is None else documents_BL[:, ::-1]
        return self.encoder(x_BLE, backwards_BL, train=train)[1]

    def __call__(self, tokens_BL, targets_BT, documents_BL=None, *, train: bool = False):
        states = self.encode(tokens_BL, documents_BL, train=train)
        y_BTE = self.target_dropout(self.target_embedding(targets_BT), train=train)
        x_BTD, _ = self.decoder(y_BTE, None, states, train=train)
        return self.output_dropout(x_BTD, train=train)

    def extend(self, token_B, states):
        """The states after one token more of the target."""
        return self.decoder.step(self.target_embedding(token_B), states)


class Seq2SeqLM(nn.Module):
    """The trunk and a head over the words of the target."""

    config: Config

    def setup(self):
        self.trunk = Seq2Seq(self.config)
        self.head = Head(self.config.vocab_size, self.config.width)

    def encode(self, tokens_BL, documents_BL=None, *, train: bool = False):
        """The context of a source: the decoder's first states."""
        return self.trunk.encode(tokens_BL, documents_BL, train=train)

    def scores(self, tokens_BL, targets_BT, documents_BL=None, *, train: bool = False):
        """What each position believes of the next token, before the product with the vocabulary."""
        return self.head(self.trunk(tokens_BL, targets_BT, documents_BL, train=train))

    def __call__(self, tokens_BL, targets_BT=None, documents_BL=None, *, train: bool = False):
        """logits_BTV of the next token; without targets, of the first alone."""
        if targets_BT is None:
            targets_BT = jnp.full((len(tokens_BL), 1), self.config.start)
        return self.scores(tokens_BL, targets_BT, documents_BL, train=train).logits()

    def start(self, tokens_BL, documents_BL, room: int):
        """Reads a source: logits_BV of the first token, and the states, with room for any more."""
        states = self.encode(tokens_BL, documents_BL)
        return self.step(jnp.full(len(tokens_BL), self.config.start), states)

    def step(self, token_B, states):
        """Reads one token more of the target: logits_BV after it, and the states with it."""
        states = self.trunk.extend(token_B, states)
        return self.head(states[-1][0][:, None]).logits()[:, 0], states


Model = Seq2SeqLM
MODELS = {"Seq2SeqModel": Seq2SeqLM}
TASKS = {"text-to-text": Seq2SeqLM}
GROUPS = (r"_embedding/", r"trunk/encoder/layers_(\d+)/", r"trunk/decoder/layers_(\d+)/", "")
PREFIX = ""
WEIGHTS = {
    "trunk/source_embedding/embedding": "encoder.embedding.weight",
    **recurrent.published("trunk/encoder/layers_{}", "encoder.rnn", "l{}"),
    "trunk/target_embedding/embedding": "decoder.embedding.weight",
    **recurrent.published("trunk/decoder/layers_{}", "decoder.rnn", "l{}"),
    "head/embedding": "decoder.output.weight",
    "head/bias": "decoder.output.bias",
}
TIED = {}
IGNORED = ()
TOKENIZER = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "eos_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
}
AXES = recurrent.AXES


def published(c: Config) -> dict:
    """The fields of config.json: those of two torch.nn.RNN, GRU or LSTM between tables."""
    return {
        "model_type": "seq2seq",
        "vocab_size": c.vocab_size,
        "embedding_size": c.embed_width,
        "hidden_size": c.width,
        "num_layers": c.num_layers,
        "dropout": c.dropout,
        "mode": c.cell,
        "decoder_start_token_id": c.start,
        "is_encoder_decoder": True,
    }


def from_published(fields: dict) -> Config:
    """The config of a config.json."""
    return Config(
        vocab_size=fields["vocab_size"],
        num_layers=fields["num_layers"],
        width=fields["hidden_size"],
        dropout=fields.get("dropout", 0.0),
        embed_width=fields["embedding_size"],
        cell=fields["mode"],
        start=fields["decoder_start_token_id"],
    )
