"""ALBERT (Lan et al. 2019), "A Lite BERT for Self-supervised Learning of Language Representations".

https://arxiv.org/abs/1909.11942
A BERT with few parameters. New compared with BERT: all layers (or all layers of a group) share one
block; token embeddings are narrow and projected up to the model width; the second objective is
sentence order: whether two segments are in order or swapped.

Departures: gelu is the tanh approximation, as in the released code. The last dropout of each block
is applied, as in the released code (transformers omits it); the dropout that transformers applies
before the order head is not. As in transformers, embeddings are projected even when they already
have the model width, and a layer may be more than one block.

B batch  L length  D width  E embedding width  V vocabulary  P predictions
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers import heads, sharding
from zoo.layers.blocks import PostNormBlock, run_blocks
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import OUTPUT_TABLES, Embedding, UnprojectedLogits
from zoo.layers.feed_forward import ACTIVATIONS, Activation
from zoo.layers.linear import Dense
from zoo.layers.mask import Mask, learned_positions
from zoo.layers.norm import Norm
from zoo.models import bert


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config of an ALBERT; the defaults are the base model of version 1."""

    vocab_size: int = 30000
    max_length: int = 512
    num_layers: int = 12
    num_heads: int = 12
    width: int = 768
    mlp_width: int = 3072
    head_width: int = 64
    dropout: float = 0.1
    num_segments: int = 2
    embed_width: int = 128
    num_groups: int = 1  # of layers that share their weights
    group_blocks: int = 1  # the number of blocks of a layer
    activation: str = "gelu_tanh"
    epsilon: float = 1e-12
    init_std: float = 0.02  # of new weights, before truncation at two standard deviations
    output_table: str = "tied"  # of the vocabulary head; a name in OUTPUT_TABLES
    labels: tuple[str, ...] = heads.LABELS
    null_threshold: float | None = None  # see heads.Question


SIZES = {
    "albert-tiny": Config(
        vocab_size=4096,
        max_length=128,
        num_layers=4,
        num_heads=4,
        width=256,
        mlp_width=1024,
        dropout=0.0,
        embed_width=64,
    ),  # 1,163,970
    "albert-base-v1": Config(),  # 11,813,810
    "albert-large-v1": Config(
        num_layers=24, num_heads=16, width=1024, mlp_width=4096
    ),  # 17,847,474
    "albert-xlarge-v1": Config(
        num_layers=24, num_heads=16, width=2048, mlp_width=8192, head_width=128
    ),  # 59,021,490
    "albert-xxlarge-v1": Config(
        num_heads=64, width=4096, mlp_width=16384, dropout=0.0
    ),  # 223,158,450
    "albert-base-v2": Config(dropout=0.0),  # 11,813,810
    "albert-large-v2": Config(
        num_layers=24, num_heads=16, width=1024, mlp_width=4096, dropout=0.0
    ),  # 17,847,474
    "albert-xlarge-v2": Config(
        num_layers=24, num_heads=16, width=2048, mlp_width=8192, head_width=128, dropout=0.0
    ),  # 59,021,490
    "albert-xxlarge-v2": Config(
        num_heads=64, width=4096, mlp_width=16384, dropout=0.0
    ),  # 223,158,450
}

CLASS_DROPOUT = 0.1  # in every release, independent of the trunk's dropout


class Output(NamedTuple):
    """Outputs for pretraining: token logits, and logits for A and B in order (0) or swapped (1)."""

    logits_BLV: jax.Array
    order_B2: jax.Array


class MaskedHead(nn.Module):
    """Masked-token head: x_BPD and the token table_VE -> UnprojectedLogits."""

    embed_width: int
    vocab_size: int
    activation: Activation
    epsilon: float
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x_BPD: jax.Array, table_VE: jax.Array) -> UnprojectedLogits:
        x_BPE = self.activation(Dense(self.embed_width, self.kernel_init, name="dense")(x_BPD))
        bias_V = self.param("bias", nn.initializers.zeros, (self.vocab_size,))
        return UnprojectedLogits(Norm(self.epsilon, name="norm")(x_BPE), table_VE, bias_V)


