"""The fixed-window neural language model (Bengio et al. 2003), a neural probabilistic n-gram.

https://www.jmlr.org/papers/v3/bengio03a.html
New against the n-gram: words are vectors that the model learns together with the probabilities, so
that what it reads about one word serves similar words. The vectors of the last N words are
concatenated; one tanh layer and a softmax over the vocabulary predict the next word (section 2,
equation 1). With direct connections, the softmax sees the word vectors too.

Departures: words before the beginning of a document are zero vectors, where the paper has no
prediction; dropout, off in the published sizes.

B batch  L length  N words of the window  E embedding width  D features  V vocabulary
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.layers import sharding
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import Embedding, UnprojectedLogits
from zoo.layers.linear import Dense
from zoo.layers.recurrent import uniform


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config of a fixed-window model; the defaults are those for the Brown corpus (table 1).

    `window` is the number of preceding words, n - 1 of the paper, and `features` a name in
    FEATURES. `max_length` is required by the trainer; the model itself works at any length.
    """

    vocab_size: int = 16383
    max_length: int = 1 << 30
    num_layers: int = 1
    width: int = 100
    dropout: float = 0.0
    embed_width: int = 30
    window: int = 4
    features: str = "hidden"
    direction: str = "forward"  # or "backward": see zoo/direction.py


SIZES = {
    "fixed-window-tiny": Config(vocab_size=4096, width=256, embed_width=64, window=8),  # 1,446,144
    "fixed-window-brown": Config(),  # 2,158,273
    "fixed-window-brown-direct": Config(features="direct"),  # 4,124,233
    "fixed-window-brown-wide": Config(width=50, embed_width=60, features="direct"),  # 5,762,483
}


class Hidden(nn.Module):
    """The tanh layer: x_BLF -> x_BLD."""

    width: int

    @nn.compact
    def __call__(self, x_BLF: jax.Array) -> jax.Array:
        return jnp.tanh(Dense(self.width, uniform(x_BLF.shape[-1]), name="up")(x_BLF))


class HiddenAndDirect(Hidden):
    """The tanh layer with the word vectors beside it, for direct connections to the softmax."""

    @nn.compact
    def __call__(self, x_BLF: jax.Array) -> jax.Array:
        return jnp.concatenate([super().__call__(x_BLF), x_BLF], -1)


FEATURES = {"hidden": Hidden, "direct": HiddenAndDirect}


class FixedWindow(nn.Module):
    """The trunk, without the softmax: tokens_BL -> x_BLD.

    `document_ids_BL` counts documents from 1; 0 is padding, so a 0/1 mask is valid.
    """

    config: Config

    def setup(self):
        c = self.config
        if c.features not in FEATURES:
            raise ValueError(f"unknown features {c.features!r}: use one of {', '.join(FEATURES)}")
        self.token_embedding = Embedding(c.vocab_size, c.embed_width, uniform(c.embed_width))
        self.embedding_dropout = Dropout(c.dropout)
        self.features = FEATURES[c.features](c.width)
        self.output_dropout = Dropout(c.dropout)

    def windows(self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None) -> jax.Array:
        """Return the vectors of the last N words at every position, the latest first: x_BLNE."""
        L = tokens_BL.shape[1]
        back = lambda array, n: jnp.pad(array, ((0, 0), (n, 0), *((0, 0),) * (array.ndim - 2)))
        x_BLE = self.token_embedding(tokens_BL)
        steps = range(self.config.window)
        x_BLNE = jnp.stack([back(x_BLE, n)[:, :L] for n in steps], 2)
        if document_ids_BL is None:
            return x_BLNE
        ids_BLN = jnp.stack([back(document_ids_BL, n)[:, :L] for n in steps], 2)
        same_BLN = (ids_BLN == document_ids_BL[..., None]) & (ids_BLN > 0)
        return jnp.where(same_BLN[..., None], x_BLNE, 0)

    def read_windows(self, x_BLNE: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the features of windows: x_BLD."""
        x_BLNE = self.embedding_dropout(x_BLNE, train=train)
        x_BLD = self.features(x_BLNE.reshape(*x_BLNE.shape[:2], -1))
        return self.output_dropout(x_BLD, train=train)

    def __call__(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        return self.read_windows(self.windows(tokens_BL, document_ids_BL), train=train)


class Softmax(nn.Module):
    """Next-token head: x_BLD -> UnprojectedLogits."""

    vocab_size: int

    @nn.compact
    def __call__(self, x_BLD: jax.Array) -> UnprojectedLogits:
        D = x_BLD.shape[-1]
        table_VD = self.param("embedding", uniform(D), (self.vocab_size, D))
        bias_V = self.param("bias", nn.initializers.zeros, (self.vocab_size,))
        return UnprojectedLogits(x_BLD, table_VD, bias_V)


class FixedWindowLM(nn.Module):
    """The trunk with the softmax over the vocabulary."""

    config: Config

    def setup(self):
        self.trunk = FixedWindow(self.config)
        self.head = Softmax(self.config.vocab_size)

    def unprojected(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> UnprojectedLogits:
        """Return unprojected next-token logits."""
        return self.head(self.trunk(tokens_BL, document_ids_BL, train=train))

    def __call__(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """Return the next-token logits: logits_BLV."""
        return self.unprojected(tokens_BL, document_ids_BL, train=train).logits()

    def start(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array, max_new_tokens: int
    ) -> tuple[jax.Array, jax.Array]:
        """Process prompts: next-token logits_BV, and the last window x_BNE."""
        x_BNE = self.trunk.windows(tokens_BL, document_ids_BL)[:, -1]
        return self._predict(x_BNE), x_BNE

    def step(self, token_B: jax.Array, x_BNE: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Process one more token: next-token logits_BV and the updated window."""
        new_B1E = self.trunk.token_embedding(token_B)[:, None]
        x_BNE = jnp.concatenate([new_B1E, x_BNE[:, :-1]], 1)
        return self._predict(x_BNE), x_BNE

    def _predict(self, x_BNE: jax.Array) -> jax.Array:
        return self.head(self.trunk.read_windows(x_BNE[:, None])).logits()[:, 0]


Model = FixedWindowLM
MODELS = (FixedWindowLM,)
TASKS: dict[str, type[nn.Module]] = {}
GROUPS = ("trunk/token_embedding", "trunk/features", "")
AXES = sharding.AXES
