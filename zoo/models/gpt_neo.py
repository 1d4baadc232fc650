"""GPT-Neo (Black et al. 2021), an open model after GPT-3, pretrained on the Pile.

https://doi.org/10.5281/zenodo.5297715
New compared with GPT-3: the scores of attention are not divided by the square root of the head
width, and queries, keys and values have no bias.

Departures: those of GPT-3, and initialization is GPT-3's.

B batch  L length  M memory  D width  V vocabulary
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers import heads, sharding
from zoo.layers.attention import Attention, KeysValues, attend
from zoo.layers.blocks import PreNormBlock
from zoo.layers.embedding import UnprojectedLogits
from zoo.layers.linear import LinearHeadsIn
from zoo.layers.mask import Mask
from zoo.models import gpt3
from zoo.models.gpt3 import GPT3, Cache, GPT3Classifier


@dataclass(frozen=True, kw_only=True)
class Config(gpt3.Config):
    """The config of a GPT-Neo; the defaults are the smallest published model."""

    dropout: float = 0.0


SIZES = {
    "gpt-neo-125m": Config(),  # 125,198,592
    "gpt-neo-1.3b": Config(
        num_layers=24, num_heads=16, width=2048, mlp_width=8192, head_width=128
    ),  # 1,315,575,808
    "gpt-neo-2.7b": Config(
        num_layers=32, num_heads=20, width=2560, mlp_width=10240, head_width=128
    ),  # 2,651,307,520
}


class UnscaledAttention(Attention):
    """Multi-head attention without a scale, and without a bias of queries, keys and values."""

    projection = LinearHeadsIn

    def attend(
        self, x_BLD: jax.Array, keys_values: KeysValues, mask: Mask, *, train: bool = False
    ) -> jax.Array:
        """Return the attention output for x: x_BLD."""
        q_BHLK = self.query(x_BLD)
        return self.output(attend(self.mix, q_BHLK, keys_values, mask, scale=1.0, train=train))


class GPTNeoBlock(PreNormBlock):
    """A pre-norm block with unscaled attention."""

    attention_class = UnscaledAttention


class GPTNeo(GPT3):
    """The trunk, without a head: GPT-3's, with other attention."""

    block: type[PreNormBlock] = GPTNeoBlock


class GPTNeoClassifier(GPT3Classifier):
    """Classifier of a text or a pair of texts, from the last token; its head has no bias."""

    trunk_class = GPTNeo


class GPTNeoLM(nn.Module):
    """The trunk with a language-model head: the token embedding again, without a bias."""

    config: Config

    def setup(self):
        self.trunk = GPTNeo(self.config)

    def unprojected(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> UnprojectedLogits:
        """Return next-token logits before the product with the vocabulary table."""
        return self._unprojected(self.trunk(tokens_BL, document_ids_BL, train=train))

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
        return self._unprojected(x_BLD[:, -1:]).logits()[:, 0], cache

    def _unprojected(self, x_BLD):
        return UnprojectedLogits(x_BLD, self.trunk.token_embedding.embedding, 0.0)


Model = GPTNeoLM
GPTNeoTrunk = heads.alone(GPTNeo)
MODELS = (GPTNeoLM, GPTNeoTrunk)
GPTNeoTagger, GPTNeoQuestion = heads.tagger(GPTNeo), heads.question(GPTNeo)
GPTNeoMultiLabel = heads.multi_label(GPTNeoClassifier)
TASKS: dict[str, type[nn.Module]] = {
    "classification": GPTNeoClassifier,
    "multi-label": GPTNeoMultiLabel,
    "tagging": GPTNeoTagger,
    "question-answering": GPTNeoQuestion,
}
GROUPS = gpt3.GROUPS
AXES = sharding.AXES
