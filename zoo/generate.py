"""Continues texts with any model that has `start` and `step`.

The whole decoding is one compiled loop over a static cache. Prompts and room are padded to a ladder
of lengths, so a thousand requests compile a handful of times; temperature, top_k and top_p are
arguments of the compiled loop and compile nothing.

B batch  L length  N new tokens  V vocabulary
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from zoo import tokenizer as tokenizers

NEVER = -1e30


def greedy(key, logits_BV, settings):
    """The likeliest token."""
    return logits_BV.argmax(-1).astype(jnp.int32)


def sample(key, logits_BV, settings):
    """A draw at a temperature among the `top_k` likeliest and the nucleus of `top_p`.

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
    return jax.random.categorical(key, logits_BV).astype(jnp.int32)


def generate(
    model, params, prompts, *, length, end=None, temperature=1.0, top_k=0, top_p=1.0, seed=0
) -> list[list[int]]:
    """The continuations of prompts of token ids, each of at most `length` tokens.

    A continuation ends before the token `end`. Temperature 0 takes the likeliest token; top_k 0
    means all. Rows do not depend on each other, nor on the padding. Raises ValueError where a
    prompt is empty, has ids out of range, or leaves no room for `length` more tokens.
    """
    c = model.config
    longest = max(map(len, prompts))
    if min(map(len, prompts)) == 0:
        raise ValueError("a prompt is empty: begin a new document with the end-of-text token")
    if longest + length > c.max_length:
        raise ValueError(
            f"{longest} tokens and {length} more are over the {c.max_length} that the model takes"
        )
    wrong = [i for prompt in prompts for i in prompt if not 0 <= i < c.vocab_size]
    if wrong:
        raise ValueError(f"token id {wrong[0]} is not in 0 to {c.vocab_size - 1}")
    if temperature < 0 or top_k < 0 or not 0 < top_p <= 1:
        raise ValueError("temperature and top_k must not be negative, top_p must be in (0, 1]")

    L = _rung(longest)
    tokens_BL, documents_BL = np.zeros((2, len(prompts), L), np.int32)
    for row, prompt in enumerate(prompts):
        tokens_BL[row, L - len(prompt) :] = prompt
        documents_BL[row, L - len(prompt) :] = 1
    tokens_BN, count_B = decode(
        model,
        greedy if temperature == 0 else sample,
        _rung(length),
        params,
        tokens_BL,
        documents_BL,
        (jnp.float32(temperature), jnp.int32(top_k or c.vocab_size), jnp.float32(top_p)),
        jax.random.key(seed),
        length,
        -1 if end is None else end,
    )
    rows = zip(np.asarray(tokens_BN), np.asarray(count_B), strict=True)
    return [row[:count].tolist() for row, count in rows]


@partial(jax.jit, static_argnums=(0, 1, 2))
def decode(model, choose, room, params, tokens_BL, documents_BL, settings, key, length, end):
    """The compiled loop: new tokens_BN (N = room) and how many of each row count.

    It stops when every row has ended or has `length` tokens.
    """
    B = tokens_BL.shape[0]
    variables = {"params": params}
    logits_BV, cache = model.apply(variables, tokens_BL, documents_BL, room, method="start")

    def advance(state):
        n, logits_BV, cache, tokens_BN, count_B, going_B = state
        token_B = choose(jax.random.fold_in(key, n), logits_BV, settings)
        going_B &= token_B != end
        tokens_BN = tokens_BN.at[:, n].set(token_B)
        logits_BV, cache = model.apply(variables, token_B, cache, method="step")
        return n + 1, logits_BV, cache, tokens_BN, count_B + going_B, going_B

    going = lambda state: (state[0] < length) & state[-1].any()
    tokens_BN, count_B = jnp.zeros((B, room), jnp.int32), jnp.zeros(B, jnp.int32)
    state = (0, logits_BV, cache, tokens_BN, count_B, jnp.ones(B, bool))
    state = jax.lax.while_loop(going, advance, state)
    return state[3], state[4]


def text(model, params, tokenizer, prompt: str, *, end="<|endoftext|>", **settings) -> str:
    """The continuation of a text; an empty prompt begins a new document.

    Whole texts are decoded at once: a character may be cut over several byte-level tokens.
    """
    if tokenizer is None:
        raise ValueError("the model folder has no tokenizer, so it takes token ids only")
    end = tokenizer.token_to_id(end)
    ids = tokenizers.ordinary(tokenizer).encode(prompt, add_special_tokens=False).ids
    if not ids and end is None:
        raise ValueError("the prompt is empty, and the tokenizer has no token to begin a text with")
    # Every document of the training text opens with this token.
    (new,) = generate(model, params, [ids or [end]], end=end, **settings)
    return tokenizer.decode(new)


def _rung(length: int) -> int:
    """The next power of two, from 16 on."""
    return max(16, 1 << (length - 1).bit_length())
