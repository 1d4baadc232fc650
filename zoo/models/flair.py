"""Flair (Akbik et al. 2018), "Contextual String Embeddings for Sequence Labeling".

https://aclanthology.org/C18-1139
Two language models of characters, that share nothing: one reads a text forward, one backward. The
vector of a word is the state of the forward one at the blank after it, which has read the word and
all before it, and the state of the backward one at the blank before it (section 2.3, equation 6).
So a word has a vector that depends on its context, and the vocabulary has only characters.

Departures: the released code begins what either direction reads with a line end and ends it with a
blank, so the trunk does so too; each gate has two biases, as in PyTorch.

B batch  L length  D width, of one direction or of both  E embedding width  V vocabulary
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from zoo.layers import heads, recurrent, taggers
from zoo.layers.dropout import Dropout
from zoo.layers.embedding import Embedding, UnprojectedLogits
from zoo.layers.recurrent import Stack, States
from zoo.layers.taggers import StackedTagger
from zoo.tokenizers.units import UNKNOWN

LINE_END, BLANK = 2, 3  # ids of the vocabulary, after those of unknown characters and of documents


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config of two language models of characters; the defaults are the released models'.

    `max_length` is required by the trainer; the model itself works at any length.
    """

    vocab_size: int = 275
    max_length: int = 1 << 30
    num_layers: int = 1
    width: int = 4096  # both directions together
    dropout: float = 0.1
    embed_width: int = 100
    labels: tuple[str, ...] = heads.LABELS
    tagger_width: int = 256
    tagger_dropout: float = 0.5
    stacked: tuple[int, int] = (0, 0)  # the number and the width of word vectors in a tagger


SIZES = {
    "flair-tiny": Config(width=512, embed_width=64),  # 836,006
    "flair-1024": Config(width=2048),  # 9,842,942
    "flair-2048": Config(),  # 36,407,550
}


