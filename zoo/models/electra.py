"""ELECTRA (Clark et al. 2020), "Pre-training Text Encoders as Discriminators Rather Than
Generators".

https://arxiv.org/abs/2003.10555
Two BERTs without a pooler: the small one, the generator, guesses hidden tokens; the other, the
discriminator, tells of every token whether it is such a guess, and is the one to keep. New against
BERT: this task, and embeddings that both share, which a map widens where a network is wider.

Departures: the paper shares the embeddings of tokens and positions; the released code shares those
of segments and the norm too, and so do we. electra-small has the paper's generator, of a quarter of
its width; the generator published beside it is as wide as the discriminator.

B batch  L length  D width  E embedding width  V vocabulary  P predictions
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers import heads, sharding
from zoo.layers.attention import Mask, positions
from zoo.layers.blocks import PostNormBlock, run_blocks
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import Embedding, Scores
from zoo.layers.feed_forward import ACTIVATIONS, Activation, gelu
from zoo.layers.linear import Dense
from zoo.layers.norm import Norm
from zoo.models import bert


@dataclass(frozen=True, kw_only=True)
class Config:
    """The sizes of an ELECTRA; the defaults are the base model.

    Those without a name are the discriminator's; in a generator's own folder, the generator's.
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
    generator_layers: int = 12  # these four are for ElectraPretraining alone
    generator_heads: int = 4
    generator_width: int = 256
    generator_mlp_width: int = 1024
    num_segments: int = 2
    activation: str = "gelu"
    epsilon: float = 1e-12
    labels: tuple[str, ...] = heads.LABELS


# Both networks and their heads; what they share is counted once.
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

STD = 0.02  # before the tails beyond two of it are cut off


class Output(NamedTuple):
    """What the generator believes of each token; does the discriminator find it replaced?"""

    logits_BLV: jax.Array
    replaced_BL: jax.Array


class ReplacedHead(nn.Module):
    """Was this token replaced? x_BLD -> logits_BL, above 0 for yes."""

    width: int
    activation: Activation

    @nn.compact
    def __call__(self, x_BLD: jax.Array) -> jax.Array:
        init = nn.initializers.truncated_normal(STD)
        x_BLD = self.activation(Dense(self.width, init, name="dense")(x_BLD))
        return Dense(1, nn.initializers.glorot_uniform(), name="score")(x_BLD)[..., 0]


