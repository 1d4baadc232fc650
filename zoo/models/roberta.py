"""RoBERTa (Liu et al. 2019), "A Robustly Optimized BERT Pretraining Approach".

https://arxiv.org/abs/1907.11692
BERT, trained longer on more text, with masked-token prediction as the only objective. New compared
with BERT: no next-sentence prediction, so no segments and no pooler; rows are packed with full
sentences, and tokens are masked anew in every epoch; byte-level BPE as in GPT-2. DistilRoBERTa
(Sanh et al. 2019) is one of the sizes.

Departures: the classification head applies dropout to its input and to its hidden layer, as in
transformers; the second rate is zero in `fairseq`.

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
from zoo.layers.feed_forward import ACTIVATIONS, gelu
from zoo.layers.linear import Dense
from zoo.layers.mask import Mask, learned_positions
from zoo.layers.norm import Norm
from zoo.models.bert import Pooler


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config of a RoBERTa; the defaults are the base model."""

    vocab_size: int = 50265
    max_length: int = 512
    num_layers: int = 12
    num_heads: int = 12
    width: int = 768
    mlp_width: int = 3072
    head_width: int = 64
    dropout: float = 0.1
    num_segments: int = 1  # only the first is used
    activation: str = "gelu"
    epsilon: float = 1e-5  # PyTorch's default; BERT uses 1e-12
    init_std: float = 0.02  # of new weights
    output_table: str = "tied"  # of the vocabulary head; a name in OUTPUT_TABLES
    labels: tuple[str, ...] = heads.LABELS
    null_threshold: float | None = None  # see heads.Question


SIZES = {
    "roberta-tiny": Config(
        vocab_size=4096,
        max_length=128,
        num_layers=4,
        num_heads=4,
        width=256,
        mlp_width=1024,
        dropout=0.0,
    ),  # 4,312,064
    "roberta-base": Config(),  # 124,697,433
    "roberta-large": Config(num_layers=24, num_heads=16, width=1024, mlp_width=4096),  # 355,412,057
    "distilroberta-base": Config(num_layers=6),  # 82,170,201
}

PADDING = 1  # the id of padding and its position; real tokens start after it


class MaskedHead(nn.Module):
    """Masked-token head: x_BPD and the token table_VD -> UnprojectedLogits."""

    width: int
    vocab_size: int
    epsilon: float
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x_BPD: jax.Array, table_VD: jax.Array) -> UnprojectedLogits:
        x_BPD = gelu(Dense(self.width, self.kernel_init, name="dense")(x_BPD))
        bias_V = self.param("bias", nn.initializers.zeros, (self.vocab_size,))
        return UnprojectedLogits(Norm(self.epsilon, name="norm")(x_BPD), table_VD, bias_V)


class Roberta(nn.Module):
    """The trunk, without a head: tokens_BL -> x_BLD.

    `document_ids_BL` counts documents from 1; 0 is padding, so a 0/1 mask is valid.
    """

    config: Config

    def setup(self):
        c = self.config
        init = nn.initializers.normal(c.init_std)
        self.token_embedding = Embedding(c.vocab_size, c.width, init)
        self.position_embedding = Embedding(PADDING + 1 + c.max_length, c.width, init)
        # RoBERTa has no segments, but published weights have a single one, zero until fine-tuned.
        # Of more, all tokens are in the first: transformers' tokenizers set no other.
        self.segment_embedding = Embedding(c.num_segments, c.width, nn.initializers.zeros)
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
        length = self.config.max_length
        positions_BL = PADDING + 1 + learned_positions(tokens_BL, document_ids_BL, length)
        if document_ids_BL is not None:
            positions_BL = jnp.where(document_ids_BL > 0, positions_BL, PADDING)
        x_BLD = self.token_embedding(tokens_BL) + self.segment_embedding.embedding[0]
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


class RobertaClassifier(heads.TwoLayers):
    """Classifier of a text or a pair of texts, from its <s>."""

    trunk_class = Roberta
    activation = staticmethod(jnp.tanh)


class RobertaScorer(heads.OnTrunk):
    """Scorer of a choice, from its <s>: with a pooler as in BERT, unlike the classifier."""

    config: Config
    trunk_class = Roberta
    pool = staticmethod(heads.first_token)

    def setup(self):
        super().setup()
        c = self.config
        self.pooler = Pooler(c.width, nn.initializers.normal(c.init_std))
        self.dropout = Dropout(c.dropout)
        self.classes = Dense(self.num_outputs, heads.INIT)

    def head(self, x_BD: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the logits: logits_BC."""
        return self.classes(self.dropout(self.pooler(x_BD), train=train))


class RobertaLM(nn.Module):
    """The trunk with a masked-token head."""

    config: Config

    def setup(self):
        c = self.config
        init = nn.initializers.normal(c.init_std)
        self.trunk = Roberta(c)
        self.masked_head = MaskedHead(c.width, c.vocab_size, c.epsilon, init)
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
        """Return the logits at positions `masked_BP`, where the tokens have <mask>: logits_BPV."""
        return self.unprojected(tokens_BL, document_ids_BL, masked_BP).logits()


Model = RobertaLM
RobertaTrunk = heads.alone(Roberta)
MODELS = (RobertaLM, RobertaTrunk)
RobertaTagger, RobertaQuestion = heads.tagger(Roberta), heads.question(Roberta)
RobertaMultiLabel = heads.multi_label(RobertaClassifier)
RobertaMultipleChoice = heads.multiple_choice(RobertaScorer)
TASKS: dict[str, type[nn.Module]] = {
    "classification": RobertaClassifier,
    "multi-label": RobertaMultiLabel,
    "tagging": RobertaTagger,
    "question-answering": RobertaQuestion,
    "multiple-choice": RobertaMultipleChoice,
}
GROUPS = (r"trunk/\w*embedding", r"trunk/blocks_(\d+)/", "")
AXES = sharding.AXES