class Albert(nn.Module):
    """The trunk, without a head: tokens_BL -> x_BLD.

    `document_ids_BL` counts documents from 1; 0 is padding, so a 0/1 mask is valid.
    Without segments, every token is in segment 0.
    """

    config: Config

    def setup(self):
        c = self.config
        init = nn.initializers.truncated_normal(c.init_std)
        self.token_embedding = Embedding(c.vocab_size, c.embed_width, init)
        self.position_embedding = Embedding(c.max_length, c.embed_width, init)
        self.segment_embedding = Embedding(c.num_segments, c.embed_width, init)
        self.embedding_norm = Norm(c.epsilon)
        self.embedding_dropout = Dropout(c.dropout)
        self.project = Dense(c.width, init)
        sizes = c.num_heads, c.head_width, c.width, c.mlp_width, c.dropout
        self.blocks = [
            PostNormBlock(*sizes, ACTIVATIONS[c.activation], c.epsilon, init)
            for _ in range(c.num_groups * c.group_blocks)
        ]

    def __call__(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None = None,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        c = self.config
        positions_BL = learned_positions(tokens_BL, document_ids_BL, c.max_length)
        if segments_BL is None:
            segments_BL = jnp.zeros_like(tokens_BL)
        x_BLE = self.token_embedding(tokens_BL) + self.segment_embedding(segments_BL)
        x_BLE = self.embedding_norm(x_BLE + self.position_embedding(positions_BL))
        x_BLD = self.project(self.embedding_dropout(x_BLE, train=train))
        mask = Mask.bidirectional(document_ids_BL)
        per_group = c.num_layers / c.num_groups  # a fraction is rounded as in transformers
        first = [int(i / per_group) * c.group_blocks for i in range(c.num_layers)]
        blocks = [self.blocks[n + i] for n in first for i in range(c.group_blocks)]
        return run_blocks(self, blocks, x_BLD, mask, train=train)[-1]

    read = __call__


class AlbertClassifier(heads.OnTrunk):
    """Classifier of a text or a pair of texts, from the pooled [CLS]."""

    config: Config
    trunk_class = Albert
    pool = staticmethod(heads.first_token)

    def setup(self):
        super().setup()
        init = nn.initializers.truncated_normal(self.config.init_std)
        self.pooler, self.dropout = bert.Pooler(self.config.width, init), Dropout(CLASS_DROPOUT)
        self.classes = Dense(self.num_outputs, heads.INIT)

    def head(self, x_BD: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the logits of the classes: logits_BC."""
        return self.classes(self.dropout(self.pooler(x_BD), train=train))


class AlbertLM(nn.Module):
    """The trunk with a masked-token head only."""

    config: Config

    def setup(self):
        c = self.config
        init = nn.initializers.truncated_normal(c.init_std)
        self.trunk = Albert(c)
        self.masked_head = MaskedHead(
            c.embed_width, c.vocab_size, ACTIVATIONS[c.activation], c.epsilon, init
        )
        self.output_table = OUTPUT_TABLES[c.output_table](c.vocab_size, c.embed_width, init)

    def masked_unprojected(self, x_BPD: jax.Array) -> UnprojectedLogits:
        """Return masked-token logits of hidden states, before the vocabulary product."""
        table_VE = self.output_table(self.trunk.token_embedding.embedding)
        return self.masked_head(x_BPD, table_VE)

    def unprojected(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None,
        document_ids_BL: jax.Array | None,
        predictions_BP: jax.Array,
        *,
        train: bool = False,
    ) -> UnprojectedLogits:
        """Return the logits at positions `predictions_BP`, before the vocabulary product."""
        x_BLD = self.trunk(tokens_BL, segments_BL, document_ids_BL, train=train)
        return self.masked_unprojected(
            jnp.take_along_axis(x_BLD, predictions_BP[..., None], axis=1)
        )

    def __call__(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None = None,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Return the logits of every token: logits_BLV."""
        x_BLD = self.trunk(tokens_BL, segments_BL, document_ids_BL, train=train)
        return self.masked_unprojected(x_BLD).logits()

    def fill(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None,
        masked_BP: jax.Array,
        document_ids_BL: jax.Array | None = None,
    ) -> jax.Array:
        """Return the logits at positions `masked_BP`, where the tokens have [MASK]: logits_BPV."""
        return self.unprojected(tokens_BL, segments_BL, document_ids_BL, masked_BP).logits()


class AlbertPretraining(nn.Module):
    """The trunk with both pretraining heads: masked tokens and sentence order."""

    config: Config

    def setup(self):
        c = self.config
        init = nn.initializers.truncated_normal(c.init_std)
        self.trunk = Albert(c)
        self.pooler = bert.Pooler(c.width, init)
        self.masked_head = MaskedHead(
            c.embed_width, c.vocab_size, ACTIVATIONS[c.activation], c.epsilon, init
        )
        self.output_table = OUTPUT_TABLES[c.output_table](c.vocab_size, c.embed_width, init)
        self.order_head = Dense(2, init)

    def masked_unprojected(self, x_BPD: jax.Array) -> UnprojectedLogits:
        """Return masked-token logits of hidden states, before the vocabulary product."""
        table_VE = self.output_table(self.trunk.token_embedding.embedding)
        return self.masked_head(x_BPD, table_VE)

    def unprojected(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None,
        document_ids_BL: jax.Array | None,
        predictions_BP: jax.Array,
        *,
        train: bool = False,
    ) -> tuple[UnprojectedLogits, jax.Array]:
        """Return token logits at `predictions_BP`, before the vocabulary product, and order_B2."""
        x_BLD = self.trunk(tokens_BL, segments_BL, document_ids_BL, train=train)
        x_BPD = jnp.take_along_axis(x_BLD, predictions_BP[..., None], axis=1)
        return self._heads(x_BPD, x_BLD)

    def __call__(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None = None,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> Output:
        """Return the logits of every token and of the sentence order."""
        x_BLD = self.trunk(tokens_BL, segments_BL, document_ids_BL, train=train)
        unprojected, order_B2 = self._heads(x_BLD, x_BLD)
        return Output(unprojected.logits(), order_B2)

    def fill(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None,
        masked_BP: jax.Array,
        document_ids_BL: jax.Array | None = None,
    ) -> jax.Array:
        """Return the logits at positions `masked_BP`, where the tokens have [MASK]: logits_BPV."""
        return self.unprojected(tokens_BL, segments_BL, document_ids_BL, masked_BP)[0].logits()

    def _heads(self, x_BPD, x_BLD):
        return self.masked_unprojected(x_BPD), self.order_head(self.pooler(x_BLD[:, 0]))


Model = AlbertPretraining
AlbertTrunk = heads.alone(Albert)
MODELS = (AlbertPretraining, AlbertLM, AlbertTrunk)
AlbertTagger, AlbertQuestion = heads.tagger(Albert), heads.question(Albert)
AlbertMultiLabel = heads.multi_label(AlbertClassifier)
AlbertMultipleChoice = heads.multiple_choice(AlbertClassifier)
TASKS: dict[str, type[nn.Module]] = {
    "classification": AlbertClassifier,
    "multi-label": AlbertMultiLabel,
    "tagging": AlbertTagger,
    "question-answering": AlbertQuestion,
    "multiple-choice": AlbertMultipleChoice,
}
GROUPS = (r"trunk/(?:\w*embedding|project)", r"trunk/blocks_(\d+)/", "")
AXES = ((r"project/kernel$", (None, "fsdp")), *sharding.AXES)
