"""XLNet (Yang et al. 2019), "Generalized Autoregressive Pretraining for Language Understanding".

https://arxiv.org/abs/1906.08237
A Transformer-XL that reads both ways: attention scores distances, not positions, and hidden states
of the text before are a memory. New: a second, query stream of the same weights knows where it
stands but not what stands there, so that tokens are predicted in any order.

Departures: gelu is the exact one, as in transformers; the released code trained with its tanh form.
Dropout of the table of distances is drawn once for a batch, not for every row. The part of the
released code that reads half of a batch backwards is left out. Tokens of several documents do not
see each other.

B batch  L length  M memory and length  D width  R distances  V vocabulary  P predictions
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers import heads, sharding
from zoo.layers.blocks import run_blocks
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import Embedding, Scores
from zoo.layers.feed_forward import ACTIVATIONS
from zoo.layers.linear import Dense
from zoo.layers.transformer_xl import Memory, RelativeBlock, Streams, distances, views


@dataclass(frozen=True, kw_only=True)
class Config:
    """The sizes of an XLNet; the defaults are the base model.

    `max_length` is what it was trained at: no table of positions limits the length.
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
    labels: tuple[str, ...] = heads.LABELS


SIZES = {
    "xlnet-tiny": Config(
        vocab_size=4096, num_layers=4, num_heads=4, width=256, mlp_width=1024, dropout=0.0
    ),  # 4,475,136
    "xlnet-base-cased": Config(),  # 116,750,336
    "xlnet-large-cased": Config(
        num_layers=24, num_heads=16, width=1024, mlp_width=4096
    ),  # 360,300,800
}

CLASS_DROPOUT = 0.1  # in front of the classes, whatever the rate elsewhere
STD = 0.02  # of every weight; the biases of the attention too


class XLNet(nn.Module):
    """The trunk: tokens_BL -> x_BLD."""

    config: Config

    def setup(self):
        c = self.config
        init = nn.initializers.normal(STD)
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
        documents_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """x_BLD of the content stream, every token seeing all the tokens of its document.

        `documents_BL`: 0 for padding, else the number of the document, from 1.
        """
        return self.extend(tokens_BL, segments_BL, documents_BL, train=train)[0]

    def extend(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None = None,
        documents_BL: jax.Array | None = None,
        memory: Memory | None = None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, Memory]:
        """The same behind a memory: x_BLD, and what was read, for `lengthen`.

        Padding is best on the right here: on the left it counts as distance to the memory.
        """
        x_BLD, _, read = self._flow(
            tokens_BL, segments_BL, documents_BL, None, None, memory, train=train
        )
        return self.output_dropout(x_BLD, train=train), read

    def streams(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None,
        documents_BL: jax.Array | None,
        blocked_BLL: jax.Array,
        predictions_BP: jax.Array,
        memory: Memory | None = None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, Memory]:
        """The query stream at the positions to predict: query_BPD, and what was read (section 2.3).

        Where `blocked_BLL` is True the row may not see the column; in the content stream a token
        sees itself all the same. The released code runs the query stream over all positions and
        then picks; here it runs at the P positions alone: the same result, for 85 of 512 at a sixth
        of the cost.
        """
        _, query_BPD, read = self._flow(
            tokens_BL, segments_BL, documents_BL, blocked_BLL, predictions_BP, memory, train=train
        )
        return self.output_dropout(query_BPD, train=train), read

    def _flow(self, tokens_BL, segments_BL, documents_BL, blocked_BLL, at_BP, memory, *, train):
        c, (B, L) = self.config, tokens_BL.shape
        if documents_BL is None:
            documents_BL = jnp.ones((B, L), jnp.int32)
        if memory is None:
            empty = (jnp.zeros((B, 0, c.width)),) * c.num_layers
            memory = Memory(empty, jnp.zeros((B, 0), jnp.int32))
        behind = memory.documents_BM.shape[1]
        content, query = views(segments_BL, documents_BL, blocked_BLL, at_BP, memory.documents_BM)

        table_RD = self.distance_dropout(distances(L, behind + L, c.width), train=train)
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
        read = Memory(tuple(streams.content_BLD for streams in inputs), documents_BL)
        return x_BLD, query_BPD, read

    read = __call__


class XLNetClassifier(heads.OnTrunk):
    """The trunk and the classes of a text or of a pair, from its last token, <cls>."""

    trunk_class = XLNet
    pool = staticmethod(heads.last)

    def setup(self):
        super().setup()
        self.summary, self.dropout = Dense(self.config.width, heads.INIT), Dropout(CLASS_DROPOUT)
        self.projection = Dense(len(self.config.labels), heads.INIT)

    def head(self, x_BD: jax.Array, *, train: bool = False) -> jax.Array:
        """The scores of the classes: logits_BC."""
        x_BD = jnp.tanh(self.summary(x_BD))
        return self.projection(self.dropout(x_BD, train=train))


class XLNetLM(nn.Module):
    """The trunk and its language-model head: the token table again, and a bias."""

    config: Config

    def setup(self):
        self.trunk = XLNet(self.config)
        self.head_bias = self.param("head_bias", nn.initializers.zeros, (self.config.vocab_size,))

    def scores(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None,
        documents_BL: jax.Array | None,
        blocked_BLL: jax.Array,
        predictions_BP: jax.Array,
        memory: Memory | None = None,
        *,
        train: bool = False,
    ) -> tuple[Scores, Memory]:
        """What the query stream believes of the predicted positions, and what was read.

        The inputs are those of `XLNet.streams`.
        """
        query_BPD, read = self.trunk.streams(
            tokens_BL, segments_BL, documents_BL, blocked_BLL, predictions_BP, memory, train=train
        )
        return self._head(query_BPD), read

    def __call__(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None = None,
        documents_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """logits_BLV of the content stream; `documents_BL` as in the trunk."""
        return self._head(self.trunk(tokens_BL, segments_BL, documents_BL, train=train)).logits()

    def fill(
        self, tokens_BL: jax.Array, segments_BL: jax.Array | None, gaps_BP: jax.Array
    ) -> jax.Array:
        """The words that fit the gaps, seen by nobody, as the query stream has it: logits_BPV."""
        gap_BL = (gaps_BP[:, :, None] == jnp.arange(tokens_BL.shape[1])).any(1)
        blocked_BLL = jnp.repeat(gap_BL[:, None], tokens_BL.shape[1], 1)
        documents_BL = jnp.ones_like(tokens_BL)
        return self.scores(tokens_BL, segments_BL, documents_BL, blocked_BLL, gaps_BP)[0].logits()

    def _head(self, x_BLD):
        return Scores(x_BLD, self.trunk.token_embedding.embedding, self.head_bias)


Model = XLNetLM
MODELS = (XLNetLM,)
XLNetTagger, XLNetQuestion = heads.tagger(XLNet), heads.question(XLNet)
TASKS: dict[str, type[nn.Module]] = {
    "classification": XLNetClassifier,
    "tagging": XLNetTagger,
    "question-answering": XLNetQuestion,
}
GROUPS = ("trunk/(?:token_embedding|query_start)", r"trunk/blocks_(\d+)/", "")
AXES = (
    (r"position/kernel$", ("fsdp", "tensor", None)),
    (r"(content|position|segment)_bias$", ("tensor", None)),
    (r"segment_embedding$", (None, "tensor", None)),
    (r"head_bias$", ("tensor",)),
    *sharding.AXES,
)
