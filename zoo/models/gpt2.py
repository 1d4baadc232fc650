"""GPT-2 (Radford et al. 2019), "Language Models are Unsupervised Multitask Learners".

https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
A decoder-only Transformer. New compared with GPT: the norm comes before each sub-layer, a final
norm follows the last block, and the layers that write to the residual stream are initialized
smaller in deeper models.

Departures: the released code has no dropout and no training code; we place dropout as GPT does.
Documents packed into one window do not attend to each other (in the paper they do); a window with a
single document is the paper's case.

B batch  L length  M memory  D width  H heads  K head width  V vocabulary
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers import heads, sharding
from zoo.layers.attention import KeysValues
from zoo.layers.blocks import PreNormBlock, extend_blocks, run_blocks
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import OUTPUT_TABLES, Embedding, UnprojectedLogits
from zoo.layers.feed_forward import ACTIVATIONS
from zoo.layers.linear import Dense, Linear, product
from zoo.layers.mask import Mask, learned_positions, positions_among_keys
from zoo.layers.norm import Norm


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config of a GPT-2; the defaults are the smallest published model."""

    vocab_size: int = 50257
    max_length: int = 1024
    num_layers: int = 12
    num_heads: int = 12
    width: int = 768
    mlp_width: int = 3072
    head_width: int = 64
    dropout: float = 0.1
    activation: str = "gelu_tanh"
    epsilon: float = 1e-5
    init_std: float = 0.02  # of new weights
    output_table: str = "tied"  # of the vocabulary head; a name in OUTPUT_TABLES
    labels: tuple[str, ...] = heads.LABELS
    null_threshold: float | None = None  # see heads.Question
    direction: str = "forward"  # or "backward": see zoo/direction.py


SIZES = {
    "gpt2-tiny": Config(
        vocab_size=4096,
        max_length=256,
        num_layers=4,
        num_heads=4,
        width=256,
        mlp_width=1024,
        dropout=0.0,
    ),  # 4,273,664
    "gpt2": Config(),  # 124,439,808
    "gpt2-medium": Config(num_layers=24, num_heads=16, width=1024, mlp_width=4096),  # 354,823,168
    "gpt2-large": Config(num_layers=36, num_heads=20, width=1280, mlp_width=5120),  # 774,030,080
    "gpt2-xl": Config(num_layers=48, num_heads=25, width=1600, mlp_width=6400),  # 1,557,611,200
}

CHOICE_DROPOUT = 0.1  # before the head for choices, independent of the trunk's dropout
POSITION_STD = 0.01  # as released; transformers initializes positions like all other weights


class Cache(NamedTuple):
    """The keys and values of each block for the tokens read so far, [B, H, M, K].

    `document_ids_BM` is 1 for a real token and 0 for padding and unused slots. `length` is the
    number of slots used, the same for every row.
    """

    blocks: tuple[KeysValues, ...]
    document_ids_BM: jax.Array
    length: jax.Array


