"""How a recurrent decoder looks at its source: the four scores of attention, and the look.

Dot and general: Luong et al. 2015, section 3.1. Additive: Bahdanau et al. 2014, appendix A.1.2,
which Luong calls concat. Scaled dot: Vaswani et al. 2017, equation 1. They are equals: each makes
keys of the source once, and then says how well a state fits each of them.

B batch  M length of the source  D width of a state  E width of the source
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers.attention import Mix
from zoo.layers.linear import Kernel, affine, product

INIT = nn.initializers.xavier_uniform()


class Dot(nn.Module):
    """q . k, for a source as wide as the states."""

    width: int
    source_width: int

    def keys(self, source_BME):
        """What a state is held against: k_BMD."""
        if self.source_width != self.width:
            raise ValueError(
                f"a state of {self.width} has no dot with a source of {self.source_width}: "
                "take the score general or additive"
            )
        return source_BME

    def __call__(self, q_BD, k_BMD):
        """score_BM."""
        return product("BD,BMD->BM", q_BD, k_BMD)


class ScaledDot(Dot):
    """q . k over the root of their width."""

    def __call__(self, q_BD, k_BMD):
        """score_BM."""
        return super().__call__(q_BD * q_BD.shape[-1] ** -0.5, k_BMD)


class General(nn.Module):
    """q W k."""

    width: int
    source_width: int

    def setup(self):
        self.source = Kernel((self.source_width, self.width), INIT)

    def keys(self, source_BME):
        """W k: k_BMD."""
        return affine(source_BME, self.source())

    def __call__(self, q_BD, k_BMD):
        """score_BM."""
        return product("BD,BMD->BM", q_BD, k_BMD)


class Additive(nn.Module):
    """v . tanh(W q + U k)."""

    width: int
    source_width: int

    def setup(self):
        self.state = Kernel((self.width, self.width), INIT)
        self.source = Kernel((self.source_width, self.width), INIT)
        self.energy = Kernel((self.width, 1), INIT)

    def keys(self, source_BME):
        """U k: k_BMD."""
        return affine(source_BME, self.source())

    def __call__(self, q_BD, k_BMD):
        """score_BM."""
        bent_BMD = jnp.tanh(affine(q_BD, self.state())[:, None] + k_BMD)
        return affine(bent_BMD, self.energy())[..., 0]


SCORES = {"dot": Dot, "scaled_dot": ScaledDot, "general": General, "additive": Additive}


class Source(NamedTuple):
    """What there is to look at: keys [B, M, D], values [B, M, E], and which are real."""

    keys: jax.Array
    values: jax.Array
    mask_BM: jax.Array


class Look(nn.Module):
    """Score, softmax, weighted sum: what a state q_BD finds in its source, context_BE.

    `score` is a name of SCORES. The weights are sown as those of any attention.
    """

    score: str
    width: int
    source_width: int

    def setup(self):
        if self.score not in SCORES:
            raise ValueError(f"there is no score {self.score!r}: take one of {', '.join(SCORES)}")
        self.scores = SCORES[self.score](self.width, self.source_width)
        self.mix = Mix(0.0)

    def remember(self, source_BME, documents_BM=None) -> Source:
        """A source made ready; 0 in `documents_BM` is padding."""
        mask_BM = jnp.ones(source_BME.shape[:2], bool) if documents_BM is None else documents_BM > 0
        return Source(self.scores.keys(source_BME), source_BME, mask_BM)

    def __call__(self, q_BD, source: Source):
        score_BM = self.scores(q_BD, source.keys)
        score_B11M, mask_B11M = score_BM[:, None, None], source.mask_BM[:, None, None]
        context_B11E = self.mix(score_B11M, source.values[:, None], mask_B11M)
        return context_B11E[:, 0, 0]
