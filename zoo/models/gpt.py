"""GPT (Radford et al. 2018), "Improving Language Understanding by Generative Pre-Training".

https://cdn.openai.com/research-covers/language-unsupervised/language_understanding_paper.pdf
The decoder of the Transformer alone, without attention to a source, pretrained as a language model
and fine-tuned on every task with a linear layer. New compared with the Transformer: positions are
learned, and the activation is GELU.

A text is read between `_start_` and `_classify_`, whose hidden state the head of a task reads; a
second text follows `_delimiter_` (section 3.3). The tokenizer of a fine-tuned model adds these.

Departures: the released code drops entries of the embedding table, for the input and the output
alike; we drop entries of the embedded input. It draws one dropout mask for all choices of a text,
we draw one for each. Documents packed into one window do not attend to each other (in the paper
they do); a window with a single document is the paper's case. Tagging and multi-label
classification are not in the paper.

B batch  L length  M memory  D width  H heads  K head width  V vocabulary
C classes or choices
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers import heads, sharding
from zoo.layers.attention import KeysValues
from zoo.layers.blocks import PostNormBlock, extend_blocks, run_blocks
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import Embedding, UnprojectedLogits
from zoo.layers.feed_forward import ACTIVATIONS
from zoo.layers.linear import Dense, Linear, product
from zoo.layers.mask import Mask, learned_positions, positions_among_keys


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config of a GPT; the defaults are the published model."""

    vocab_size: int = 40478
    max_length: int = 512
    num_layers: int = 12
    num_heads: int = 12
    width: int = 768
    mlp_width: int = 3072
    head_width: int = 64
    dropout: float = 0.1
    activation: str = "gelu_tanh"
    epsilon: float = 1e-5
    init_std: float = 0.02  # of new weights
    labels: tuple[str, ...] = heads.LABELS
    direction: str = "forward"  # or "backward": see zoo/direction.py


SIZES = {
    "gpt-tiny": Config(
        vocab_size=4096,
        max_length=256,
        num_layers=4,
        num_heads=4,
        width=256,
        mlp_width=1024,
        dropout=0.0,
    ),  # 4,273,152
    "gpt": Config(),  # 116,534,784
}

EXTRACT_DROPOUT = 0.1  # before the head of a task, independent of the trunk's dropout


class Cache(NamedTuple):
    """The keys and values of each block for the tokens read so far, [B, H, M, K].

    `document_ids_BM` is 1 for a real token and 0 for padding and unused slots. `length` is the
    number of slots used, the same for every row.
    """

    blocks: tuple[KeysValues, ...]
    document_ids_BM: jax.Array
    length: jax.Array


class GPT(nn.Module):
    """The trunk, without a head: tokens_BL -> x_BLD.

    `document_ids_BL` counts documents from 1; 0 is padding, so a 0/1 mask is valid.
    """

    config: Config

    def setup(self):
        c = self.config
        init = nn.initializers.normal(c.init_std)
        self.token_embedding = Embedding(c.vocab_size, c.width, init)
        self.position_embedding = Embedding(c.max_length, c.width, init)
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
        return x_BLD, Cache(blocks, document_ids_BM, cache.length + L)


class GPTClassifier(heads.LastToken):
    """Classifier of a text or a pair of texts; its head has no bias (equation 3)."""

    config: Config
    trunk_class = GPT

    def setup(self):
        super().setup()
        c = self.config
        self.extract_dropout = Dropout(EXTRACT_DROPOUT)
        self.score = Linear(len(c.labels), nn.initializers.normal(c.init_std))

    def head(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the logits of the classes, [..., C]."""
        return self.score(self.extract_dropout(x, train=train))


class GPTSimilarity(GPTClassifier):
    """Classifier of pairs in which neither text is the first: reads each pair in both orders.

    Section 3.3 adds the two hidden states before the linear layer. As that has no bias, the sum of
    the two logits is the same, and whoever calls the model takes it.
    """


class GPTMultipleChoice(heads.LastToken):
    """Multiple choice: one logit for each choice; its head has a bias, as in the released code."""

    config: Config
    trunk_class = GPT

    def setup(self):
        super().setup()
        self.extract_dropout = Dropout(EXTRACT_DROPOUT)
        self.choice = Dense(1, nn.initializers.normal(self.config.init_std))

    def head(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the logit of every choice, such as logits_BC for x_BCD."""
        return self.choice(self.extract_dropout(x, train=train))[..., 0]


class GPTLM(nn.Module):
    """The trunk with a language-model head: the token embedding again, without a bias."""

    config: Config

    def setup(self):
        self.trunk = GPT(self.config)

    def unprojected(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> UnprojectedLogits:
        """Return next-token logits before the product with the vocabulary table."""
        x_BLD = self.trunk(tokens_BL, document_ids_BL, train=train)
        return UnprojectedLogits(x_BLD, self.trunk.token_embedding.embedding, 0.0)

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
        table_VD = self.trunk.token_embedding.embedding
        return product("BD,VD->BV", x_BLD[:, -1], table_VD), cache


Model = GPTLM
GPTTrunk = heads.alone(GPT)
MODELS = (GPTLM, GPTTrunk)
GPTTagger, GPTMultiLabel = heads.tagger(GPT), heads.multi_label(GPTClassifier)
TASKS: dict[str, type[nn.Module]] = {
    "classification": GPTClassifier,
    "multi-label": GPTMultiLabel,
    "similarity": GPTSimilarity,
    "tagging": GPTTagger,
    "multiple-choice": GPTMultipleChoice,
}
GROUPS = (r"trunk/\w*embedding", r"trunk/blocks_(\d+)/", "")
AXES = sharding.AXES
