"""Text generation with any language model, greedy or by sampling.

An encoder-decoder generates a target for its source, which may have any length.

Decoding is a compiled loop over a static cache; it restarts with a smaller batch whenever half of
the rows have ended. Prompts and new tokens are padded to length buckets, so a thousand requests
need only a few compilations; temperature, top_k and top_p are arguments of the compiled loop.

B batch  L length  N new tokens  V vocabulary
"""

from collections.abc import Sequence
from functools import partial
from typing import overload

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from zoo.checkpoints.load import Loaded
from zoo.contracts import EncoderDecoder
from zoo.inference import decoding
from zoo.inference.decoding import State
from zoo.inference.length_buckets import bucket
from zoo.inference.prompts import UNLIMITED, as_list, encode, end_token, pad, require_tokenizer
from zoo.params import call
from zoo.tokenizers import AnyTokenizer

NEVER = -1e30


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
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
) -> list[list[int]]:
    """Return the continuations of prompts of token ids.

    A continuation ends before the token `end`. Temperature 0 is greedy; top_k 0 means all. A row
    does not depend on the other rows or on the padding.

    Raises:
      ValueError: If a prompt is empty, has ids out of range, or leaves no room for
        `max_new_tokens` more.
    """
    if temperature < 0 or top_k < 0 or not 0 < top_p <= 1:
        raise ValueError("temperature and top_k must be at least 0, and top_p in (0, 1]")
    tokens_BL, document_ids_BL = pad(model, prompts, max_new_tokens)
    choose = greedy if temperature == 0 else sample
    settings = jnp.float32(temperature), jnp.int32(top_k or model.config.vocab_size)
    rest = (
        (*settings, jnp.float32(top_p)),
        jax.random.key(seed),
        max_new_tokens,
        -1 if end is None else end,
    )
    size = bucket(max_new_tokens, UNLIMITED)
    state = decode(model, choose, size, params, tokens_BL, document_ids_BL, *rest)
    continue_loop = lambda state: resume(model, choose, params, state, *rest)
    tokens_BN, count_B = decoding.finish(state, continue_loop, max_new_tokens)
    return [row[:count].tolist() for row, count in zip(tokens_BN, count_B, strict=True)]


@partial(jax.jit, static_argnums=(0, 1, 2))
def decode(model, choose, size, params, tokens_BL, document_ids_BL, settings, key, length, end):
    """Run the compiled loop; its texts are new tokens_BN (N = size) and their number in each row.

    It stops when half of the rows have ended (all, if they are few), or at `length` tokens.
    """
    B = len(tokens_BL)
    logits_BV, cache = call(model, params, tokens_BL, document_ids_BL, size, method="start")
    texts = jnp.zeros((B, size), jnp.int32), jnp.zeros(B, jnp.int32)
    state = State(0, logits_BV, cache, texts, jnp.ones(B, bool), jnp.arange(B))
    return resume(model, choose, params, state, settings, key, length, end)


@partial(jax.jit, static_argnums=(0, 1))
def resume(model, choose, params, state, settings, key, length, end):
    """Continue the loop of `decode` from a state."""

    def advance(state):
        n, logits_BV, cache, (tokens_BN, count_B), unfinished_B, row_B = state
        keys_B = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, n), row_B)
        token_B = choose(keys_B, logits_BV, settings)
        unfinished_B &= token_B != end
        texts = tokens_BN.at[:, n].set(token_B), count_B + unfinished_B
        logits_BV, cache = call(model, params, token_B, cache, method="step")
        return State(n + 1, logits_BV, cache, texts, unfinished_B, row_B)

    return decoding.loop(advance, state, length)


@overload
def generate(
    loaded: Loaded,
    prompt: str,
    *,
    max_new_tokens: int = 100,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
) -> str: ...


@overload
def generate(
    loaded: Loaded,
    prompt: list[str],
    *,
    max_new_tokens: int = 100,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
) -> list[str]: ...


def generate(
    loaded: Loaded,
    prompt: str | list[str],
    *,
    max_new_tokens: int = 100,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
) -> str | list[str]:
    """Return the continuation of a text, or the output of an encoder-decoder for it.

    Args:
      loaded: A language model or an encoder-decoder with its tokenizer.
      prompt: A text or a list of texts; an empty text begins a new document.
      max_new_tokens: Maximum tokens to generate.
      temperature: Below 1: more conservative. Above 1: more random. 0: greedy.
      top_k: Sample from this many of the most probable tokens; 0: from all.
      top_p: Sample from the most probable tokens with this total probability.
      seed: Random seed of the samples.

    Returns:
      A text for a text, a list for a list.
    """
    tokenizer = require_tokenizer(loaded)
    prompts = [encode(loaded, text) for text in as_list(prompt)]
    ids = generate_ids(
        loaded.model,
        loaded.params,
        prompts,
        max_new_tokens=max_new_tokens,
        end=end_token(tokenizer),
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
    )
    is_continued = not isinstance(loaded.model, EncoderDecoder)
    texts = [
        _decode(tokenizer, before if is_continued else [], tokens)
        for before, tokens in zip(prompts, ids, strict=True)
    ]
    return texts[0] if isinstance(prompt, str) else texts


def _decode(tokenizer: AnyTokenizer, before: list[int], tokens: list[int]) -> str:
    """Return the text of tokens that follow others.

    All of them are decoded at once: a character may span more than one byte-level token, and a
    space may be part of the word before it.
    """
    decode = partial(tokenizer.decode, skip_special_tokens=False)
    return decode([*before, *tokens]).removeprefix(decode(before))
