"""DistilBERT (Sanh et al. 2019), "a distilled version of BERT".

https://arxiv.org/abs/1910.01108
A BERT with half the layers, initialized from six of the twelve layers of a trained BERT and trained
to match that teacher's output distribution. New compared with BERT: no segments, no pooler and no
next-sentence prediction.

Departures: dropout is applied to the output of attention, as in BERT; the released code does not
apply it. There is no other difference, so the block is BERT's.

B batch  L length  D width  V vocabulary  P predictions
"""

from dataclasses import dataclass

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
    """The config of a DistilBERT; the defaults are the uncased base model."""

    vocab_size: int = 30522
    max_length: int = 512
    num_layers: int = 6
    num_heads: int = 12
    width: int = 768
    mlp_width: int = 3072
    head_width: int = 64
    dropout: float = 0.1
    activation: str = "gelu"
    epsilon: float = 1e-12
    init_std: float = 0.02  # of new weights
    output_table: str = "tied"  # of the vocabulary head; a name in OUTPUT_TABLES
    labels: tuple[str, ...] = heads.LABELS
    null_threshold: float | None = None  # see heads.Question


SIZES = {
    "distilbert-tiny": Config(
        vocab_size=4096,
        max_length=128,
        num_layers=2,
        num_heads=4,
        width=256,
        mlp_width=1024,
        dropout=0.0,
    ),  # 2,731,776
    "distilbert-base-uncased": Config(),  # 66,985,530
    "distilbert-base-cased": Config(vocab_size=28996),  # 65,812,036
    "distilbert-base-multilingual-cased": Config(vocab_size=119547),  # 135,445,755
}

CLASS_DROPOUT = 0.2  # before the classifier, independent of the trunk's dropout


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


class DistilBert(nn.Module):
    """The trunk, without a head: tokens_BL -> x_BLD.

    `document_ids_BL` counts documents from 1; 0 is padding, so a 0/1 mask is valid.
    """

    config: Config

    def setup(self):
        c = self.config
        init = nn.initializers.normal(c.init_std)
        self.token_embedding = Embedding(c.vocab_size, c.width, init)
        self.position_embedding = Embedding(c.max_length, c.width, init)
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
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        positions_BL = learned_positions(tokens_BL, document_ids_BL, self.config.max_length)
        x_BLD = self.token_embedding(tokens_BL)
        x_BLD = self.embedding_norm(x_BLD + self.position_embedding(positions_BL))
        x_BLD = self.embedding_dropout(x_BLD, train=train)
        mask = Mask.bidirectional(document_ids_BL)
        return run_blocks(self, self.blocks, x_BLD, mask, train=train)[-1]

    def read(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None,
        document_ids_BL: jax.Array | None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Return x_BLD for a task head; segments are ignored."""
        return self(tokens_BL, document_ids_BL, train=train)


class DistilBertClassifier(heads.OnTrunk):
    """Classifier of a text or a pair of texts, from its [CLS]."""

    trunk_class = DistilBert
    pool = staticmethod(heads.first_token)

    def setup(self):
        super().setup()
        self.pre_classifier, self.dropout = (
            Dense(self.config.width, heads.INIT),
            Dropout(CLASS_DROPOUT),
        )
        self.classes = Dense(self.num_outputs, heads.INIT)

    def head(self, x_BD: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the logits of the classes: logits_BC."""
        x_BD = nn.relu(self.pre_classifier(x_BD))
        return self.classes(self.dropout(x_BD, train=train))


class DistilBertQuestion(heads.Question):
    """Extractive question answering, with dropout on the head's input."""

    trunk_class = DistilBert

    def setup(self):
        super().setup()
        self.dropout = Dropout(self.config.dropout)

    def head(self, x_BLD: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the logits of the answer's first and last token: logits_BL2."""
        return super().head(self.dropout(x_BLD, train=train))


class DistilBertLM(nn.Module):
    """The trunk with a masked-token head."""

    config: Config

    def setup(self):
        c = self.config
        init = nn.initializers.normal(c.init_std)
        self.trunk = DistilBert(c)
        self.masked_head = MaskedHead(
            c.width, c.vocab_size, ACTIVATIONS[c.activation], c.epsilon, init
        )
        self.output_table = OUTPUT_TABLES[c.output_table](c.vocab_size, c.width, init)

    def masked_unprojected(self, x_BPD: jax.Array) -> UnprojectedLogits:
        """Return masked-token logits of hidden states, before the vocabulary product."""
        table_VD = self.output_table(self.trunk.token_embedding.embedding)
        return self.masked_head(x_BPD, table_VD)

    def unprojected(
        self,
        tokens_BL: jax.Array,
        document_ids_BL: jax.Array | None,
        predictions_BP: jax.Array,
        *,
        train: bool = False,
    ) -> UnprojectedLogits:
        """Return the logits at positions `predictions_BP`, before the vocabulary product."""
        x_BLD = self.trunk(tokens_BL, document_ids_BL, train=train)
        x_BPD = jnp.take_along_axis(x_BLD, predictions_BP[..., None], axis=1)
        return self.masked_unprojected(x_BPD)

    def __call__(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """Return the logits of every token: logits_BLV."""
        x_BLD = self.trunk(tokens_BL, document_ids_BL, train=train)
        return self.masked_unprojected(x_BLD).logits()

    def fill(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None,
        masked_BP: jax.Array,
        document_ids_BL: jax.Array | None = None,
    ) -> jax.Array:
        """Return the logits at positions `masked_BP`, where the tokens have [MASK]: logits_BPV."""
        return self.unprojected(tokens_BL, document_ids_BL, masked_BP).logits()


Model = DistilBertLM
DistilBertTrunk = heads.alone(DistilBert)
MODELS = (DistilBertLM, DistilBertTrunk)
DistilBertTagger = heads.tagger(DistilBert)
DistilBertMultiLabel = heads.multi_label(DistilBertClassifier)
DistilBertMultipleChoice = heads.multiple_choice(DistilBertClassifier)
TASKS: dict[str, type[nn.Module]] = {
    "classification": DistilBertClassifier,
    "multi-label": DistilBertMultiLabel,
    "tagging": DistilBertTagger,
    "question-answering": DistilBertQuestion,
    "multiple-choice": DistilBertMultipleChoice,
}
GROUPS = (r"trunk/\w*embedding", r"trunk/blocks_(\d+)/", "")
AXES = sharding.AXES
