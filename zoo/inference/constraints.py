"""Constraints on the next token: some are banned, and repeated ones become less probable.

They follow transformers: its RepetitionPenalty, NoRepeatNGram, NoBadWords, MinNewTokensLength and
SuppressTokens, in this order. The prompt counts as generated; of an encoder-decoder, the token that
begins every target does, and the source does not.

A constraint that is off is None, so that it costs nothing in the compiled loop; numbers are traced,
so that other numbers need no other program. Only the size of the n-grams is part of the program.

B batch, or all beams  L length of the prompt  M of the text  N new tokens  V vocabulary
K bad words  W windows, or tokens of a bad word
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct

from zoo.contracts import EncoderDecoder
from zoo.inference.length_buckets import bucket
from zoo.inference.prompts import UNLIMITED

ANY, NONE = -1, -2  # match every token, and no token


class Rules(TypedDict, total=False):
    """What `generate`, `beam_search` and `translate` have in common; see `constraints`."""

    min_new_tokens: int
    repetition_penalty: float
    no_repeat_ngram_size: int
    suppress_tokens: Sequence[int]


@struct.dataclass
class Constraints:
    """The constraints of a request, for `constrain`; None is off.

    Attributes:
      repetition_penalty: What the logits of earlier tokens are divided by, if they are positive,
        or multiplied by.
      no_repeat_ngram_size: No n-gram of this size occurs twice; 0 is off.
      bad_words_KW: Sequences that are never completed, each padded on the left with ANY.
      min_new_tokens: The end of a text is banned before.
      suppressed_V: Which tokens are never generated.
    """

    repetition_penalty: jax.Array | None = None
    no_repeat_ngram_size: int = struct.field(pytree_node=False, default=0)
    bad_words_KW: jax.Array | None = None
    min_new_tokens: jax.Array | None = None
    suppressed_V: jax.Array | None = None

    @property
    def read_text(self) -> bool:
        """Whether they depend on the earlier tokens, and not only on their number."""
        sequences = self.repetition_penalty, self.bad_words_KW
        return self.no_repeat_ngram_size > 0 or any(x is not None for x in sequences)


class Opening(NamedTuple):
    """The tokens before the new ones, padded on the left, and the position of the first one."""

    tokens_BL: jax.Array
    first_B: jax.Array


def constraints(
    vocab_size: int,
    end: int | None,
    max_new_tokens: int,
    *,
    bad_words_ids: Sequence[Sequence[int]] = (),
    min_new_tokens: int = 0,
    repetition_penalty: float = 1.0,
    no_repeat_ngram_size: int = 0,
    suppress_tokens: Sequence[int] = (),
) -> Constraints:
    """Return the constraints of a request.

    Args:
      vocab_size: The size of the vocabulary.
      end: The token that ends a text, which is no bad word.
      max_new_tokens: Maximum tokens to generate.
      bad_words_ids: Sequences of tokens that are never completed; one of a single token bans it.
      min_new_tokens: The text does not end before.
      repetition_penalty: Above 1: tokens that the text has already are less probable.
      no_repeat_ngram_size: No sequence of so many tokens occurs twice; 0: they may.
      suppress_tokens: Tokens that are never generated.

    Raises:
      ValueError: If a number is out of range; the message names it.
    """
    check_integer("max_new_tokens", max_new_tokens, 1)
    check_integer("min_new_tokens", min_new_tokens, 0)
    check_number("repetition_penalty", repetition_penalty, above=0)
    check_integer("no_repeat_ngram_size", no_repeat_ngram_size, 0)
    if min_new_tokens > max_new_tokens:
        raise ValueError(
            f"min_new_tokens is {min_new_tokens}, but max_new_tokens only {max_new_tokens}"
        )
    for name, ids in (
        ("suppress_tokens", suppress_tokens),
        *(("bad_words", word) for word in bad_words_ids),
    ):
        for id in ids:
            check_integer(f"a token id of {name}", id, 0)
            if id >= vocab_size:
                raise ValueError(
                    f"{name} has the token id {id}, outside the vocabulary, 0 to {vocab_size - 1}"
                )
    if not all(map(len, bad_words_ids)):
        raise ValueError("a word of bad_words is empty: leave it out")
    words = [list(word) for word in bad_words_ids if list(word) != [end]]
    banned = {*suppress_tokens, *(word[0] for word in words if len(word) == 1)}
    if len(banned) == vocab_size:
        raise ValueError("bad_words and suppress_tokens leave no token to generate")
    suppressed_V = np.isin(np.arange(vocab_size), list(banned)) if banned else None
    return Constraints(
        repetition_penalty=None if repetition_penalty == 1 else np.float32(repetition_penalty),
        no_repeat_ngram_size=int(no_repeat_ngram_size),
        bad_words_KW=_sequences([word for word in words if len(word) > 1], vocab_size),
        min_new_tokens=np.int32(min_new_tokens) if min_new_tokens else None,
        suppressed_V=suppressed_V,
    )


def _sequences(words: Sequence[Sequence[int]], vocab_size: int) -> np.ndarray | None:
    """Return sequences as one array, padded to length buckets; a row too many bans nothing."""
    if not words:
        return None
    W = bucket(max(map(len, words)), UNLIMITED)
    words_KW = np.full((bucket(len(words), UNLIMITED), W), ANY, np.int32)
    words_KW[len(words) :, -1] = vocab_size
    for row, word in enumerate(words):
        words_KW[row, W - len(word) :] = word
    return words_KW


def check_integer(name: str, value: int, least: int) -> None:
    """Raise ValueError unless a number is an integer of at least `least`."""
    is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_integer or not least <= value < 1 << 31:
        raise ValueError(f"{name} must be an integer from {least} to {(1 << 31) - 1}, not {value}")


def check_number(
    name: str, value: float, *, least: float | None = None, above: float | None = None
) -> None:
    """Raise ValueError unless a number is finite, and at least `least` or above `above`."""
    bound = f"of at least {least}" if above is None else f"above {above}"
    in_range = value > above if above is not None else least is None or value >= least
    if not math.isfinite(value) or not in_range:
        raise ValueError(f"{name} must be a number {bound}, not {value}")


def opening(model: nn.Module, tokens_BL: jax.Array, document_ids_BL: jax.Array) -> Opening:
    """Return what the texts begin with: the prompts, or the token that begins every target."""
    B, L = tokens_BL.shape
    if isinstance(model, EncoderDecoder):
        return Opening(jnp.full((B, 1), model.start_token), jnp.zeros(B, jnp.int32))
    return Opening(jnp.asarray(tokens_BL), L - (document_ids_BL > 0).sum(1))


def constrain(
    rules: Constraints,
    logits_BV: jax.Array,
    before: Opening | None,
    tokens_BN: jax.Array,
    n: jax.Array | int,
    end: jax.Array | int,
) -> jax.Array:
    """Return the logits of the next token, those of banned tokens -inf.

    Args:
      rules: The constraints.
      logits_BV: Logits or log probabilities of the next token.
      before: What the texts begin with; None if `rules.read_text` is False.
      tokens_BN: The new tokens.
      n: How many of them have been generated.
      end: The token that ends a text, or -1.
    """
    V = logits_BV.shape[-1]
    if before is not None:
        tokens_BM = jnp.concatenate([before.tokens_BL, tokens_BN], 1)
        position_M, stop = jnp.arange(tokens_BM.shape[1]), before.tokens_BL.shape[1] + n
        in_text_BM = (position_M >= before.first_B[:, None]) & (position_M < stop)
        tokens_BM = jnp.where(in_text_BM, tokens_BM, NONE)
        if rules.repetition_penalty is not None:
            penalty = rules.repetition_penalty
            less_BV = jnp.where(logits_BV < 0, logits_BV * penalty, logits_BV / penalty)
            logits_BV = jnp.where(_marked(tokens_BM, V), less_BV, logits_BV)
        if 0 < rules.no_repeat_ngram_size <= tokens_BM.shape[1]:
            repeating_BV = _repeating(tokens_BM, stop, rules.no_repeat_ngram_size, V)
            logits_BV = jnp.where(repeating_BV, -jnp.inf, logits_BV)
        if rules.bad_words_KW is not None:
            bad_BV = _completing(rules.bad_words_KW, tokens_BM, stop, V)
            logits_BV = jnp.where(bad_BV, -jnp.inf, logits_BV)
    if rules.min_new_tokens is not None:
        is_early_V = (jnp.arange(V) == end) & (n < rules.min_new_tokens)
        logits_BV = jnp.where(is_early_V, -jnp.inf, logits_BV)
    if rules.suppressed_V is not None:
        logits_BV = jnp.where(rules.suppressed_V, -jnp.inf, logits_BV)
    return logits_BV


def _repeating(tokens_BM, stop, size, V):
    """Return which tokens would complete an n-gram that the text has: [B, V].

    Every window of the text is compared with its last n - 1 tokens.
    """
    W = tokens_BM.shape[1] - size + 1
    prefix = jax.lax.dynamic_slice_in_dim(tokens_BM, stop - size + 1, size - 1, 1)
    matches_BW = tokens_BM[:, :W] != NONE  # a window within the text has no NONE at either end
    for offset in range(size - 1):
        matches_BW &= tokens_BM[:, offset : offset + W] == prefix[:, offset, None]
    return _marked(jnp.where(matches_BW, tokens_BM[:, size - 1 :], NONE), V)


def _completing(words_KW, tokens_BM, stop, V):
    """Return which tokens would complete one of the sequences: [B, V]."""
    W = words_KW.shape[1]
    padded = jnp.pad(tokens_BM, ((0, 0), (W - 1, 0)), constant_values=NONE)
    last = jax.lax.dynamic_slice_in_dim(padded, stop, W - 1, 1)
    prefix = words_KW[:, :-1]
    matches_BK = ((prefix == last[:, None]) | (prefix == ANY)).all(-1)
    return _marked(jnp.where(matches_BK, words_KW[:, -1], NONE), V)


def _marked(ids, V):
    """Return which tokens are among the ids of each row, [B, ...] -> [B, V]; NONE is ignored."""
    mark = lambda ids: jnp.zeros(V, bool).at[jnp.where(ids < 0, V, ids)].set(True, mode="drop")
    return jax.vmap(mark)(ids)
