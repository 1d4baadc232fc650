"""GPT-3 (Brown et al. 2020), "Language Models are Few-Shot Learners".

https://arxiv.org/abs/2005.14165
New compared with GPT-2: dense and locally banded sparse attention alternate (Child et al. 2019,
https://arxiv.org/abs/1904.10509), and a context is twice as long. In a banded block a query attends
to the last `window` keys, itself included; it costs what the band costs (see zoo/layers/attention).

Departures: the paper states neither the width of the band nor which blocks have it. Here the first
block is dense, the second banded, and so on, with a window of 256, as in GPT-Neo. Two rows of table
2.1 have heads that do not fill the width. XL has 24 heads of 128 at a width of 2048: they are as in
the table, so its attention is 3072 wide, and it has 1.52 billion parameters, not 1.3 (16 heads of
128 would give 1.3). 13B has a width of 5140 and 40 heads of 128: its width is their product, 5120,
and both give 13 billion. Dropout, activation and epsilon are those of GPT-2; the paper states none.
Documents packed into one window do not attend to each other (in the paper they do); a window with a
single document is the paper's case.

B batch  L length  M memory  D width  H heads  K head width  V vocabulary
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers import heads, sharding
from zoo.layers.attention import KeysValues
from zoo.layers.blocks import PreNormBlock, extend_blocks, run_blocks
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import Embedding, UnprojectedLogits
from zoo.layers.feed_forward import ACTIVATIONS
from zoo.layers.linear import Linear, product
from zoo.layers.mask import Mask, learned_positions, positions_among_keys
from zoo.layers.norm import Norm


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config of a GPT-3; the defaults are the smallest model of the paper."""

    vocab_size: int = 50257
    max_length: int = 2048
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
    null_threshold: float | None = None  # see heads.Question
    window: int = 256  # number of keys in banded attention
    direction: str = "forward"  # or "backward": see zoo/direction.py


SIZES = {
    "gpt3-tiny": Config(
        vocab_size=4096,
        max_length=256,
        num_layers=4,
        num_heads=4,
        width=256,
        mlp_width=1024,
        dropout=0.0,
        window=32,
    ),  # 4,273,664
    "gpt3-small": Config(),  # 125,226,240
    "gpt3-medium": Config(num_layers=24, num_heads=16, width=1024, mlp_width=4096),  # 355,871,744
    "gpt3-large": Config(
        num_layers=24, num_heads=16, width=1536, mlp_width=6144, head_width=96
    ),  # 760,300,032
    "gpt3-xl": Config(
        num_layers=24, num_heads=24, width=2048, mlp_width=8192, head_width=128
    ),  # 1,517,123,584
    "gpt3-2.7b": Config(
        num_layers=32, num_heads=32, width=2560, mlp_width=10240, head_width=80
    ),  # 2,651,553,280
    "gpt3-6.7b": Config(
        num_layers=32, num_heads=32, width=4096, mlp_width=16384, head_width=128
    ),  # 6,658,404,352
    "gpt3-13b": Config(
        num_layers=40, num_heads=40, width=5120, mlp_width=20480, head_width=128
    ),  # 12,853,386,240
    "gpt3-175b": Config(
        num_layers=96, num_heads=96, width=12288, mlp_width=49152, head_width=128
    ),  # 174,604,259,328
}

POSITION_STD = 0.01  # as released; transformers initializes positions like all other weights


class Cache(NamedTuple):
    """The keys and values of each block for the tokens read so far, [B, H, M, K].

    `document_ids_BM` is 1 for a real token and 0 for padding and unused slots. `length` is the
    number of slots used, the same for every row. Banded blocks keep the keys outside of their
    window too, and mask them.
    """

    blocks: tuple[KeysValues, ...]
    document_ids_BM: jax.Array
    length: jax.Array


