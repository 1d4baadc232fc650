"""XLNet (Yang et al. 2019), "Generalized Autoregressive Pretraining for Language Understanding".

https://arxiv.org/abs/1906.08237
A bidirectional Transformer-XL: attention scores depend on distances instead of positions, and the
hidden states of the preceding text are a memory. New: a second stream, the query stream, with the
same weights; it sees the position of a token but not the token itself, so tokens can be predicted
in any order.

Departures: gelu is exact, as in transformers; the released code was trained with the tanh
approximation. Dropout on the distance encoding is drawn once per batch, not once per row. We omit
the bidirectional data pipeline, which reads half of each batch backwards. Tokens of different
documents do not attend to each other.

B batch  L length  M memory and length  D width  R distances  V vocabulary  P predictions
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers import heads, sharding
from zoo.layers.blocks import run_blocks
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import Embedding, UnprojectedLogits
from zoo.layers.feed_forward import ACTIVATIONS
from zoo.layers.linear import Dense
from zoo.layers.transformer_xl import (
    Memory,
    RelativeBlock,
    Streams,
    distances,
    lengthen,
    views,
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config of an XLNet; the defaults are the base model.

    `max_length` is the length in training; there is no position table, so longer inputs work.
    """

    vocab_size: int = 32000
    max_length: int = 512
    num_layers: int = 12
    num_heads: int = 12
    width: int = 768
    mlp_width: int = 3072
    head_width: int = 64
    dropout: float = 0.1
    activation: str = "gelu"
    epsilon: float = 1e-12
    init_std: float = 0.02  # of new weights, including the biases of attention
    labels: tuple[str, ...] = heads.LABELS
    null_threshold: float | None = None  # see heads.Question


SIZES = {
    "xlnet-tiny": Config(
        vocab_size=4096, num_layers=4, num_heads=4, width=256, mlp_width=1024, dropout=0.0
    ),  # 4,475,136
    "xlnet-base-cased": Config(),  # 116,750,336
    "xlnet-large-cased": Config(
        num_layers=24, num_heads=16, width=1024, mlp_width=4096
    ),  # 360,300,800
}

CLASS_DROPOUT = 0.1  # before the classifier, independent of the trunk's dropout


