"""ELECTRA (Clark et al. 2020), a generator and a discriminator.

"Pre-training Text Encoders as Discriminators Rather Than Generators",
https://arxiv.org/abs/2003.10555

Two BERTs without a pooler. The small generator predicts masked tokens; the discriminator, which is
the model to keep, detects which tokens the generator replaced. New compared with BERT: this
objective, and shared embeddings, projected up for a network that is wider.

Departures: the paper shares token and position embeddings; like the released code, we also share
segment embeddings and the norm. electra-small has the generator of the paper, a quarter as wide as
the discriminator; the one published with it has the discriminator's width.

B batch  L length  D width  E embedding width  V vocabulary  P predictions
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers import heads, sharding
from zoo.layers.blocks import PostNormBlock, run_blocks
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import OUTPUT_TABLES, Embedding, UnprojectedLogits
from zoo.layers.feed_forward import ACTIVATIONS, Activation, gelu
from zoo.layers.linear import Dense
from zoo.layers.mask import Mask, learned_positions
from zoo.layers.norm import Norm
from zoo.models import bert


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config of an ELECTRA; the defaults are the base model.

    Fields without a prefix describe the discriminator, or the generator in a generator's own
    folder.
    """

    vocab_size: int = 30522
    max_length: int = 512
    num_layers: int = 12
    num_heads: int = 12
    width: int = 768
    mlp_width: int = 3072
    head_width: int = 64
    dropout: float = 0.1
    embed_width: int = 768
    generator_layers: int = 12  # these four are used by ElectraPretraining only
    generator_heads: int = 4
    generator_width: int = 256
    generator_mlp_width: int = 1024
    num_segments: int = 2
    activation: str = "gelu"
    epsilon: float = 1e-12
    init_std: float = 0.02  # of new weights, before truncation at two standard deviations
    output_table: str = "tied"  # of the vocabulary head; a name in OUTPUT_TABLES
    labels: tuple[str, ...] = heads.LABELS
    null_threshold: float | None = None  # see heads.Question


# Parameter counts include both networks and their heads; shared parameters count once.
SIZES = {
    "electra-tiny": Config(
        vocab_size=1024,
        max_length=128,
        num_layers=3,
        num_heads=4,
        width=128,
        mlp_width=512,
        head_width=32,
        dropout=0.0,
        embed_width=128,
        generator_layers=0,
        generator_heads=1,
        generator_width=16,
        generator_mlp_width=64,
    ),  # 764,945
    "electra-small": Config(
        num_heads=4,
        width=256,
        mlp_width=1024,
        embed_width=128,
        generator_heads=1,
        generator_width=64,
        generator_mlp_width=256,
    ),  # 14,196,219
    "electra-base": Config(),  # 119,386,427
    "electra-large": Config(
        num_layers=24,
        num_heads=16,
        width=1024,
        mlp_width=4096,
        embed_width=1024,
        generator_layers=24,
    ),  # 354,655,291
}


class Output(NamedTuple):
    """Outputs for pretraining: the generator's token logits and the replaced-token logits."""

    logits_BLV: jax.Array
    replaced_BL: jax.Array


class ReplacedHead(nn.Module):
    """Replaced-token head: x_BLD -> logits_BL, above 0 for a replaced token."""

    width: int
    activation: Activation
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x_BLD: jax.Array) -> jax.Array:
        x_BLD = self.activation(Dense(self.width, self.kernel_init, name="dense")(x_BLD))
        return Dense(1, nn.initializers.glorot_uniform(), name="score")(x_BLD)[..., 0]


class Embeddings(nn.Module):
    """The embeddings that both networks share: tokens_BL -> x_BLE; inputs as for Bert."""

    config: Config

    def setup(self):
        c = self.config
        init = nn.initializers.truncated_normal(c.init_std)
        self.token_embedding = Embedding(c.vocab_size, c.embed_width, init)
        self.position_embedding = Embedding(c.max_length, c.embed_width, init)
        self.segment_embedding = Embedding(c.num_segments, c.embed_width, init)
        self.embedding_norm = Norm(c.epsilon)
        self.embedding_dropout = Dropout(c.dropout)

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
        x_BLE = self.token_embedding(tokens_BL) + self.segment_embedding(segments_BL)
        x_BLE = self.embedding_norm(x_BLE + self.position_embedding(positions_BL))
        return self.embedding_dropout(x_BLE, train=train)


