"""Generate text with any language model: sampling, or greedily.

An encoder-decoder writes a target for its source; then the prompt may have any length, and `text`
ends it as training did. All else is the same.

Decoding is one compiled loop over a static cache, and once more for the rest where half of the rows
have ended. Prompts and new tokens are padded to length buckets, so a thousand requests compile a
handful of times; temperature, top_k and top_p are arguments of the compiled loop and compile
nothing.

B batch  L length  N new tokens  V vocabulary
"""

from functools import partial

import jax
import jax.numpy as jnp

from zoo import tokenizers
from zoo.contracts import EncoderDecoder
from zoo.inference import decoding
from zoo.inference.beam_search import beam_search
from zoo.inference.decoding import State
from zoo.inference.length_buckets import bucket
from zoo.inference.prompts import ENDS, UNLIMITED, check_beams, end_token, pad
from zoo.params import call

NEVER = -1e30


def greedy(keys_B, logits_BV, settings):
    """The likeliest token."""
    return logits_BV.argmax(-1).astype(jnp.int32)


def sample(keys_B, logits_BV, settings):
    """A draw of each row at a temperature among the `top_k` likeliest and the nucleus of `top_p`.

    The nucleus is the smallest set of the likeliest tokens that has at least the probability top_p
    (Holtzman et al. 2020), taken after the temperature and the top_k.
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


def generate(
    model, params, prompts, *, length, end=None, temperature=1.0, top_k=0, top_p=1.0, seed=0
) -> list[list[int]]:
    """The continuations of prompts of token ids, each of at most `length` tokens.

    A continuation ends before the token `end`. Temperature 0 takes the likeliest token; top_k 0
    means all. Rows do not depend on each other, nor on the padding. Raises ValueError where a
    prompt is empty, has ids out of range, or leaves no room for `length` more tokens.
    """
    if temperature < 0 or top_k < 0 or not 0 < top_p <= 1:
        raise ValueError("temperature and top_k must not be negative, top_p must be in (0, 1]")
    tokens_BL, documents_BL = pad(model, prompts, length)
    choose = greedy if temperature == 0 else sample
    settings = jnp.float32(temperature), jnp.int32(top_k or model.config.vocab_size)
    rest = (
        (*settings, jnp.float32(top_p)),
        jax.random.key(seed),
        length,
        -1 if end is None else end,
    )
    state = decode(model, choose, bucket(length, UNLIMITED), params, tokens_BL, documents_BL, *rest)
    go_on = lambda state: resume(model, choose, params, state, *rest)
    tokens_BN, count_B = decoding.finish(state, go_on, length)
    return [row[:count].tolist() for row, count in zip(tokens_BN, count_B, strict=True)]


@partial(jax.jit, static_argnums=(0, 1, 2))
def decode(model, choose, room, params, tokens_BL, documents_BL, settings, key, length, end):
    """The compiled loop: its texts are new tokens_BN (N = room) and how many of each row count.

    It stops where half of the rows have ended, of few rows all, or at `length` tokens.
    """
    B = len(tokens_BL)
    logits_BV, cache = call(model, params, tokens_BL, documents_BL, room, method="start")
    texts = jnp.zeros((B, room), jnp.int32), jnp.zeros(B, jnp.int32)
    state = State(0, logits_BV, cache, texts, jnp.ones(B, bool), jnp.arange(B))
    return resume(model, choose, params, state, settings, key, length, end)


@partial(jax.jit, static_argnums=(0, 1))
def resume(model, choose, params, state, settings, key, length, end):
    """The loop of `decode` from a state on."""

    def advance(state):
        n, logits_BV, cache, (tokens_BN, count_B), going_B, row_B = state
        keys_B = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, n), row_B)
        token_B = choose(keys_B, logits_BV, settings)
        going_B &= token_B != end
        texts = tokens_BN.at[:, n].set(token_B), count_B + going_B
        logits_BV, cache = call(model, params, token_B, cache, method="step")
        return State(n + 1, logits_BV, cache, texts, going_B, row_B)

    return decoding.loop(advance, state, length)


def text(model, params, tokenizer, prompt: str, *, ends=ENDS, beams: int = 0, **settings) -> str:
    """Return the continuation of a text, or what an encoder-decoder writes for it.

    `settings` are those of `generate`, or with `beams` those of `beam_search`. An empty prompt
    begins a new document. Whole texts are decoded at once: a character may be cut over several
    byte-level tokens.
    """
    if tokenizer is None:
        raise ValueError("the model folder has no tokenizer, so it takes token ids only")
    end = end_token(tokenizer, ends)
    last = [] if end is None else [end]
    if isinstance(model, EncoderDecoder):  # its sources end with this token
        ids = tokenizer.encode(prompt, add_special_tokens=False).ids + last
    else:  # every document of the training text opens with this token
        ordinary = tokenizers.ordinary(tokenizer)
        ids = ordinary.encode(prompt, add_special_tokens=False).ids or last
    if not ids:
        raise ValueError("the prompt is empty, and the tokenizer has no token to begin a text with")
    if beams:
        check_beams(model, beams)
        (((new, _),),) = beam_search(model, params, [ids], end=end, beams=beams, **settings)
    else:
        (new,) = generate(model, params, [ids], end=end, **settings)
    return tokenizer.decode(new, skip_special_tokens=False)
