"""BERT (Devlin et al. 2018), "Pre-training of Deep Bidirectional Transformers".

https://arxiv.org/abs/1810.04805
A bidirectional Transformer encoder, pretrained to predict masked tokens and whether segment B
follows segment A. New compared with the Transformer: learned positions, segment embeddings and the
gelu. The input is `[CLS] A [SEP] B [SEP]`; the hidden state of [CLS] represents the pair.

Departures: we use the exact gelu, like the first release and transformers; the current release uses
the tanh approximation. Positions count real tokens only, so left padding does not change the
result.

B batch  L length  D width  V vocabulary  P predictions
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


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config of a BERT; the defaults are the uncased base model."""

    vocab_size: int = 30522
    max_length: int = 512
    num_layers: int = 12
    num_heads: int = 12
    width: int = 768
    mlp_width: int = 3072
    head_width: int = 64
    dropout: float = 0.1
    num_segments: int = 2
    activation: str = "gelu"
    epsilon: float = 1e-12
    init_std: float = 0.02  # of new weights, before truncation at two standard deviations
    output_table: str = "tied"  # of the vocabulary head; a name in OUTPUT_TABLES
    labels: tuple[str, ...] = heads.LABELS
    null_threshold: float | None = None  # see heads.Question


# The miniatures of Turc et al. (2019), https://arxiv.org/abs/1908.08962, differ in depth and width.
MINIATURES = {
    f"bert-L{depth}-H{width}-uncased": Config(
        num_layers=depth, num_heads=width // 64, width=width, mlp_width=4 * width
    )
    for depth in (2, 4, 6, 8, 10, 12)
    for width in (128, 256, 512, 768)
}
SIZES = {
    "bert-tiny": Config(
        vocab_size=4096,
        max_length=128,
        num_layers=4,
        num_heads=4,
        width=256,
        mlp_width=1024,
        dropout=0.0,
    ),  # 4,378,114
    "bert-shallow": Config(
        vocab_size=8192,
        max_length=128,
        num_layers=2,
        num_heads=2,
        width=128,
        mlp_width=512,
        dropout=0.0,
    ),  # 1,503,746
    "bert-base-uncased": Config(),  # 110,106,428
    "bert-base-cased": Config(vocab_size=28996),  # 108,932,934
    "bert-base-chinese": Config(vocab_size=21128),  # 102,882,442
    "bert-base-multilingual-cased": Config(vocab_size=119547),  # 178,566,653
    "bert-base-multilingual-uncased": Config(vocab_size=105879),  # 168,055,961
    "bert-large-uncased": Config(
        num_layers=24, num_heads=16, width=1024, mlp_width=4096
    ),  # 336,226,108
    "bert-large-cased": Config(
        vocab_size=28996, num_layers=24, num_heads=16, width=1024, mlp_width=4096
    ),  # 334,661,958
} | MINIATURES


class Output(NamedTuple):
    """Outputs for pretraining: token logits, and logits for B following A (0) or not (1)."""

    logits_BLV: jax.Array
    next_B2: jax.Array


class Pooler(nn.Module):
    """One vector per text, computed from that of its first token: x_BD -> x_BD."""

    width: int
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x_BD: jax.Array) -> jax.Array:
        return jnp.tanh(Dense(self.width, self.kernel_init, name="dense")(x_BD))


class MaskedHead(nn.Module):
    """Masked-token head: x_BPD and the token table_VD -> UnprojectedLogits."""

    width: int
    vocab_size: int
    activation: Activation
    epsilon: float
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x_BPD: jax.Array, table_VD: jax.Array) -> UnprojectedLogits:
        x_BPD = self.activation(Dense(self.width, self.kernel_init, name="dense")(x_BPD))
        bias_V = self.param("bias", nn.initializers.zeros, (self.vocab_size,))
        return UnprojectedLogits(Norm(self.epsilon, name="norm")(x_BPD), table_VD, bias_V)


