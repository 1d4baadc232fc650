"""Attention of a recurrent decoder to its source, with one of four scores.

Dot and general: Luong et al. 2015, section 3.1. Additive: Bahdanau et al. 2014, appendix A.1.2,
called concat by Luong. Scaled dot: Vaswani et al. 2017, equation 1. They are interchangeable: each
projects the source to keys once, and then scores every key for each state.

D width of a state  E width of the source
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers.attention import WeightedSum
from zoo.layers.linear import Linear, product
from zoo.layers.mask import Mask

INIT = nn.initializers.xavier_uniform()


class Dot(nn.Module):
    """The dot-product score q . k, for a source as wide as the states."""

    width: int
    source_width: int

    def keys(self, source_BME: jax.Array) -> jax.Array:
        """Return the keys, which are the source itself: k_BMD."""
        if self.source_width != self.width:
            raise ValueError(
                f"dot-product attention needs equal widths, got query {self.width} and source "
                f"{self.source_width}; use --config score=general or score=additive"
            )
        return source_BME

    def __call__(self, q_BD: jax.Array, k_BMD: jax.Array) -> jax.Array:
        """Return the score of every key: score_BM."""
        return product("BD,BMD->BM", q_BD, k_BMD)


class ScaledDot(Dot):
    """The scaled dot-product score, q . k / sqrt(width)."""

    def __call__(self, q_BD: jax.Array, k_BMD: jax.Array) -> jax.Array:
        """Return the score of every key: score_BM."""
        return super().__call__(q_BD * q_BD.shape[-1] ** -0.5, k_BMD)


class General(nn.Module):
    """The bilinear score, q W k."""

    width: int
    source_width: int

    def setup(self):
        self.source = Linear(self.width, INIT)

    def keys(self, source_BME: jax.Array) -> jax.Array:
        """Return W k: k_BMD."""
        return self.source(source_BME)

    def __call__(self, q_BD: jax.Array, k_BMD: jax.Array) -> jax.Array:
        """Return the score of every key: score_BM."""
        return product("BD,BMD->BM", q_BD, k_BMD)


class Additive(nn.Module):
    """The additive score, v . tanh(W q + U k)."""

    width: int
    source_width: int

    def setup(self):
        self.state = Linear(self.width, INIT)
        self.source = Linear(self.width, INIT)
        self.energy = Linear(1, INIT)

    def keys(self, source_BME: jax.Array) -> jax.Array:
        """Return U k: k_BMD."""
        return self.source(source_BME)

    def __call__(self, q_BD: jax.Array, k_BMD: jax.Array) -> jax.Array:
        """Return the score of every key: score_BM."""
        hidden_BMD = jnp.tanh(self.state(q_BD)[:, None] + k_BMD)
        return self.energy(hidden_BMD)[..., 0]


SCORES = {"dot": Dot, "scaled_dot": ScaledDot, "general": General, "additive": Additive}


class Source(NamedTuple):
    """The keys and values of a source, and its document ids, 0 for padding."""

    k_BMD: jax.Array
    v_BME: jax.Array
    document_ids_BM: jax.Array


class SourceAttention(nn.Module):
    """Attention of a state to its source: q_BD and the source -> context_BE.

    `score` is a name in SCORES. The weights are sown as in any attention.
    """

    score: str
    width: int
    source_width: int

    def setup(self):
        if self.score not in SCORES:
            raise ValueError(f"unknown score {self.score!r}: use one of {', '.join(SCORES)}")
        self.scores = SCORES[self.score](self.width, self.source_width)
        self.mix = WeightedSum(0.0)

    def project_keys_values(
        self, source_BME: jax.Array, document_ids_BM: jax.Array | None = None
    ) -> Source:
        """Return the source for `attend`; without document ids there is no padding."""
        if document_ids_BM is None:
            document_ids_BM = jnp.ones(source_BME.shape[:2], jnp.int32)
        return Source(self.scores.keys(source_BME), source_BME, document_ids_BM)

    def attend(self, q_BD: jax.Array, source: Source) -> jax.Array:
        """Return the context of a state: context_BE."""
        score_B11M = self.scores(q_BD, source.k_BMD)[:, None, None]
        mask_B11M = Mask.source(source.document_ids_BM).dense(1, score_B11M.shape[-1])
        return self.mix(score_B11M, source.v_BME[:, None], mask_B11M)[:, 0, 0]
