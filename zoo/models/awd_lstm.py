"""AWD-LSTM (Merity et al. 2017), "Regularizing and Optimizing LSTM Language Models".

https://arxiv.org/abs/1708.02182, code: https://github.com/salesforce/awd-lstm-lm
New against the LSTM of Zaremba et al. 2014: dropout on every connection. The recurrent weights are
dropped (DropConnect, section 2), whole words are dropped, and elsewhere one mask serves all time
steps (section 4.2 and 4.3). The table of the embeddings is also that of the softmax (4.5), so the
last layer has its width. The regularization of the outputs (4.6) is part of the objective.

The classifier is that of ULMFiT (Howard and Ruder 2018, https://arxiv.org/abs/1801.06146), which
fine-tunes an AWD-LSTM. The QRNN, which the authors trained on WikiText-103, is not implemented.

Departure: the classifier has no batch normalization, whose running statistics are a state beside
the parameters.

B batch  L length  D width of the output  E width of an input  V vocabulary  C classes  N chunks
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers import heads, recurrent
from zoo.layers.dropout import Dropout, LockedDropout, WordDropout
from zoo.layers.embedding import Embedding, UnprojectedLogits
from zoo.layers.linear import Dense
from zoo.layers.recurrent import States, WeightDroppedLayer

CHUNK, POOLED = 70, 1400  # of the classifier, in tokens


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config of an AWD-LSTM; the defaults are the authors' model of WikiText-2.

    Attributes:
      vocab_size: The size of the vocabulary.
      max_length: Required by the trainer; the model itself works at any length.
      num_layers: The number of LSTM layers.
      width: The width of the embeddings and of the last layer.
      dropout: Dropout of the output, with one mask for all time steps.
      cell_width: The width of the other layers.
      embedding_dropout: Dropout of whole words.
      input_dropout: Dropout of the embeddings, with one mask for all time steps.
      hidden_dropout: Dropout between layers, with one mask for all time steps.
      weight_dropout: Dropout of the recurrent kernels.
      activation_penalty: alpha, the factor of the squared outputs in the loss.
      temporal_penalty: beta, the factor of the squared changes of the outputs in the loss.
      labels: The names of the classes.
      direction: "forward" or "backward", for a model that gets its tokens from last to first; the
        network is the same.
    """

    vocab_size: int = 33278
    max_length: int = 1 << 30
    num_layers: int = 3
    width: int = 400
    dropout: float = 0.4
    cell_width: int = 1150
    embedding_dropout: float = 0.1
    input_dropout: float = 0.65
    hidden_dropout: float = 0.2
    weight_dropout: float = 0.5
    activation_penalty: float = 2.0
    temporal_penalty: float = 1.0
    labels: tuple[str, ...] = heads.LABELS
    direction: str = "forward"

    @property
    def layer_widths(self) -> tuple[int, ...]:
        """The width of each layer."""
        return (self.cell_width,) * (self.num_layers - 1) + (self.width,)


SIZES = {
    "awd-lstm-tiny": Config(
        vocab_size=10000,
        width=200,
        cell_width=400,
        dropout=0.2,  # light: a run of few epochs does not overfit
        embedding_dropout=0.05,
        input_dropout=0.2,
        hidden_dropout=0.1,
        weight_dropout=0.2,
    ),  # 4,738,000
    "awd-lstm-ptb": Config(vocab_size=10000, input_dropout=0.4, hidden_dropout=0.25),  # 24,221,600
    "awd-lstm-wikitext-2": Config(),  # 33,556,078
    "awd-lstm-wikitext-103": Config(
        vocab_size=60000,
        dropout=0.05,
        embedding_dropout=0.01,
        input_dropout=0.125,
        hidden_dropout=0.075,
        weight_dropout=0.1,
    ),  # 44,271,600
}


class AWDLSTM(nn.Module):
    """The trunk, without a head: tokens_BL -> x_BLD, and the states after the last token.

    `document_ids_BL` counts documents from 1; 0 is padding, so a 0/1 mask is valid.
    `states` are those of document 1 from an earlier window.
    """

    config: Config

    def setup(self):
        c = self.config
        self.token_embedding = Embedding(c.vocab_size, c.width, uniform)
        self.embedding_dropout = WordDropout(c.embedding_dropout, c.vocab_size)
        self.input_dropout = LockedDropout(c.input_dropout)
        self.layers = [
            WeightDroppedLayer("lstm", width, c.weight_dropout) for width in c.layer_widths
        ]
        self.hidden_dropouts = [LockedDropout(c.hidden_dropout) for _ in c.layer_widths[1:]]
        self.output_dropout = LockedDropout(c.dropout)

    def outputs(
        self,
        tokens_BL: jax.Array,
        document_ids_BL: jax.Array | None = None,
        states: States | None = None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, jax.Array, States]:
        """Return the output of the last layer with and without dropout, and the states."""
        x_BLE = self.embedding_dropout(self.token_embedding(tokens_BL), tokens_BL, train=train)
        self.sow("intermediates", "hidden_states", x_BLE)
        dropouts = (self.input_dropout, *self.hidden_dropouts)
        before = (None,) * len(self.layers) if states is None else states
        after = []
        for dropout, layer, state in zip(dropouts, self.layers, before, strict=True):
            x_BLE = dropout(x_BLE, train=train)
            x_BLE, state = layer(x_BLE, document_ids_BL, state, train=train)
            self.sow("intermediates", "hidden_states", x_BLE)
            after.append(state)
        return self.output_dropout(x_BLE, train=train), x_BLE, tuple(after)

    def __call__(
        self,
        tokens_BL: jax.Array,
        document_ids_BL: jax.Array | None = None,
        states: States | None = None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, States]:
        x_BLD, _, states = self.outputs(tokens_BL, document_ids_BL, states, train=train)
        return x_BLD, states

    def step(self, token_B: jax.Array, states: States) -> States:
        """Return the states after one more token; the output is states[-1][0]."""
        x_BE, after = self.token_embedding(token_B), []
        for layer, state in zip(self.layers, states, strict=True):
            after.append(layer.step(x_BE, state))
            x_BE = after[-1][0]
        return tuple(after)

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

    def read_in_chunks(
        self, tokens_BL: jax.Array, mask_BL: jax.Array, *, train: bool = False
    ) -> jax.Array:
        """Return x_BLD of long texts, without a gradient from one chunk to the one before it.

        Howard and Ruder 2018, section 3.3, "BPTT for text classification": every chunk starts from
        the final states of the one before. Each has its own dropout masks, as in the released code.

        Args:
          tokens_BL: The tokens, one text per row.
          mask_BL: 1 for tokens, 0 for padding.
          train: Whether dropout is active.
        """
        B, L = tokens_BL.shape
        size = min(CHUNK, L)
        chunks = lambda x_BL: jnp.pad(x_BL, ((0, 0), (0, -L % size))).reshape(B, -1, size)

        def read_chunk(trunk, states, chunk):
            x_BLD, states = trunk(*chunk, jax.lax.stop_gradient(states), train=train)
            return states, x_BLD

        over_chunks = nn.scan(
            read_chunk,
            variable_broadcast="params",
            variable_axes={"intermediates": 1},
            split_rngs={"params": False, "dropout": True},
            in_axes=1,
            out_axes=1,
        )
        states = zeros(self.config, B)
        _, x_BNLD = over_chunks(self, states, (chunks(tokens_BL), chunks(mask_BL)))
        return x_BNLD.reshape(B, -1, self.config.width)[:, :L]