class XLNet(nn.Module):
    """The trunk, without a head: tokens_BL -> x_BLD."""

    config: Config

    def setup(self):
        c = self.config
        init = nn.initializers.normal(c.init_std)
        self.token_embedding = Embedding(c.vocab_size, c.width, init)
        self.query_start = self.param("query_start", init, (1, 1, c.width))
        self.embedding_dropout = Dropout(c.dropout)
        self.distance_dropout = Dropout(c.dropout)
        self.blocks = [
            RelativeBlock(
                num_heads=c.num_heads,
                head_width=c.head_width,
                width=c.width,
                mlp_width=c.mlp_width,
                dropout=c.dropout,
                activation=ACTIVATIONS[c.activation],
                epsilon=c.epsilon,
                kernel_init=init,
            )
            for _ in range(c.num_layers)
        ]
        self.output_dropout = Dropout(c.dropout)

    def __call__(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None = None,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Return x_BLD of the content stream; every token attends to its whole document.

        `document_ids_BL` numbers the document of each token from 1; 0 is padding, so a 0/1 mask is
        valid.
        """
        return self.extend(tokens_BL, segments_BL, document_ids_BL, train=train)[0]

    def extend(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None = None,
        document_ids_BL: jax.Array | None = None,
        memory: Memory | None = None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, Memory]:
        """Return x_BLD after a memory, and this segment's own memory for `lengthen`.

        Pad on the right: padding on the left counts as distance to the memory.
        """
        x_BLD, _, new_memory = self._run_streams(
            tokens_BL, segments_BL, document_ids_BL, None, None, memory, train=train
        )
        return self.output_dropout(x_BLD, train=train), new_memory

    def streams(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None,
        document_ids_BL: jax.Array | None,
        blocked_BLL: jax.Array,
        predictions_BP: jax.Array,
        memory: Memory | None = None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, Memory]:
        """Return the query stream at `predictions_BP`, query_BPD, and this segment's memory.

        This is section 2.3. Where `blocked_BLL` is True, the row does not attend to the column; in
        the content stream a token always attends to itself. The released code runs the query stream
        over all positions and then selects; here it runs only over the P positions, with the same
        result: with 85 of 512, at a sixth of the cost.
        """
        _, query_BPD, new_memory = self._run_streams(
            tokens_BL,
            segments_BL,
            document_ids_BL,
            blocked_BLL,
            predictions_BP,
            memory,
            train=train,
        )
        return self.output_dropout(query_BPD, train=train), new_memory

    def _run_streams(
        self, tokens_BL, segments_BL, document_ids_BL, blocked_BLL, at_BP, memory, *, train
    ):
        c, (B, L) = self.config, tokens_BL.shape
        if document_ids_BL is None:
            document_ids_BL = jnp.ones((B, L), jnp.int32)
        if memory is None:
            empty = (jnp.zeros((B, 0, c.width)),) * c.num_layers
            memory = Memory(empty, jnp.zeros((B, 0), jnp.int32))
        memory_length = memory.document_ids_BM.shape[1]
        content, query = views(
            segments_BL, document_ids_BL, blocked_BLL, at_BP, memory.document_ids_BM
        )

        table_RD = self.distance_dropout(distances(L, memory_length + L, c.width), train=train)
        x_BLD = self.embedding_dropout(self.token_embedding(tokens_BL), train=train)
        query_BPD = None
        if query is not None:
            start = jnp.broadcast_to(jnp.float32(self.query_start), (*at_BP.shape, c.width))
            query_BPD = self.embedding_dropout(start, train=train)
        *inputs, (x_BLD, query_BPD) = run_blocks(
            self,
            self.blocks,
            Streams(x_BLD, query_BPD),
            table_RD,
            content,
            query,
            per_block=memory.inputs,
            train=train,
        )
        new_memory = Memory(tuple(streams.content_BLD for streams in inputs), document_ids_BL)
        return x_BLD, query_BPD, new_memory

    read = __call__


class XLNetClassifier(heads.OnTrunk):
    """Classifier of a text or a pair of texts, from its last token, <cls>."""

    trunk_class = XLNet
    pool = staticmethod(heads.last_token)

    def setup(self):
        super().setup()
        self.summary, self.dropout = Dense(self.config.width, heads.INIT), Dropout(CLASS_DROPOUT)
        self.projection = Dense(self.num_outputs, heads.INIT)

    def head(self, x_BD: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the logits of the classes: logits_BC."""
        x_BD = jnp.tanh(self.summary(x_BD))
        return self.projection(self.dropout(x_BD, train=train))


class Cache(NamedTuple):
    """The memory of a text that is generated, which ends before its last token, and that token."""

    memory: Memory
    last_B: jax.Array


class XLNetLM(nn.Module):
    """The trunk with a language-model head: the token embedding again, and a bias.

    It generates as in transformers: tokens of the prompt attend to the whole prompt, and each later
    token to the tokens before it and to the next one.
    """

    config: Config

    def setup(self):
        self.trunk = XLNet(self.config)
        self.head_bias = self.param("head_bias", nn.initializers.zeros, (self.config.vocab_size,))

    def unprojected(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None,
        document_ids_BL: jax.Array | None,
        blocked_BLL: jax.Array,
        predictions_BP: jax.Array,
        memory: Memory | None = None,
        *,
        train: bool = False,
    ) -> tuple[UnprojectedLogits, Memory]:
        """Return the query stream's logits, before the vocabulary product, and the memory.

        The inputs are those of `XLNet.streams`.
        """
        query_BPD, new_memory = self.trunk.streams(
            tokens_BL,
            segments_BL,
            document_ids_BL,
            blocked_BLL,
            predictions_BP,
            memory,
            train=train,
        )
        return self._head(query_BPD), new_memory

    def __call__(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None = None,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Return the logits of the content stream: logits_BLV."""
        return self._head(self.trunk(tokens_BL, segments_BL, document_ids_BL, train=train)).logits()

    def fill(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None,
        masked_BP: jax.Array,
        document_ids_BL: jax.Array | None = None,
    ) -> jax.Array:
        """Return the logits at positions `masked_BP`, which no token attends to: logits_BPV."""
        is_masked_BL = (masked_BP[:, :, None] == jnp.arange(tokens_BL.shape[1])).any(1)
        blocked_BLL = jnp.repeat(is_masked_BL[:, None], tokens_BL.shape[1], 1)
        return self.unprojected(tokens_BL, segments_BL, document_ids_BL, blocked_BLL, masked_BP)[
            0
        ].logits()

    def left_to_right(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None
    ) -> jax.Array:
        """Return the logits of the next token, as if all permutations were the order of the text.

        Returns:
          logits_BLV. A query stream stands at each next position, also behind the last token.
        """
        B, L = tokens_BL.shape
        if document_ids_BL is None:
            document_ids_BL = jnp.ones((B, L), jnp.int32)
        tokens_BT = jnp.pad(tokens_BL, ((0, 0), (0, 1)))
        document_ids_BT = jnp.concatenate([document_ids_BL[:, :1], document_ids_BL], 1)
        blocked_TT = ~jnp.tri(L + 1, k=-1, dtype=bool)
        blocked_BTT = jnp.broadcast_to(blocked_TT, (B, L + 1, L + 1))
        next_BL = jnp.broadcast_to(jnp.arange(1, L + 1), (B, L))
        inputs = tokens_BT, None, document_ids_BT, blocked_BTT, next_BL
        return self.unprojected(*inputs)[0].logits()

    def start(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array, max_new_tokens: int
    ) -> tuple[jax.Array, Cache]:
        """Process left-padded prompts: next-token logits_BV, and a cache with room for more."""
        c, (B, L) = self.config, tokens_BL.shape
        M = L - 1 + max_new_tokens
        logits_BV, new_memory = self._next(tokens_BL, document_ids_BL, None)
        empty = jnp.zeros((B, M, c.width), new_memory.inputs[0].dtype)
        memory = Memory((empty,) * c.num_layers, jnp.zeros((B, M), jnp.int32))
        return logits_BV, Cache(lengthen(memory, new_memory, L - 1, M), tokens_BL[:, -1])

    def step(self, token_B: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Process one more token: next-token logits_BV and the updated cache.

        The token before it is read once more, attends to the new one, and is stored in the memory.
        """
        memory, last_B = cache
        tokens_B2 = jnp.stack([last_B, token_B], 1)
        logits_BV, new_memory = self._next(tokens_B2, jnp.ones_like(tokens_B2), memory)
        memory = lengthen(memory, new_memory, 1, memory.document_ids_BM.shape[1])
        return logits_BV, Cache(memory, token_B)

    def _next(self, tokens_BL, document_ids_BL, memory):
        """Return the logits of a query stream behind the last token, and the memory."""
        B, L = tokens_BL.shape
        tokens_BT = jnp.pad(tokens_BL, ((0, 0), (0, 1)))
        document_ids_BT = jnp.concatenate([document_ids_BL, document_ids_BL[:, -1:]], 1)
        blocked_BTT = jnp.broadcast_to(jnp.arange(L + 1) == L, (B, L + 1, L + 1))
        inputs = tokens_BT, None, document_ids_BT, blocked_BTT, jnp.full((B, 1), L)
        unprojected, new_memory = self.unprojected(*inputs, memory)
        return unprojected.logits()[:, 0], new_memory

    def _head(self, x_BLD):
        return UnprojectedLogits(x_BLD, self.trunk.token_embedding.embedding, self.head_bias)


Model = XLNetLM
XLNetTrunk = heads.alone(XLNet)
MODELS = (XLNetLM, XLNetTrunk)
XLNetTagger, XLNetQuestion = heads.tagger(XLNet), heads.question(XLNet)
XLNetMultiLabel = heads.multi_label(XLNetClassifier)
XLNetMultipleChoice = heads.multiple_choice(XLNetClassifier)
TASKS: dict[str, type[nn.Module]] = {
    "classification": XLNetClassifier,
    "multi-label": XLNetMultiLabel,
    "tagging": XLNetTagger,
    "question-answering": XLNetQuestion,
    "multiple-choice": XLNetMultipleChoice,
}
GROUPS = ("trunk/(?:token_embedding|query_start)", r"trunk/blocks_(\d+)/", "")
AXES = (
    (r"position/kernel$", ("fsdp", "tensor", None)),
    (r"(content|position|segment)_bias$", ("tensor", None)),
    (r"segment_embedding$", (None, "tensor", None)),
    (r"head_bias$", ("tensor",)),
    *sharding.AXES,
)