class Electra(nn.Module):
    """The trunk of either network: tokens_BL -> x_BLD; inputs as for Bert."""

    config: Config

    def setup(self):
        c = self.config
        init = nn.initializers.truncated_normal(c.init_std)
        self.embeddings = Embeddings(c)
        self.project = Dense(c.width, nn.initializers.glorot_uniform())  # used if widths differ
        sizes = c.num_heads, c.head_width, c.width, c.mlp_width, c.dropout
        self.blocks = [
            PostNormBlock(*sizes, ACTIVATIONS[c.activation], c.epsilon, init)
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
        x_BLE = self.embeddings(tokens_BL, segments_BL, document_ids_BL, train=train)
        return self.encode(x_BLE, document_ids_BL, train=train)

    read = __call__

    def encode(
        self, x_BLE: jax.Array, document_ids_BL: jax.Array | None, *, train: bool = False
    ) -> jax.Array:
        """Return x_BLD for embeddings computed elsewhere."""
        x_BLD = x_BLE if self.config.embed_width == self.config.width else self.project(x_BLE)
        mask = Mask.bidirectional(document_ids_BL)
        return run_blocks(self, self.blocks, x_BLD, mask, train=train)[-1]


class ElectraClassifier(heads.TwoLayers):
    """Classifier of a text or a pair of texts, from its [CLS]."""

    trunk_class = Electra
    activation = staticmethod(gelu)


SUMMARY_DROPOUT = 0.1  # of multiple choice, independent of the trunk's dropout


class ElectraScorer(heads.OnTrunk):
    """Scorer of a choice, from its [CLS]: with dropout after the summary only."""

    trunk_class = Electra
    pool = staticmethod(heads.first_token)

    def setup(self):
        super().setup()
        self.summary, self.dropout = Dense(self.config.width, heads.INIT), Dropout(SUMMARY_DROPOUT)
        self.classes = Dense(self.num_outputs, heads.INIT)

    def head(self, x_BD: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the logits: logits_BC."""
        return self.classes(self.dropout(gelu(self.summary(x_BD)), train=train))


class ElectraDiscriminator(nn.Module):
    """The trunk with a replaced-token head."""

    config: Config

    def setup(self):
        c = self.config
        init = nn.initializers.truncated_normal(c.init_std)
        self.trunk = Electra(c)
        self.replaced_head = ReplacedHead(c.width, ACTIVATIONS[c.activation], init)

    def __call__(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None = None,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Return the replaced-token logits: logits_BL, above 0 for a replaced token."""
        return self.replaced_head(self.trunk(tokens_BL, segments_BL, document_ids_BL, train=train))

    detect = __call__


class ElectraGenerator(nn.Module):
    """The trunk with a masked-token head."""

    config: Config

    def setup(self):
        c = self.config
        init = nn.initializers.truncated_normal(c.init_std)
        self.trunk = Electra(c)
        self.masked_head = bert.MaskedHead(c.embed_width, c.vocab_size, gelu, c.epsilon, init)
        self.output_table = OUTPUT_TABLES[c.output_table](c.vocab_size, c.embed_width, init)

    def masked_unprojected(self, x_BPD: jax.Array) -> UnprojectedLogits:
        """Return masked-token logits of hidden states, before the vocabulary product."""
        table_VE = self.output_table(self.trunk.embeddings.token_embedding.embedding)
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


class ElectraPretraining(nn.Module):
    """The generator and the discriminator, with their heads."""

    config: Config

    def setup(self):
        c = self.config
        init = nn.initializers.truncated_normal(c.init_std)
        self.embeddings = Embeddings(c)
        # Both trunks get the shared embeddings, so Flax creates none of their own.
        self.generator, self.discriminator = Electra(generator(c)), Electra(c)
        self.masked_head = bert.MaskedHead(c.embed_width, c.vocab_size, gelu, c.epsilon, init)
        self.output_table = OUTPUT_TABLES[c.output_table](c.vocab_size, c.embed_width, init)
        self.replaced_head = ReplacedHead(c.width, ACTIVATIONS[c.activation], init)

    @staticmethod
    def part(cls: type, config: Config, params: dict) -> tuple[Config, dict]:
        """Return the config and the parameters of one network, by its class.

        Models for tasks are built on the discriminator.
        """
        name, parts = "discriminator", ["replaced_head"]
        if cls is ElectraGenerator:
            name, parts, config = "generator", ["masked_head", "output_table"], generator(config)
        trunk = {"embeddings": params["embeddings"], **params[name]}
        # A tied output table has no parameters.
        return config, {"trunk": trunk} | {part: params[part] for part in parts if part in params}

    def masked_unprojected(self, x_BPD: jax.Array) -> UnprojectedLogits:
        """Return the generator's masked-token logits, before the vocabulary product."""
        table_VE = self.output_table(self.embeddings.token_embedding.embedding)
        return self.masked_head(x_BPD, table_VE)

    def generator_unprojected(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None,
        document_ids_BL: jax.Array | None,
        predictions_BP: jax.Array,
        *,
        train: bool = False,
    ) -> UnprojectedLogits:
        """Return the generator's logits at `predictions_BP`, before the vocabulary product."""
        x_BLE = self.embeddings(tokens_BL, segments_BL, document_ids_BL, train=train)
        x_BLD = self.generator.encode(x_BLE, document_ids_BL, train=train)
        return self.masked_unprojected(
            jnp.take_along_axis(x_BLD, predictions_BP[..., None], axis=1)
        )

    def detect(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None = None,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Return the discriminator's logits_BL, above 0 for a replaced token."""
        x_BLE = self.embeddings(tokens_BL, segments_BL, document_ids_BL, train=train)
        return self.replaced_head(self.discriminator.encode(x_BLE, document_ids_BL, train=train))

    def __call__(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None = None,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> Output:
        """Return the outputs of both networks on the same tokens."""
        inputs = tokens_BL, segments_BL, document_ids_BL
        positions_BP = jnp.broadcast_to(jnp.arange(tokens_BL.shape[1]), tokens_BL.shape)
        unprojected = self.generator_unprojected(*inputs, positions_BP, train=train)
        return Output(unprojected.logits(), self.detect(*inputs, train=train))

    def fill(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None,
        masked_BP: jax.Array,
        document_ids_BL: jax.Array | None = None,
    ) -> jax.Array:
        """Return the logits at positions `masked_BP`, where the tokens have [MASK]: logits_BPV."""
        return self.generator_unprojected(
            tokens_BL, segments_BL, document_ids_BL, masked_BP
        ).logits()


Model = ElectraPretraining
ElectraTrunk = heads.alone(Electra)
MODELS = (ElectraPretraining, ElectraDiscriminator, ElectraGenerator, ElectraTrunk)
ElectraTagger, ElectraQuestion = heads.tagger(Electra), heads.question(Electra)
ElectraMultiLabel = heads.multi_label(ElectraClassifier)
ElectraMultipleChoice = heads.multiple_choice(ElectraScorer)
TASKS: dict[str, type[nn.Module]] = {
    "classification": ElectraClassifier,
    "multi-label": ElectraMultiLabel,
    "tagging": ElectraTagger,
    "question-answering": ElectraQuestion,
    "multiple-choice": ElectraMultipleChoice,
}
GROUPS = ("trunk/(?:embeddings|project)/", r"trunk/blocks_(\d+)/", "")
AXES = ((r"project/kernel$", (None, "fsdp")), *sharding.AXES)
GENERATOR = ("generator_layers", "generator_heads", "generator_width", "generator_mlp_width")


def generator(c: Config) -> Config:
    """Return the config of the generator."""
    names = ("num_layers", "num_heads", "width", "mlp_width")
    sizes = {ours: getattr(c, field) for ours, field in zip(names, GENERATOR, strict=True)}
    return replace(c, **sizes, head_width=c.generator_width // c.generator_heads)
