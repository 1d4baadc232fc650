"""T5 1.1, the later release of T5 (Raffel et al. 2019), pretrained on C4 only and without dropout.

https://github.com/google-research/text-to-text-transfer-transformer/blob/main/released_checkpoints.md
New compared with T5: the feed-forward layer is gated with a gelu (Shazeer 2020, "GLU Variants
Improve Transformer", https://arxiv.org/abs/2002.05202), and the head has its own table and is
applied to unscaled hidden states. Flan-T5 and the LM-adapted T5 have this architecture too.

Departures: those of T5. The gelu is the tanh approximation, as in the released code. For
fine-tuning set the dropout to 0.1, as published folders do.

B batch  L length of the source  T length of the target  D width  F feed-forward width  V vocabulary
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers import heads, sharding
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import OUTPUT_TABLES, UnprojectedLogits
from zoo.layers.feed_forward import Activation
from zoo.layers.linear import Linear
from zoo.models import t5
from zoo.models.t5 import START, T5, Cache


@dataclass(frozen=True, kw_only=True)
class Config(t5.Config):
    """The config of a T5 1.1; the defaults are the base model."""

    mlp_width: int = 2048
    dropout: float = 0.0
    activation: str = "gelu_tanh"  # activation of the gate
    output_table: str = "untied"
    head_exponent: float = 0.0


SIZES = {
    "t5-v1_1-small": Config(
        num_layers=8, num_heads=6, width=512, mlp_width=1024, num_decoder_layers=8
    ),  # 76,961,152
    "t5-v1_1-base": Config(),  # 247,577,856
    "t5-v1_1-large": Config(
        num_layers=24, num_heads=16, width=1024, mlp_width=2816, num_decoder_layers=24
    ),  # 783,150,080
    "t5-v1_1-xl": Config(
        num_layers=24, num_heads=32, width=2048, mlp_width=5120, num_decoder_layers=24
    ),  # 2,849,757,184
    "t5-v1_1-xxl": Config(
        num_layers=24, num_heads=64, width=4096, mlp_width=10240, num_decoder_layers=24
    ),  # 11,135,332,352
}


class GatedFeedForward(nn.Module):
    """A gated layer, dropout, and a second layer: x_BLD -> x_BLD."""

    mlp_width: int
    width: int
    dropout: float
    activation: Activation

    def setup(self):
        D, F, normal = self.width, self.mlp_width, nn.initializers.normal
        self.gate = Linear(F, normal(D**-0.5))
        self.up = Linear(F, normal(D**-0.5))
        self.inner_dropout = Dropout(self.dropout)
        self.down = Linear(D, normal(F**-0.5))

    def __call__(self, x_BLD: jax.Array, *, train: bool = False) -> jax.Array:
        x_BLF = self.activation(self.gate(x_BLD).astype(jnp.float32)) * self.up(x_BLD)
        return self.down(self.inner_dropout(x_BLF, train=train))


class T5v11Encoder(heads.Trunk):
    """The encoder alone: x_BLD."""

    config: Any  # a Config, which has no labels for a head

    def setup(self):
        self.trunk = T5(self.config, GatedFeedForward)


class T5v11LM(nn.Module):
    """The trunk of T5, with gated feed-forward layers, and a language-model head."""

    config: Config

    def setup(self):
        c = self.config
        self.trunk = T5(c, GatedFeedForward)
        init = nn.initializers.normal(1.0)
        self.head = OUTPUT_TABLES[c.output_table](c.vocab_size, c.width, init)

    @property
    def start_token(self) -> int:
        """The token that begins every target."""
        return START

    def encode(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """Encode a source: x_BLD."""
        return self.trunk.encode(tokens_BL, document_ids_BL, train=train)

    def unprojected(
        self,
        tokens_BL: jax.Array,
        targets_BT: jax.Array,
        document_ids_BL: jax.Array | None = None,
        target_document_ids_BT: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> UnprojectedLogits:
        """Return next-token logits before the product with the vocabulary table."""
        documents = document_ids_BL, target_document_ids_BT
        return self._unprojected(self.trunk(tokens_BL, targets_BT, *documents, train=train))

    def __call__(
        self,
        tokens_BL: jax.Array,
        targets_BT: jax.Array | None = None,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Return next-token logits_BTV; without targets, those of the first token only."""
        if targets_BT is None:
            targets_BT = jnp.full((len(tokens_BL), 1), START)
        return self.unprojected(tokens_BL, targets_BT, document_ids_BL, train=train).logits()

    def start(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array, max_new_tokens: int
    ) -> tuple[jax.Array, Cache]:
        """Encode a source: logits_BV of the first target token, and a cache with room for more."""
        cache = self.trunk.start(tokens_BL, document_ids_BL, 1 + max_new_tokens)
        return self.step(jnp.full(len(tokens_BL), START), cache)

    def step(self, token_B: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Process one more target token: next-token logits_BV and the updated cache."""
        x_B1D, cache = self.trunk.extend(token_B, cache)
        return self._unprojected(x_B1D).logits()[:, 0], cache

    def _unprojected(self, x_BTD):
        scale = self.config.width**self.config.head_exponent
        table_VD = self.head(self.trunk.token_embedding.embedding)
        return UnprojectedLogits(x_BTD * scale, table_VD, 0.0)


Model = T5v11LM
MODELS = (T5v11LM, T5v11Encoder)
TASKS: dict[str, type[nn.Module]] = {"text-to-text": T5v11LM}
GROUPS = t5.GROUPS
AXES = (*sharding.AXES, (r"gate/kernel$", ("fsdp", "tensor")))