class GPT2(nn.Module):
    """The trunk, without a head: tokens_BL -> x_BLD.

    `document_ids_BL` counts documents from 1; 0 is padding, so a 0/1 mask is valid.
    """

    config: Config

    def setup(self):
        c = self.config
        init = nn.initializers.normal(c.init_std)
        output_init = nn.initializers.normal(c.init_std * (2 * c.num_layers) ** -0.5)
        self.token_embedding = Embedding(c.vocab_size, c.width, init)
        self.position_embedding = Embedding(
            c.max_length, c.width, nn.initializers.normal(POSITION_STD)
        )
        self.embedding_dropout = Dropout(c.dropout)
        self.blocks = [
            PreNormBlock(
                num_heads=c.num_heads,
                head_width=c.head_width,
                width=c.width,
                mlp_width=c.mlp_width,
                dropout=c.dropout,
                activation=ACTIVATIONS[c.activation],
                epsilon=c.epsilon,
                kernel_init=init,
                output_init=output_init,
            )
            for _ in range(c.num_layers)
        ]
        self.norm = Norm(c.epsilon)

    def embed(
        self, tokens_BL: jax.Array, positions_BL: jax.Array, *, train: bool = False
    ) -> jax.Array:
        """Return the sum of token and position embeddings: x_BLD."""
        x_BLD = self.token_embedding(tokens_BL) + self.position_embedding(positions_BL)
        return self.embedding_dropout(x_BLD, train=train)

    def __call__(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        positions_BL = learned_positions(tokens_BL, document_ids_BL, self.config.max_length)
        x_BLD = self.embed(tokens_BL, positions_BL, train=train)
        mask = Mask.causal(document_ids_BL)
        return self.norm(run_blocks(self, self.blocks, x_BLD, mask, train=train)[-1])

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

    def extend(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array, cache: Cache
    ) -> tuple[jax.Array, Cache]:
        """Process tokens after those in the cache (0 marks padding): x_BLD and the new cache."""
        L, M = tokens_BL.shape[1], cache.document_ids_BM.shape[1]
        document_ids_BM = jax.lax.dynamic_update_slice_in_dim(
            cache.document_ids_BM, document_ids_BL, cache.length, 1
        )
        mask = Mask.cached(cache.length, document_ids_BM)
        x_BLD = self.embed(tokens_BL, positions_among_keys(mask, L, M))
        x_BLD, blocks = extend_blocks(self.blocks, x_BLD, cache.blocks, mask)
        return self.norm(x_BLD), Cache(blocks, document_ids_BM, cache.length + L)


class GPT2Classifier(heads.LastToken):
    """Classifier of a text or a pair of texts, from the last token; its head has no bias."""

    trunk_class = GPT2

    def setup(self):
        super().setup()
        self.score = Linear(len(self.config.labels), heads.INIT)

    def head(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the logits of the classes, [..., C]."""
        return self.score(x)


class GPT2MultipleChoice(heads.LastToken):
    """Multiple choice: one logit for each choice, from the last token."""

    trunk_class = GPT2

    def setup(self):
        super().setup()
        self.choice_dropout, self.choice = Dropout(CHOICE_DROPOUT), Dense(1, heads.INIT)

    def head(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the logit of every choice, such as logits_BC for x_BCD."""
        return self.choice(self.choice_dropout(x, train=train))[..., 0]


class GPT2LM(nn.Module):
    """The trunk with a language-model head: the token embedding again, without a bias."""

    config: Config

    def setup(self):
        c = self.config
        self.trunk = GPT2(c)
        init = nn.initializers.normal(c.init_std)
        self.output_table = OUTPUT_TABLES[c.output_table](c.vocab_size, c.width, init)

    def unprojected(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> UnprojectedLogits:
        """Return next-token logits before the product with the vocabulary table."""
        x_BLD = self.trunk(tokens_BL, document_ids_BL, train=train)
        return UnprojectedLogits(x_BLD, self._table(), 0.0)

    def __call__(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """Return the next-token logits: logits_BLV."""
        return self.unprojected(tokens_BL, document_ids_BL, train=train).logits()

    def start(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array, max_new_tokens: int
    ) -> tuple[jax.Array, Cache]:
        """Process left-padded prompts: next-token logits_BV, and a cache with room for more."""
        c, (B, L) = self.config, tokens_BL.shape
        shape = (B, c.num_heads, L + max_new_tokens, c.head_width)
        empty = (jnp.zeros(shape, self.trunk.token_embedding.embedding.dtype),) * 2
        document_ids_BM = jnp.zeros((B, L + max_new_tokens), jnp.int32)
        cache = Cache((empty,) * c.num_layers, document_ids_BM, jnp.int32(0))
        return self._extend(tokens_BL, document_ids_BL, cache)

    def step(self, token_B: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Process one more token: next-token logits_BV and the updated cache."""
        return self._extend(token_B[:, None], jnp.ones_like(token_B)[:, None], cache)

    def _extend(self, tokens_BL, document_ids_BL, cache: Cache):
        x_BLD, cache = self.trunk.extend(tokens_BL, document_ids_BL, cache)
        return product("BD,VD->BV", x_BLD[:, -1], self._table()), cache

    def _table(self):
        return self.output_table(self.trunk.token_embedding.embedding)


Model = GPT2LM
GPT2Trunk = heads.alone(GPT2)
MODELS = (GPT2LM, GPT2Trunk)
GPT2Tagger, GPT2Question = heads.tagger(GPT2), heads.question(GPT2)
GPT2MultiLabel = heads.multi_label(GPT2Classifier)
TASKS: dict[str, type[nn.Module]] = {
    "classification": GPT2Classifier,
    "multi-label": GPT2MultiLabel,
    "tagging": GPT2Tagger,
    "question-answering": GPT2Question,
    "multiple-choice": GPT2MultipleChoice,
}
GROUPS = (r"trunk/\w*embedding", r"trunk/blocks_(\d+)/", "trunk/norm/", "")
AXES = sharding.AXES