def uniform(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Return the initial embeddings, uniform within 0.1 (section 5)."""
    return jax.random.uniform(key, shape, dtype, -0.1, 0.1)


def zeros(config: Config, batch_size: int) -> States:
    """Return the states before the first token."""
    return tuple(recurrent.zeros("lstm", width, batch_size) for width in config.layer_widths)


class AWDLSTMClassifier(heads.OnTrunk):
    """ULMFiT's classifier of a text, from its pooled hidden states (Howard and Ruder 2018, 3.3)."""

    config: Config
    trunk_class = AWDLSTM

    def setup(self):
        super().setup()
        self.pooled_dropout, self.hidden_dropout = Dropout(0.4), Dropout(0.1)
        self.hidden, self.classes = Dense(50, heads.INIT), Dense(self.num_outputs, heads.INIT)

    def features(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None = None,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Return the last, max and mean state of the last 1,400 tokens of each text: x_BD."""
        ones_BL = jnp.ones(tokens_BL.shape, jnp.int32)
        mask_BL = ones_BL if document_ids_BL is None else (document_ids_BL > 0).astype(jnp.int32)
        x_BLD = self.trunk.read_in_chunks(tokens_BL, mask_BL, train=train)
        to_the_end_BL = jax.lax.cumsum(mask_BL, 1, reverse=True)
        return heads.concatenation(x_BLD, mask_BL * (to_the_end_BL <= POOLED))

    def head(self, x_BD: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the logits of the classes: logits_BC."""
        x_BD = nn.relu(self.hidden(self.pooled_dropout(x_BD, train=train)))
        return self.classes(self.hidden_dropout(x_BD, train=train))


class Bias(nn.Module):
    """The part of the softmax that is not tied to the embeddings."""

    vocab_size: int

    @nn.compact
    def __call__(self) -> jax.Array:
        return self.param("bias", nn.initializers.zeros, (self.vocab_size,))


class AWDLSTMLM(nn.Module):
    """The trunk with a softmax that shares the table of the embeddings."""

    config: Config

    def setup(self):
        self.trunk = AWDLSTM(self.config)
        self.head = Bias(self.config.vocab_size)

    @nn.nowrap
    def initial_states(self, batch_size: int) -> States:
        """Return the states before the first token, which are zeros."""
        return zeros(self.config, batch_size)

    def outputs(
        self,
        tokens_BL: jax.Array,
        document_ids_BL: jax.Array | None = None,
        states: States | None = None,
        *,
        train: bool = False,
    ) -> tuple[UnprojectedLogits, jax.Array, States]:
        """Return unprojected next-token logits, the last output without dropout, and the states.

        `x_BLD` of the logits is the last output with dropout.
        """
        x_BLD, undropped_BLD, states = self.trunk.outputs(
            tokens_BL, document_ids_BL, states, train=train
        )
        return self._project(x_BLD), undropped_BLD, states

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
        return self._project(x_BLD), states

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
        return self._project(x_BLD[:, -1:]).logits()[:, 0], states

    def step(self, token_B: jax.Array, states: States) -> tuple[jax.Array, States]:
        """Process one more token: next-token logits_BV and the updated states."""
        states = self.trunk.step(token_B, states)
        return self._project(states[-1][0][:, None]).logits()[:, 0], states

    def _project(self, x_BLD: jax.Array) -> UnprojectedLogits:
        return UnprojectedLogits(x_BLD, self.trunk.token_embedding.embedding, self.head())


Model = AWDLSTMLM
MODELS = (AWDLSTMLM,)
AWDLSTMTagger = heads.tagger(AWDLSTM)
AWDLSTMMultiLabel = heads.multi_label(AWDLSTMClassifier)
TASKS: dict[str, type[nn.Module]] = {
    "classification": AWDLSTMClassifier,
    "multi-label": AWDLSTMMultiLabel,
    "tagging": AWDLSTMTagger,
}
GROUPS = ("trunk/token_embedding", r"trunk/layers_(\d+)/", "")
AXES = recurrent.AXES