class Direction(nn.Module):
    """The characters of one direction: tokens_BL -> x_BLD, and the states after the last one."""

    config: Config

    def setup(self):
        c = self.config
        self.token_embedding = Embedding(c.vocab_size, c.embed_width, uniform)
        self.embedding_dropout = Dropout(c.dropout)
        self.stack = Stack(c.num_layers, "lstm", c.width // 2, c.dropout)

    def __call__(
        self,
        tokens_BL: jax.Array,
        document_ids_BL: jax.Array | None = None,
        states: States | None = None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, States]:
        x_BLE = self.embedding_dropout(self.token_embedding(tokens_BL), train=train)
        return self.stack(x_BLE, document_ids_BL, states, train=train)

    def step(self, token_B: jax.Array, states: States) -> States:
        """Return the states after one more character."""
        return self.stack.step(self.token_embedding(token_B), states)


class Flair(nn.Module):
    """The trunk: tokens_BL -> x_BLD, the forward state at a position, then the backward state.

    The backward state is that at the last blank or line end before the position, or at the first
    token of the document if there is none, so that the vector at the blank after a word is the
    word's. `document_ids_BL` counts documents from 1; 0 is padding, so a 0/1 mask is valid.
    """

    config: Config

    def setup(self):
        if self.config.width % 2:
            raise ValueError(f"the width of both directions must be even, not {self.config.width}")
        self.forward = Direction(self.config)
        self.backward = Direction(self.config)

    def __call__(
        self,
        tokens_BL: jax.Array,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        if document_ids_BL is None:
            document_ids_BL = jnp.ones(tokens_BL.shape, jnp.int32)
        first_BL, last_BL = document_ends(document_ids_BL)
        left_BLD, _ = self.forward(tokens_BL, document_ids_BL, train=train)
        # The backward model, too, begins with a line end and ends with a blank.
        tokens_BL = jnp.where(last_BL & (tokens_BL == BLANK), LINE_END, tokens_BL)
        tokens_BL = jnp.where(first_BL & (tokens_BL == LINE_END), BLANK, tokens_BL)
        right_BLD, _ = self.backward(tokens_BL[:, ::-1], document_ids_BL[:, ::-1], train=train)
        is_boundary_BL = first_BL | (tokens_BL == BLANK) | (tokens_BL == LINE_END)
        at_BL = last_before(is_boundary_BL, document_ids_BL > 0, first_BL)
        right_BLD = jnp.take_along_axis(right_BLD[:, ::-1], at_BL[..., None], 1)
        return jnp.concatenate([left_BLD, right_BLD], -1)

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

    @nn.nowrap
    def spell(self, tokenizer: Any, words: Sequence[str]) -> tuple[np.ndarray, list[int]]:
        """Return the characters of a sentence, int32 [L], and the position after each word.

        The words stand between blanks, after a line end.

        Raises:
          ValueError: If the tokenizer has other ids for a line end and a blank.
        """
        check_tokenizer(tokenizer)
        text = "\n" + "".join(f"{word} " for word in words)
        tokens_L = np.array([_id(tokenizer, letter) for letter in text], np.int32)
        return tokens_L, list(np.cumsum([len(word) + 1 for word in words]))


def document_ends(document_ids_BL: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return which tokens are the first and the last one of their document: bool [B, L] each."""
    no_document = jnp.iinfo(jnp.int32).max
    later_BL = jnp.where(document_ids_BL > 0, document_ids_BL, no_document)
    later_BL = jax.lax.cummin(later_BL, 1, reverse=True)
    later_BL = jnp.pad(later_BL, ((0, 0), (0, 1)), constant_values=no_document)[:, 1:]
    earlier_BL = jnp.pad(jax.lax.cummax(document_ids_BL, 1), ((0, 0), (1, 0)))[:, :-1]
    is_last_BL = (document_ids_BL > 0) & (later_BL > document_ids_BL)
    return document_ids_BL > earlier_BL, is_last_BL


def last_before(marked_BL: jax.Array, real_BL: jax.Array, first_BL: jax.Array) -> jax.Array:
    """Return the position of the last marked token before each; the first is its own: int [B, L].

    Args:
      marked_BL: Which tokens are marked, among them the first of each document.
      real_BL: Which tokens are not padding.
      first_BL: Which tokens are the first of a document.
    """
    at_L = jnp.arange(marked_BL.shape[1])
    last_BL = jax.lax.cummax(jnp.where(marked_BL & real_BL, at_L, 0), 1)
    before_BL = jnp.pad(last_BL, ((0, 0), (1, 0)))[:, :-1]
    return jnp.where(first_BL, at_L, before_BL)


def check_tokenizer(tokenizer: Any) -> None:
    """Raise ValueError unless a tokenizer has the ids of a line end and a blank."""
    ids = [_id(tokenizer, letter) for letter in "\n "]
    if ids != [LINE_END, BLANK]:
        raise ValueError(
            f"the tokenizer has the ids {ids[0]} and {ids[1]} for a line end and a blank, but "
            f"Flair has {LINE_END} and {BLANK}: use the tokenizer of a Flair model"
        )


def _id(tokenizer: Any, letter: str) -> int | None:
    """Return the id of a character, or of the unknown one."""
    id = tokenizer.token_to_id(letter)
    return tokenizer.token_to_id(UNKNOWN) if id is None else id


def uniform(key: chex.PRNGKey, shape: Sequence[int]) -> jax.Array:
    """Return the initial value of an embedding or a head: uniform within 0.1."""
    return jax.random.uniform(key, shape, minval=-0.1, maxval=0.1)


class FlairTagger(StackedTagger):
    """A tagger of words, whose vectors stand at the blanks after them."""

    trunk_class = Flair

    def is_word(self, tokens_BL: jax.Array, document_ids_BL: jax.Array) -> jax.Array:
        """Return which characters are blanks, each of which follows a word: bool [B, L]."""
        return (document_ids_BL > 0) & (tokens_BL == BLANK)

    spell = Flair.spell


class Decoder(nn.Module):
    """Next-character head: x_BLD -> UnprojectedLogits."""

    vocab_size: int
    width: int

    def setup(self):
        self.table_VD = self.param("embedding", uniform, (self.vocab_size, self.width))
        self.bias_V = self.param("bias", nn.initializers.zeros, (self.vocab_size,))

    def __call__(self, x_BLD: jax.Array) -> UnprojectedLogits:
        return UnprojectedLogits(x_BLD, self.table_VD, self.bias_V)


class FlairLM(nn.Module):
    """The trunk with a head for each direction. The forward language model also generates."""

    config: Config

    def setup(self):
        c = self.config
        self.trunk = Flair(c)
        self.forward_dropout, self.backward_dropout = Dropout(c.dropout), Dropout(c.dropout)
        self.forward_head = Decoder(c.vocab_size, c.width // 2)
        self.backward_head = Decoder(c.vocab_size, c.width // 2)

    spell = Flair.spell

    @nn.nowrap
    def initial_states(self, batch_size: int) -> tuple[States, States]:
        """Return the states of both directions before the first character, which are zeros."""
        c = self.config
        states = (recurrent.zeros("lstm", c.width // 2, batch_size),) * c.num_layers
        return states, states

    def directions(
        self,
        forward_BL: jax.Array,
        forward_ids_BL: jax.Array | None,
        backward_BL: jax.Array,
        backward_ids_BL: jax.Array | None,
        states: tuple[States, States] | None = None,
        *,
        train: bool = False,
    ) -> tuple[tuple[UnprojectedLogits, UnprojectedLogits], tuple[States, States]]:
        """Return next-character logits of both directions, unprojected, and the last states.

        Args:
          forward_BL: Characters in the order of the text.
          forward_ids_BL: The documents of these characters.
          backward_BL: Characters in the reversed order, of any part of the text.
          backward_ids_BL: The documents of these characters.
          states: Those of both directions after the characters before.
          train: Whether dropout is active.
        """
        before = (None, None) if states is None else states
        left_BLD, left = self.trunk.forward(forward_BL, forward_ids_BL, before[0], train=train)
        right_BLD, right = self.trunk.backward(backward_BL, backward_ids_BL, before[1], train=train)
        following = self.forward_head(self.forward_dropout(left_BLD, train=train))
        previous = self.backward_head(self.backward_dropout(right_BLD, train=train))
        return (following, previous), (left, right)

    def __call__(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """Return the logits of the next and of the previous character at every position."""
        flipped_BL = None if document_ids_BL is None else document_ids_BL[:, ::-1]
        inputs = tokens_BL, document_ids_BL, tokens_BL[:, ::-1], flipped_BL
        (following, previous), _ = self.directions(*inputs, train=train)
        return following.logits(), previous.logits()[:, ::-1]

    def start(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array, max_new_tokens: int
    ) -> tuple[jax.Array, States]:
        """Process prompts: next-token logits_BV and the states; `max_new_tokens` is not limited."""
        x_BLD, states = self.trunk.forward(tokens_BL, document_ids_BL)
        return self.forward_head(x_BLD[:, -1:]).logits()[:, 0], states

    def step(self, token_B: jax.Array, states: States) -> tuple[jax.Array, States]:
        """Process one more character: next-token logits_BV and the updated states."""
        states = self.trunk.forward.step(token_B, states)
        return self.forward_head(states[-1][0][:, None]).logits()[:, 0], states


Model = FlairLM
MODELS = (FlairLM,)
FlairCRFTagger = taggers.crf_tagger(FlairTagger)
TASKS: dict[str, type[nn.Module]] = {"tagging": FlairTagger, "crf-tagging": FlairCRFTagger}
GROUPS = (
    r"trunk/(?:forward|backward)/token_embedding|^vectors$",
    r"trunk/(?:forward|backward)/stack/layers_(\d+)/",
    "",
)
AXES = recurrent.AXES