class GPT3(nn.Module):
    """The trunk, without a head: tokens_BL -> x_BLD.

    `document_ids_BL` counts documents from 1; 0 is padding, so a 0/1 mask is valid. `block` is the
    class of the blocks.
    """

    config: Config
    block: type[PreNormBlock] = PreNormBlock

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
            self.block(
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
        masks = self.masks(Mask.causal(document_ids_BL))
        return self.norm(run_blocks(self, self.blocks, x_BLD, per_block=masks, train=train)[-1])

    def masks(self, dense: Mask) -> list[Mask]:
        """Return the mask of every block: dense and banded ones alternate.

        Raises:
          ValueError: If the window of the config has no key.
        """
        if self.config.window < 1:
            raise ValueError(f"window must be at least 1, not {self.config.window}")
        banded = replace(dense, window=self.config.window)
        return [banded if number % 2 else dense for number in range(self.config.num_layers)]

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

    def empty_cache(self, batch_size: int, num_slots: int) -> Cache:
        """Return a cache with room for a number of tokens."""
        c = self.config
        shape = (batch_size, c.num_heads, num_slots, c.head_width)
        empty = (jnp.zeros(shape, self.token_embedding.embedding.dtype),) * 2
        document_ids_BM = jnp.zeros((batch_size, num_slots), jnp.int32)
        return Cache((empty,) * c.num_layers, document_ids_BM, jnp.int32(0))

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
        x_BLD, blocks = extend_blocks(self.blocks, x_BLD, cache.blocks, per_block=self.masks(mask))
        return self.norm(x_BLD), Cache(blocks, document_ids_BM, cache.length + L)


class GPT3Classifier(heads.OnTrunk):
    """Classifier of a text or a pair of texts, from the last token; its head has no bias."""

    trunk_class = GPT3
    pool = staticmethod(heads.last_token)

    def setup(self):
        super().setup()
        self.score = Linear(len(self.config.labels), heads.INIT)

    def head(self, x_BD: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the logits of the classes: logits_BC."""
        return self.score(x_BD)

    def with_words(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None,
        document_ids_BL: jax.Array | None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, UnprojectedLogits]:
        """Return class logits and unprojected next-token logits, for GPT's auxiliary loss."""
        x_BLD = self.trunk(tokens_BL, document_ids_BL, train=train)
        words = UnprojectedLogits(x_BLD, self.trunk.token_embedding.embedding, 0.0)
        return self.head(self.pool(x_BLD, document_ids_BL), train=train), words


class GPT3LM(nn.Module):
    """The trunk with a language-model head: the token embedding again, without a bias."""

    config: Config

    def setup(self):
        self.trunk = GPT3(self.config)

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
        B, L = tokens_BL.shape
        cache = self.trunk.empty_cache(B, L + max_new_tokens)
        return self._extend(tokens_BL, document_ids_BL, cache)

    def step(self, token_B: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Process one more token: next-token logits_BV and the updated cache."""
        return self._extend(token_B[:, None], jnp.ones_like(token_B)[:, None], cache)

    def _extend(self, tokens_BL, document_ids_BL, cache: Cache):
        x_BLD, cache = self.trunk.extend(tokens_BL, document_ids_BL, cache)
        table_VD = self.trunk.token_embedding.embedding
        return product("BD,VD->BV", x_BLD[:, -1], table_VD), cache


Model = GPT3LM
MODELS = (GPT3LM,)
GPT3Tagger, GPT3Question = heads.tagger(GPT3), heads.question(GPT3)
GPT3MultiLabel = heads.multi_label(GPT3Classifier)
TASKS: dict[str, type[nn.Module]] = {
    "classification": GPT3Classifier,
    "multi-label": GPT3MultiLabel,
    "tagging": GPT3Tagger,
    "question-answering": GPT3Question,
}
GROUPS = (r"trunk/\w*embedding", r"trunk/blocks_(\d+)/", "trunk/norm/", "")
AXES = sharding.AXES