class Bert(nn.Module):
    """The trunk, without a head: tokens_BL -> x_BLD.

    `document_ids_BL` counts documents from 1; 0 is padding, so a 0/1 mask is valid.
    Without segments, every token is in segment 0.
    """

    config: Config

    def setup(self):
        c = self.config
        init = nn.initializers.truncated_normal(c.init_std)
        self.token_embedding = Embedding(c.vocab_size, c.width, init)
        self.position_embedding = Embedding(c.max_length, c.width, init)
        self.segment_embedding = Embedding(c.num_segments, c.width, init)
        self.embedding_norm = Norm(c.epsilon)
        self.embedding_dropout = Dropout(c.dropout)
        self.blocks = [
            PostNormBlock(
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

    def __call__(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None = None,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        positions_BL = learned_positions(tokens_BL, document_ids_BL, self.config.max_length)
        if segments_BL is None:
            segments_BL = jnp.zeros_like(tokens_BL)
        x_BLD = self.token_embedding(tokens_BL) + self.segment_embedding(segments_BL)
        x_BLD = self.embedding_norm(x_BLD + self.position_embedding(positions_BL))
        x_BLD = self.embedding_dropout(x_BLD, train=train)
        mask = Mask.bidirectional(document_ids_BL)
        return run_blocks(self, self.blocks, x_BLD, mask, train=train)[-1]

    read = __call__


class BertClassifier(heads.OnTrunk):
    """Classifier of a text or a pair of texts, from the pooled [CLS] (section 4.1)."""

    config: Config
    trunk_class = Bert
    pool = staticmethod(heads.first_token)

    def setup(self):
        super().setup()
        c = self.config
        self.pooler = Pooler(c.width, nn.initializers.truncated_normal(c.init_std))
        self.dropout = Dropout(c.dropout)
        self.classes = Dense(self.num_outputs, heads.INIT)

    def head(self, x_BD: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the logits of the classes: logits_BC."""
        return self.classes(self.dropout(self.pooler(x_BD), train=train))


class BertLM(nn.Module):
    """The trunk with the head for masked tokens alone, without a pooler."""

    config: Config

    def setup(self):
        c = self.config
        init = nn.initializers.truncated_normal(c.init_std)
        self.trunk = Bert(c)
        self.masked_head = MaskedHead(
            c.width, c.vocab_size, ACTIVATIONS[c.activation], c.epsilon, init
        )
        self.output_table = OUTPUT_TABLES[c.output_table](c.vocab_size, c.width, init)

    def masked_unprojected(self, x_BPD: jax.Array) -> UnprojectedLogits:
        """Return masked-token logits of hidden states, before the vocabulary product."""
        table_VD = self.output_table(self.trunk.token_embedding.embedding)
        return self.masked_head(x_BPD, table_VD)

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
        x_BLD = self.trunk(tokens_BL, segments_BL, document_ids_BL)
        x_BPD = jnp.take_along_axis(x_BLD, masked_BP[..., None], axis=1)
        return self.masked_unprojected(x_BPD).logits()


class BertNextSentence(heads.OnTrunk):
    """The trunk with the head for the next sentence alone: next_B2."""

    config: Config
    trunk_class = Bert
    pool = staticmethod(heads.first_token)

    def setup(self):
        super().setup()
        init = nn.initializers.truncated_normal(self.config.init_std)
        self.pooler, self.next_head = Pooler(self.config.width, init), Dense(2, init)

    def head(self, x_BD: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the logits of "is next" and "is not": next_B2."""
        return self.next_head(self.pooler(x_BD))


class BertPretraining(nn.Module):
    """The trunk with both pretraining heads: masked tokens and next sentence."""

    config: Config

    def setup(self):
        c = self.config
        init = nn.initializers.truncated_normal(c.init_std)
        self.trunk = Bert(c)
        self.pooler = Pooler(c.width, init)
        self.masked_head = MaskedHead(
            c.width, c.vocab_size, ACTIVATIONS[c.activation], c.epsilon, init
        )
        self.output_table = OUTPUT_TABLES[c.output_table](c.vocab_size, c.width, init)
        self.next_head = Dense(2, init)

    def masked_unprojected(self, x_BPD: jax.Array) -> UnprojectedLogits:
        """Return masked-token logits of hidden states, before the vocabulary product."""
        table_VD = self.output_table(self.trunk.token_embedding.embedding)
        return self.masked_head(x_BPD, table_VD)

    def unprojected(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None,
        document_ids_BL: jax.Array | None,
        predictions_BP: jax.Array,
        *,
        train: bool = False,
    ) -> tuple[UnprojectedLogits, jax.Array]:
        """Return token logits at `predictions_BP`, before the vocabulary product, and next_B2."""
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
        """Return the logits of every token and of the next-sentence task."""
        x_BLD = self.trunk(tokens_BL, segments_BL, document_ids_BL, train=train)
        unprojected, next_B2 = self._heads(x_BLD, x_BLD)
        return Output(unprojected.logits(), next_B2)

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
        return self.masked_unprojected(x_BPD), self.next_head(self.pooler(x_BLD[:, 0]))


Model = BertPretraining
BertTrunk = heads.alone(Bert)
MODELS = (BertPretraining, BertLM, BertNextSentence, BertTrunk)
BertTagger, BertQuestion = heads.tagger(Bert), heads.question(Bert)
BertMultiLabel = heads.multi_label(BertClassifier)
BertMultipleChoice = heads.multiple_choice(BertClassifier)
TASKS: dict[str, type[nn.Module]] = {
    "classification": BertClassifier,
    "multi-label": BertMultiLabel,
    "tagging": BertTagger,
    "question-answering": BertQuestion,
    "multiple-choice": BertMultipleChoice,
}
GROUPS = (r"trunk/\w*embedding", r"trunk/blocks_(\d+)/", "")
AXES = sharding.AXES
