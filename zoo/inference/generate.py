"""Continues texts with any model that has `start` and `step`.

One that has `encode` too, an encoder and a decoder, writes another text instead: then the prompt
may have any length, and `text` ends it as training did. All else is the same.

The whole decoding is one compiled loop over a static cache, and once more for the rest where half
of the rows have ended. Prompts and room are padded to a ladder of lengths, so a thousand requests
compile a handful of times; temperature, top_k, top_p and the penalty of a beam are arguments of the
compiled loop and compile nothing.

B batch  L length  N new tokens  V vocabulary  W width of a beam  C candidates, twice as many
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zoo import tokenizers
from zoo.inference import decoding
from zoo.inference.decoding import State

NEVER = -1e30
ENDS = ("<|endoftext|>", "</s>")  # the names of the token that ends a text


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
    tokens_BL, documents_BL = _padded(model, prompts, length)
    choose = greedy if temperature == 0 else sample
    settings = jnp.float32(temperature), jnp.int32(top_k or model.config.vocab_size)
    rest = (
        (*settings, jnp.float32(top_p)),
        jax.random.key(seed),
        length,
        -1 if end is None else end,
    )
    state = decode(model, choose, rung(length), params, tokens_BL, documents_BL, *rest)
    go_on = lambda state: resume(model, choose, params, state, *rest)
    tokens_BN, count_B = decoding.finish(state, go_on, length)
    return [row[:count].tolist() for row, count in zip(tokens_BN, count_B, strict=True)]


@partial(jax.jit, static_argnums=(0, 1, 2))
def decode(model, choose, room, params, tokens_BL, documents_BL, settings, key, length, end):
    """The compiled loop: its texts are new tokens_BN (N = room) and how many of each row count.

    It stops where half of the rows have ended, of few rows all, or at `length` tokens.
    """
    B = len(tokens_BL)
    begun = model.apply({"params": params}, tokens_BL, documents_BL, room, method="start")
    texts = jnp.zeros((B, room), jnp.int32), jnp.zeros(B, jnp.int32)
    state = State(0, *begun, texts, jnp.ones(B, bool), jnp.arange(B))
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
        after = model.apply({"params": params}, token_B, cache, method="step")
        return State(n + 1, *after, texts, going_B, row_B)

    return decoding.loop(advance, state, length)


class Texts(NamedTuple):
    """Texts of a beam, the best first: tokens [B, W, N], how many of them count and a score [B, W].

    Where there is none the score is -inf.
    """

    tokens: jax.Array
    counts: jax.Array
    scores: jax.Array


def beam(
    model, params, prompts, *, length, end=None, width=4, penalty=1.0, early=False, best=1
) -> list[list[tuple[list[int], float]]]:
    """The `best` continuations of each prompt that a beam search finds, with their scores.

    The search is that of transformers. A score is the sum of the log probabilities, that of `end`
    included, over number**penalty; Wu et al. (2016) have ((5 + number) / 6)**penalty. Among the
    2 * width likeliest extensions of the open texts, the first `width` that do not end stay open;
    those of the first `width` that end are closed, and the `width` best of the closed are kept.
    That many suffice if `early`, or if the likeliest open text would score no better by ending now,
    which with a penalty above 0 is a guess. Raises ValueError as `generate` does.
    """
    if not 1 <= best <= width:
        raise ValueError(f"best is {best}, but must be from 1 to the width of the beam, {width}")
    tokens_BL, documents_BL = _padded(model, prompts, length)
    rest = (jnp.float32(penalty), early, length, -1 if end is None else end)
    state = search(model, width, rung(length), params, tokens_BL, documents_BL, *rest)
    go_on = lambda state: resume_search(model, params, state, *rest)
    _, found = decoding.finish(state, go_on, length)
    return [
        [(t[:n].tolist(), float(s)) for t, n, s in zip(*row, strict=True) if s > -np.inf][:best]
        for row in zip(*found, strict=True)
    ]


@partial(jax.jit, static_argnums=(0, 1, 2))
def search(model, width, room, params, tokens_BL, documents_BL, penalty, early, length, end):
    """The compiled loop of `beam`: its texts are those that are open, and those that are closed.

    A row goes on while it looks for a better text; the loop stops as that of `decode`.
    """
    B, W = len(tokens_BL), width
    logits_BV, cache = model.apply(
        {"params": params}, tokens_BL, documents_BL, room, method="start"
    )
    cache = jax.tree.map(lambda leaf: jnp.repeat(leaf, W, 0) if leaf.ndim else leaf, cache)
    logits_BWV = jnp.broadcast_to(logits_BV[:, None], (B, W, logits_BV.shape[-1]))
    none = Texts(
        jnp.zeros((B, W, room), jnp.int32), jnp.zeros((B, W), jnp.int32), jnp.full((B, W), -jnp.inf)
    )
    opened = none._replace(scores=none.scores.at[:, 0].set(0.0))  # all would extend the same text
    state = State(0, logits_BWV, cache, (opened, none), jnp.ones(B, bool), jnp.arange(B))
    return resume_search(model, params, state, penalty, early, length, end)


@partial(jax.jit, static_argnums=0)
def resume_search(model, params, state, penalty, early, length, end):
    """The loop of `search` from a state on."""
    B, W, V = state.logits.shape
    step = partial(model.apply, {"params": params}, method="step")
    # What a step hands on untouched is of the source, which all texts of a row share.
    _, after = step(jnp.zeros(B * W, jnp.int32), state.cache)
    moves = jax.tree.map(lambda new, old: new.ndim > 0 and new is not old, after, state.cache)

    def advance(state):
        n, logits_BWV, cache, (opened, closed), going_B, row_B = state
        score_BWV = opened.scores[..., None] + jax.nn.log_softmax(logits_BWV)
        score_BC, at_BC = jax.lax.top_k(score_BWV.reshape(B, W * V), 2 * W)
        beam_BC, token_BC = at_BC // V, at_BC % V
        tokens_BCN = _take(opened.tokens, beam_BC).at[..., n].set(token_BC)
        extended = Texts(tokens_BCN, n + (token_BC != end), score_BC)
        ends_BC = (token_BC == end) | (n + 1 == length)

        closes_BC = ends_BC & (jnp.arange(2 * W) < W) & going_B[:, None]
        final_BC = jnp.where(closes_BC, score_BC / (n + 1.0) ** penalty, -jnp.inf)
        both = zip(closed, extended._replace(scores=final_BC), strict=True)
        closed, _ = _best(Texts(*(jnp.concatenate(pair, 1) for pair in both)), W)
        opened, at_BW = _best(extended._replace(scores=jnp.where(ends_BC, -jnp.inf, score_BC)), W)

        worst_B = closed.scores[:, -1]
        hopes_B = opened.scores[:, 0] / (n + 1.0) ** penalty > worst_B
        going_B &= (worst_B == -jnp.inf) | (hopes_B & ~early)

        rows = (jnp.arange(B)[:, None] * W + _take(beam_BC, at_BW)).reshape(-1)
        cache = jax.tree.map(lambda leaf, moves: leaf[rows] if moves else leaf, cache, moves)
        logits, cache = step(_take(token_BC, at_BW).reshape(-1), cache)
        return State(n + 1, logits.reshape(B, W, V), cache, (opened, closed), going_B, row_B)

    return decoding.loop(advance, state, length)


def _best(texts: Texts, width: int):
    """The `width` best texts of each row, and where they were."""
    at_BW = jax.lax.top_k(texts.scores, width)[1]
    return jax.tree.map(lambda x: _take(x, at_BW), texts), at_BW


def _take(x, at_BW):
    """Of each row of x the places given: [B, C, ...] -> [B, W, ...]."""
    return jax.vmap(lambda row, at: row[at])(x, at_BW)


def text(model, params, tokenizer, prompt: str, *, ends=ENDS, beams: int = 0, **settings) -> str:
    """The continuation of a text, or what an encoder and a decoder make of it.

    `settings` are those of `generate`, or with `beams` those of `beam`. An empty prompt begins a
    new document. Whole texts are decoded at once: a character may be cut over several byte-level
    tokens.
    """
    if tokenizer is None:
        raise ValueError("the model folder has no tokenizer, so it takes token ids only")
    known = [i for name in ends if (i := tokenizer.token_to_id(name)) is not None][:1]
    if hasattr(model, "encode"):  # its sources end with this token, and may have sentinels
        ids = tokenizer.encode(prompt, add_special_tokens=False).ids + known
    else:  # every document of the training text opens with this token
        ordinary = tokenizers.ordinary(tokenizer)
        ids = ordinary.encode(prompt, add_special_tokens=False).ids or known
    if not ids:
        raise ValueError("the prompt is empty, and the tokenizer has no token to begin a text with")
    end = next(iter(known), None)
    if beams:
        check_width(model, beams)
        (((new, _),),) = beam(model, params, [ids], end=end, width=beams, **settings)
    else:
        (new,) = generate(model, params, [ids], end=end, **settings)
    return tokenizer.decode(new, skip_special_tokens=False)


def check_width(model, width: int) -> None:
    """ValueError for a beam that nobody wants: wider than the vocabulary of its model."""
    if width > model.config.vocab_size:
        raise ValueError(
            f"a beam of {width} is wider than the vocabulary of {model.config.vocab_size}"
        )


def _padded(model, prompts, length: int):
    """The prompts, padded on the left to a rung: tokens_BL, documents_BL."""
    c = model.config
    longest = max(map(len, prompts))
    if min(map(len, prompts)) == 0:
        raise ValueError("a prompt is empty: begin a new document with the end-of-text token")
    if not hasattr(model, "encode") and longest + length > c.max_length:
        raise ValueError(
            f"{longest} tokens and {length} more are over the {c.max_length} that the model takes"
        )
    wrong = [i for prompt in prompts for i in prompt if not 0 <= i < c.vocab_size]
    if wrong:
        raise ValueError(f"token id {wrong[0]} is not in 0 to {c.vocab_size - 1}")
    L = rung(longest)
    tokens_BL, documents_BL = np.zeros((2, len(prompts), L), np.int32)
    for row, prompt in enumerate(prompts):
        tokens_BL[row, L - len(prompt) :] = prompt
        documents_BL[row, L - len(prompt) :] = 1
    return tokens_BL, documents_BL


def rung(length: int) -> int:
    """The length that so many tokens are padded to: the next power of two, from 16 on."""
    return max(16, 1 << (length - 1).bit_length())
