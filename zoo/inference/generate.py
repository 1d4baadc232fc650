"""Text generation with any language model, greedy or by sampling.

An encoder-decoder generates a target for its source, which may have any length.

Decoding is a compiled loop over a static cache; it restarts with a smaller batch whenever half of
the rows have ended. Prompts and new tokens are padded to length buckets, so a thousand requests
need only a few compilations; the numbers among the options are arguments of the compiled loop.
Stop strings are looked for between runs of the loop, of a few tokens each.

B batch  L length  N new tokens  V vocabulary
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Unpack, overload

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from zoo.checkpoints.load import Loaded
from zoo.inference import decoding
from zoo.inference.constraints import (
    Rules,
    check_integer,
    check_number,
    constrain,
    constraints,
    opening,
)
from zoo.inference.continuation import continuation, stops, word_ids
from zoo.inference.decoding import State
from zoo.inference.length_buckets import bucket
from zoo.inference.prompts import (
    UNLIMITED,
    as_list,
    check_generates,
    encode,
    end_token,
    pad,
    require_tokenizer,
)
from zoo.params import call

NEVER = -1e30
COLDEST = 1e-6  # a lower temperature is greedy: logits divided by it would overflow
CHUNK = 16  # how many tokens are generated before stop strings are looked for


class Options(Rules, total=False):
    """How the next token is chosen; see `generate`."""

    temperature: float
    top_k: int
    top_p: float
    seed: int


def greedy(keys_B, logits_BV, settings):
    """Return the most probable token."""
    return logits_BV.argmax(-1).astype(jnp.int32)


def sample(keys_B, logits_BV, settings):
    """Sample at a temperature from the `top_k` most probable tokens and the nucleus of `top_p`.

    The nucleus is the smallest set of most probable tokens whose total probability is at least
    top_p (Holtzman et al. 2020), after temperature and top_k.
    """
    temperature, top_k, top_p = settings
    logits_BV = logits_BV / temperature
    sorted_BV = -jnp.sort(-logits_BV)
    in_top_BV = jnp.arange(logits_BV.shape[-1]) < top_k
    probability_BV = jax.nn.softmax(jnp.where(in_top_BV, sorted_BV, NEVER))
    before_BV = jnp.cumsum(probability_BV, -1) - probability_BV
    count_B1 = (in_top_BV & (before_BV < top_p)).sum(-1, keepdims=True)
    least_B1 = jnp.take_along_axis(sorted_BV, jnp.maximum(count_B1 - 1, 0), -1)
    logits_BV = jnp.where(logits_BV >= least_B1, logits_BV, NEVER)
    return jax.vmap(jax.random.categorical)(keys_B, logits_BV).astype(jnp.int32)


def generate_ids(
    model: nn.Module,
    params: chex.ArrayTree,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    end: int | None = None,
    bad_words_ids: Sequence[Sequence[int]] = (),
    has_stopped: Callable[[int, list[int]], bool] | None = None,
    **options: Unpack[Options],
) -> list[list[int]]:
    """Return the continuations of prompts of token ids.

    A continuation ends before the token `end`. A row does not depend on the other rows or on the
    padding.

    Args:
      model: A language model or an encoder-decoder.
      params: Its parameters.
      prompts: Token ids, or those of the sources.
      max_new_tokens: Maximum tokens to generate.
      end: The token that ends a text.
      bad_words_ids: Sequences of tokens that are never generated.
      has_stopped: Returns whether a continuation has ended, given the index of its prompt and its
        tokens. It is asked every few tokens, so there may be more of them.
      **options: As in `generate`.

    Raises:
      ValueError: If a prompt is empty, has ids out of range, or leaves no room for
        `max_new_tokens` more; or if an option is out of range.
    """

    def has_ended(texts, row_B):
        rows = zip(row_B, *map(np.asarray, texts), strict=True)
        return np.array([has_stopped(row, new[:count].tolist()) for row, new, count in rows])

    chunk = None if has_stopped is None else CHUNK
    state, continue_loop = begin(
        model, params, prompts, max_new_tokens, end, bad_words_ids, chunk, **options
    )
    tokens_BN, count_B = decoding.finish(
        state, continue_loop, max_new_tokens, chunk, has_ended if has_stopped else None
    )
    return [row[:count].tolist() for row, count in zip(tokens_BN, count_B, strict=True)]


def begin(
    model: nn.Module,
    params: chex.ArrayTree,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    end: int | None,
    bad_words_ids: Sequence[Sequence[int]],
    chunk: int | None,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    **rules: Unpack[Rules],
) -> tuple[State, Callable[[State, int], State]]:
    """Run the loop for `chunk` tokens; return its state, and how to continue up to a length."""
    check_number("temperature", temperature, least=0)
    check_integer("top_k", top_k, 0)
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must be a number above 0 and at most 1, not {top_p}")
    check_integer("seed", seed, 0)
    limits = constraints(
        model.config.vocab_size, end, max_new_tokens, bad_words_ids=bad_words_ids, **rules
    )
    tokens_BL, document_ids_BL = pad(model, prompts, max_new_tokens)
    choose = greedy if temperature < COLDEST else sample
    top_k = min(top_k, model.config.vocab_size) or model.config.vocab_size
    settings = jnp.float32(temperature), jnp.int32(top_k), jnp.float32(top_p)
    rest = limits, settings, jax.random.key(seed), -1 if end is None else end
    size = bucket(max_new_tokens, UNLIMITED)
    length = min(max_new_tokens, chunk or max_new_tokens)
    state = decode(model, choose, size, params, tokens_BL, document_ids_BL, *rest, length)
    return state, lambda state, length: resume(model, choose, params, state, *rest, length)


@partial(jax.jit, static_argnums=(0, 1, 2))
def decode(
    model, choose, size, params, tokens_BL, document_ids_BL, limits, settings, key, end, length
):
    """Run the compiled loop; its texts are new tokens_BN (N = size) and their number in each row.

    It stops when half of the rows have ended (all, if they are few), or at `length` tokens.
    """
    B = len(tokens_BL)
    logits_BV, cache = call(model, params, tokens_BL, document_ids_BL, size, method="start")
    texts = jnp.zeros((B, size), jnp.int32), jnp.zeros(B, jnp.int32)
    before = opening(model, tokens_BL, document_ids_BL) if limits.read_text else None
    state = State(0, logits_BV, cache, texts, jnp.ones(B, bool), jnp.arange(B), before)
    return resume(model, choose, params, state, limits, settings, key, end, length)


@partial(jax.jit, static_argnums=(0, 1))
def resume(model, choose, params, state, limits, settings, key, end, length):
    """Continue the loop of `decode` from a state."""

    def advance(state):
        n, logits_BV, cache, (tokens_BN, count_B), unfinished_B, row_B, before = state
        logits_BV = constrain(limits, logits_BV, before, tokens_BN, n, end)
        keys_B = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, n), row_B)
        token_B = choose(keys_B, logits_BV, settings)
        unfinished_B &= token_B != end
        texts = tokens_BN.at[:, n].set(token_B), count_B + unfinished_B
        logits_BV, cache = call(model, params, token_B, cache, method="step")
        return State(n + 1, logits_BV, cache, texts, unfinished_B, row_B, before)

    return decoding.loop(advance, state, length)


@overload
def generate(
    loaded: Loaded,
    prompt: str,
    *,
    max_new_tokens: int = ...,
    stop: str | Sequence[str] = ...,
    bad_words: str | Sequence[str] = ...,
    **options: Unpack[Options],
) -> str: ...


@overload
def generate(
    loaded: Loaded,
    prompt: list[str],
    *,
    max_new_tokens: int = ...,
    stop: str | Sequence[str] = ...,
    bad_words: str | Sequence[str] = ...,
    **options: Unpack[Options],
) -> list[str]: ...


@overload
def generate(
    loaded: Loaded,
    prompt: str,
    *,
    num_return_sequences: int,
    max_new_tokens: int = ...,
    stop: str | Sequence[str] = ...,
    bad_words: str | Sequence[str] = ...,
    **options: Unpack[Options],
) -> list[str]: ...


@overload
def generate(
    loaded: Loaded,
    prompt: list[str],
    *,
    num_return_sequences: int,
    max_new_tokens: int = ...,
    stop: str | Sequence[str] = ...,
    bad_words: str | Sequence[str] = ...,
    **options: Unpack[Options],
) -> list[list[str]]: ...


def generate(
    loaded: Loaded,
    prompt: str | list[str],
    *,
    num_return_sequences: int | None = None,
    max_new_tokens: int = 100,
    stop: str | Sequence[str] = (),
    bad_words: str | Sequence[str] = (),
    **options: Unpack[Options],
) -> str | list[str] | list[list[str]]:
    """Return the continuation of a text, or the output of an encoder-decoder for it.

    Args:
      loaded: A language model or an encoder-decoder with its tokenizer.
      prompt: A text or a list of texts; an empty text begins a new document.
      num_return_sequences: How many continuations to sample for each text; they differ.
      max_new_tokens: Maximum tokens to generate.
      stop: Strings that end the continuation, which is returned up to the first of them.
      bad_words: Words that are not generated, in the spelling given; a longer word may begin
        with one, and a model can still spell one with unusual tokens.
      **options: `temperature` (default 1): below 1 more conservative, above 1 more random, 0 is
        greedy. `top_k` (0): sample from this many of the most probable tokens; 0: from all.
        `top_p` (1): sample from the most probable tokens with this total probability. `seed` (0)
        of the samples. `min_new_tokens` (0): the text does not end before.
        `repetition_penalty` (1): above 1, tokens that occurred are less probable.
        `no_repeat_ngram_size` (0): no sequence of so many tokens occurs twice; 0: they may.
        `suppress_tokens`: ids of tokens that are never generated.

    Returns:
      A text for a text, a list for a list; with `num_return_sequences`, a list in place of each
      text.

    Raises:
      ValueError: If the model does not generate, a prompt is too long, or an option is out of
        range.
    """
    check_generates(loaded.model)
    tokenizer = require_tokenizer(loaded)
    copies = 1 if num_return_sequences is None else num_return_sequences
    check_integer("num_return_sequences", copies, 1)
    if copies > 1 and options.get("temperature", 1) < COLDEST:
        raise ValueError(
            f"temperature 0 is greedy, so all {copies} sequences would be the same: use a "
            "temperature above 0, or zoo.beam_search with best"
        )
    prompts = [encode(loaded, text) for text in as_list(prompt) for _ in range(copies)]
    if not prompts:
        return []
    stop = stops(stop)
    continuations = [continuation(loaded, ids, stop) for ids in prompts]
    ids = generate_ids(
        loaded.model,
        loaded.params,
        prompts,
        max_new_tokens=max_new_tokens,
        end=end_token(tokenizer),
        bad_words_ids=word_ids(tokenizer, bad_words),
        has_stopped=(lambda row, new: continuations[row].has_stopped(new)) if stop else None,
        **options,
    )
    texts = [
        continued.until_stop(tokens) for continued, tokens in zip(continuations, ids, strict=True)
    ]
    if num_return_sequences is None:
        return texts[0] if isinstance(prompt, str) else texts
    groups = [texts[start : start + copies] for start in range(0, len(texts), copies)]
    return groups[0] if isinstance(prompt, str) else groups