class Embeddings(nn.Module):
    """What the networks share: tokens_BL -> x_BLE; inputs as those of Bert."""

    config: Config

    def setup(self):
        c = self.config
        init = nn.initializers.truncated_normal(STD)
        self.token_embedding = Embedding(c.vocab_size, c.embed_width, init)
        self.position_embedding = Embedding(c.max_length, c.embed_width, init)
        self.segment_embedding = Embedding(c.num_segments, c.embed_width, init)
        self.embedding_norm = Norm(c.epsilon)
        self.embedding_dropout = Dropout(c.dropout)

    def __call__(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None = None,
        documents_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        positions_BL = jnp.arange(tokens_BL.shape[1])[None]
        if documents_BL is not None:
            positions_BL = positions(documents_BL)
        if segments_BL is None:
            segments_BL = jnp.zeros_like(tokens_BL)
        x_BLE = self.token_embedding(tokens_BL) + self.segment_embedding(segments_BL)
        x_BLE = self.embedding_norm(x_BLE + self.position_embedding(positions_BL))
        return self.embedding_dropout(x_BLE, train=train)


class Electra(nn.Module):
    """The trunk of either network: tokens_BL -> x_BLD; inputs as those of Bert."""

    config: Config

    def setup(self):
        c = self.config
        init = nn.initializers.truncated_normal(STD)
        self.embeddings = Embeddings(c)
        self.project = Dense(c.width, nn.initializers.glorot_uniform())  # asked if widths differ
        sizes = c.num_heads, c.head_width, c.width, c.mlp_width, c.dropout
        self.blocks = [
            PostNormBlock(*sizes, ACTIVATIONS[c.activation], c.epsilon, init)
            for _ in range(c.num_layers)
        ]

    def __call__(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None = None,
        documents_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        x_BLE = self.embeddings(tokens_BL, segments_BL, documents_BL, train=train)
        return self.encode(x_BLE, documents_BL, train=train)

    read = __call__

    def encode(
        self, x_BLE: jax.Array, documents_BL: jax.Array | None, *, train: bool = False
    ) -> jax.Array:
        """The same from embeddings that another has made: x_BLD."""
        x_BLD = x_BLE if self.config.embed_width == self.config.width else self.project(x_BLE)
        mask = Mask.bidirectional(documents_BL)
        return run_blocks(self, self.blocks, x_BLD, mask, train=train)[-1]


class ElectraClassifier(heads.TwoLayers):
    """The trunk and the classes of a text or of a pair, from its [CLS]."""

    trunk_class = Electra
    activation = staticmethod(gelu)


class ElectraDiscriminator(nn.Module):
    """The trunk and the head that finds replaced tokens."""

    config: Config

    def setup(self):
        c = self.config
        self.trunk = Electra(c)
        self.replaced_head = ReplacedHead(c.width, ACTIVATIONS[c.activation])

    def __call__(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None = None,
        documents_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Was each token replaced? logits_BL, above 0 for yes."""
        return self.replaced_head(self.trunk(tokens_BL, segments_BL, documents_BL, train=train))

    detect = __call__


class ElectraGenerator(nn.Module):
    """The trunk and the head for masked tokens."""

    config: Config

    def setup(self):
        c = self.config
        self.trunk = Electra(c)
        self.masked_head = bert.MaskedHead(c.embed_width, c.vocab_size, gelu, c.epsilon)

    def masked_scores(self, x_BPD: jax.Array) -> Scores:
        """What these states believe of their tokens: Scores."""
        return self.masked_head(x_BPD, self.trunk.embeddings.token_embedding.embedding)

    def scores(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None,
        documents_BL: jax.Array | None,
        predictions_BP: jax.Array,
        *,
        train: bool = False,
    ) -> Scores:
        """Scores of the tokens at the positions `predictions_BP`."""
        x_BLD = self.trunk(tokens_BL, segments_BL, documents_BL, train=train)
        return self.masked_scores(jnp.take_along_axis(x_BLD, predictions_BP[..., None], axis=1))

    def __call__(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None = None,
        documents_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Every token: logits_BLV."""
        x_BLD = self.trunk(tokens_BL, segments_BL, documents_BL, train=train)
        return self.masked_scores(x_BLD).logits()

    def fill(
        self, tokens_BL: jax.Array, segments_BL: jax.Array | None, gaps_BP: jax.Array
    ) -> jax.Array:
        """The words that fit the gaps, where the tokens have [MASK]: logits_BPV."""
        return self.scores(tokens_BL, segments_BL, None, gaps_BP).logits()


class ElectraPretraining(nn.Module):
    """Both networks and their heads."""

    config: Config

    def setup(self):
        c = self.config
        self.embeddings = Embeddings(c)
        # Nobody asks these trunks for embeddings of their own, so they have none.
        self.generator, self.discriminator = Electra(generator(c)), Electra(c)
        self.masked_head = bert.MaskedHead(c.embed_width, c.vocab_size, gelu, c.epsilon)
        self.replaced_head = ReplacedHead(c.width, ACTIVATIONS[c.activation])

    @staticmethod
    def part(cls: type, config: Config, params: dict) -> tuple[Config, dict]:
        """Return the config and the parameters of one network, by its class.

        Models for tasks stand on the discriminator.
        """
        name, head = "discriminator", "replaced_head"
        if cls is ElectraGenerator:
            name, head, config = "generator", "masked_head", generator(config)
        trunk = {"embeddings": params["embeddings"], **params[name]}
        return config, {"trunk": trunk, head: params[head]}

    def masked_scores(self, x_BPD: jax.Array) -> Scores:
        """What these states of the generator believe of their tokens: Scores."""
        return self.masked_head(x_BPD, self.embeddings.token_embedding.embedding)

    def guess(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None,
        documents_BL: jax.Array | None,
        predictions_BP: jax.Array,
        *,
        train: bool = False,
    ) -> Scores:
        """The generator's Scores of the tokens at the positions `predictions_BP`."""
        x_BLE = self.embeddings(tokens_BL, segments_BL, documents_BL, train=train)
        x_BLD = self.generator.encode(x_BLE, documents_BL, train=train)
        return self.masked_scores(jnp.take_along_axis(x_BLD, predictions_BP[..., None], axis=1))

    def detect(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None = None,
        documents_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Does the discriminator find each token replaced? logits_BL, above 0 for yes."""
        x_BLE = self.embeddings(tokens_BL, segments_BL, documents_BL, train=train)
        return self.replaced_head(self.discriminator.encode(x_BLE, documents_BL, train=train))

    def __call__(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None = None,
        documents_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> Output:
        """Both networks on the same tokens: Output."""
        inputs = tokens_BL, segments_BL, documents_BL
        every_BP = jnp.broadcast_to(jnp.arange(tokens_BL.shape[1]), tokens_BL.shape)
        scores = self.guess(*inputs, every_BP, train=train)
        return Output(scores.logits(), self.detect(*inputs, train=train))

    def fill(
        self, tokens_BL: jax.Array, segments_BL: jax.Array | None, gaps_BP: jax.Array
    ) -> jax.Array:
        """The words that fit the gaps, where the tokens have [MASK]: logits_BPV."""
        return self.guess(tokens_BL, segments_BL, None, gaps_BP).logits()


Model = ElectraPretraining
MODELS = (ElectraPretraining, ElectraDiscriminator, ElectraGenerator)
ElectraTagger, ElectraQuestion = heads.tagger(Electra), heads.question(Electra)
TASKS: dict[str, type[nn.Module]] = {
    "classification": ElectraClassifier,
    "tagging": ElectraTagger,
    "question-answering": ElectraQuestion,
}
GROUPS = ("trunk/(?:embeddings|project)/", r"trunk/blocks_(\d+)/", "")
AXES = ((r"project/kernel$", (None, "fsdp")), *sharding.AXES)
GENERATOR = ("generator_layers", "generator_heads", "generator_width", "generator_mlp_width")


def generator(c: Config) -> Config:
    """The generator's own config."""
    names = ("num_layers", "num_heads", "width", "mlp_width")
    sizes = {ours: getattr(c, field) for ours, field in zip(names, GENERATOR, strict=True)}
    return replace(c, **sizes, head_width=c.generator_width // c.generator_heads)
