"""Contracts: the methods that a model needs for each use, such as generation.

A function that needs a capability checks for its contract, `isinstance(model, EncoderDecoder)`, and
fails in one line if it is missing. The methods are called through `model.apply(..., method=...)`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from flax import linen as nn


class Architecture(Protocol):
    """A module of zoo/models."""

    @property
    def Config(self) -> type:
        """The config: frozen, keyword-only, with the paper's base model as defaults."""

    @property
    def SIZES(self) -> Mapping[str, Any]:
        """Published name -> Config."""

    @property
    def Model(self) -> type[Any]:
        """The model that pretraining trains: a Flax module, or a `CountModel`."""

    @property
    def MODELS(self) -> tuple[type[Any], ...]:
        """All models that are not for a task."""

    @property
    def TASKS(self) -> Mapping[str, type[nn.Module]]:
        """Kind of task -> the model for it."""

    @property
    def GROUPS(self) -> tuple[str, ...]:
        """Patterns of parameter paths from input to output, for freezing and learning rates."""

    @property
    def AXES(self) -> tuple[tuple[str, tuple[str | None, ...]], ...]:
        """Pattern of a parameter path -> the mesh axis over which each of its axes may be split."""


@runtime_checkable
class Encoder(Protocol):
    """A trunk on which a head for a task can be put."""

    def read(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None,
        document_ids_BL: jax.Array | None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Return one vector per token, x_BLD; a trunk without segments ignores them."""


@runtime_checkable
class LanguageModel(Protocol):
    """A model that generates: it processes a prompt or a source, then one token at a time.

    A cache is any pytree: keys and values, recurrent states, convolution buffers. The first axis of
    its arrays is the batch; an array that `step` returns unchanged belongs to the source.
    """

    @property
    def config(self) -> Any:
        """The config, with vocab_size and max_length."""

    def start(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array, max_new_tokens: int
    ) -> tuple[jax.Array, Any]:
        """Process prompts, padded on the left.

        Returns logits_BV of the next token, and a cache with room for `max_new_tokens` more tokens.
        """

    def step(self, token_B: jax.Array, cache: Any) -> tuple[jax.Array, Any]:
        """Process one more token: next-token logits_BV and the updated cache."""


@runtime_checkable
class SoundModel(LanguageModel, Protocol):
    """A language model whose tokens are the mu-law levels of a waveform."""

    @property
    def rate(self) -> int:
        """The number of samples per second."""


@runtime_checkable
class StatefulLanguageModel(LanguageModel, Protocol):
    """A recurrent language model, whose states after one window begin the next."""

    def initial_states(self, batch_size: int) -> Any:
        """Return the states before the first token; needs no parameters."""

    def unprojected(
        self,
        tokens_BL: jax.Array,
        document_ids_BL: jax.Array | None = None,
        states: Any = None,
        *,
        train: bool = False,
    ) -> tuple[Any, Any]:
        """Return next-token logits before the vocabulary product, and the states after the last.

        States are reset where a new document begins.
        """


@runtime_checkable
class DirectionsModel(Protocol):
    """A forward and a backward recurrent language model, trained together."""

    def initial_states(self, batch_size: int) -> Any:
        """Return the states of both directions before the first token; needs no parameters."""

    def directions(
        self,
        forward: jax.Array,
        forward_ids_BL: jax.Array,
        backward: jax.Array,
        backward_ids_BL: jax.Array,
        states: Any = None,
        *,
        train: bool = False,
    ) -> tuple[tuple[Any, Any], Any]:
        """Return next-token logits of both directions, unprojected, and the states after the last.

        `forward` holds tokens in the order of the text, `backward` tokens in the reversed order,
        and the ids are those of their documents. States are reset where a new document begins.
        """


@runtime_checkable
class Speller(Protocol):
    """A model that reads words letter by letter, so that it has a vector for any word."""

    def spell(self, tokenizer: Any, words: Sequence[str]) -> tuple[np.ndarray, list[int]]:
        """Return the input of a sentence, [L] or [L, letters], and the position of each word."""


@runtime_checkable
class CountModel(LanguageModel, Protocol):
    """A language model of counts: its parameters are tables, and no gradient trains it.

    It has `init` and `apply` in the form of Flax's, so functions that are annotated with
    `nn.Module` and only apply the model take it too; its methods get the tables from `apply`.
    """

    def init(self, key: Any, tokens_BL: jax.Array) -> Mapping[str, Any]:
        """Return {"params": tables} of the right shapes."""

    def apply(
        self, variables: Mapping[str, Any], *inputs: Any, method: str = "__call__", **options: Any
    ) -> Any:
        """Call a method by name with the tables, `variables["params"]`."""

    def score(
        self,
        tables: Any,
        tokens_BL: jax.Array,
        document_ids_BL: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Return the probability of each token after those before it, p_BL, and the order used."""


@runtime_checkable
class EncoderDecoder(LanguageModel, Protocol):
    """A language model that reads a source and generates a target."""

    @property
    def start_token(self) -> int:
        """The token that begins every target."""

    def encode(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None, *, train: bool = False
    ) -> Any:
        """Return what the decoder attends to or starts from."""


@runtime_checkable
class WordVectorModel(Protocol):
    """A model with one vector per word, whatever stands beside it."""

    def word_vectors(self, params: Any, words: Sequence[str], ids_N: np.ndarray) -> np.ndarray:
        """Return the vectors of words, given their ids in the vocabulary: x_ND.

        An id of -1 is a word outside of it, which only fastText can compose.
        """


@runtime_checkable
class MaskFiller(Protocol):
    """A model that predicts masked tokens."""

    def fill(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None,
        masked_BP: jax.Array,
        document_ids_BL: jax.Array | None = None,
    ) -> jax.Array:
        """Return logits_BPV of the masked positions."""


@runtime_checkable
class PermutationLanguageModel(Protocol):
    """A model trained on permutations of a text, which can also read it in its order."""

    def left_to_right(
        self, tokens_BL: jax.Array, document_ids_BL: jax.Array | None = None
    ) -> jax.Array:
        """Return the logits of the next token, given the tokens up to each: logits_BLV."""


@runtime_checkable
class MaskedLanguageModel(MaskFiller, Protocol):
    """A model that is pretrained by masking: a `trunk` and a head over the vocabulary."""

    def masked_unprojected(self, x_BPD: jax.Array) -> Any:
        """Return masked-token logits of hidden states, before the vocabulary product."""


@runtime_checkable
class ReplacedTokenDetector(Protocol):
    """A model that detects replaced tokens."""

    def detect(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None = None,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Return logits_BL, above 0 for a replaced token."""


@runtime_checkable
class TrunkWithHead(Protocol):
    """A model for a task in two steps, so that features of a frozen trunk are computed once."""

    def features(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None = None,
        document_ids_BL: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Return the input of the head: x_BLD, or x_BD if the model pools a text to one vector."""

    def head(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the logits of each text or token."""


@runtime_checkable
class ClassifierWithLanguageModel(TrunkWithHead, Protocol):
    """A classifier that also predicts the next token, for GPT's auxiliary loss."""

    def with_words(
        self,
        tokens_BL: jax.Array,
        segments_BL: jax.Array | None,
        document_ids_BL: jax.Array | None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, Any]:
        """Return class logits and next-token logits, the latter before the vocabulary product."""


@runtime_checkable
class Composite(Protocol):
    """A model made of two or more networks that are published separately."""

    @staticmethod
    def part(cls: type, config: Any, params: dict) -> tuple[Any, dict]:
        """Return the config and the parameters of one network, by its class."""
