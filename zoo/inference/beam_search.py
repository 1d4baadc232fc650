"""Beam search with any language model, following transformers.

B batch  L length  N new tokens  V vocabulary  W width of the beam  C candidates, twice as many
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, Unpack

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from zoo.checkpoints.load import Loaded
from zoo.contracts import EncoderDecoder
from zoo.inference import decoding
from zoo.inference.constraints import (
    Rules,
    check_integer,
    check_number,
    constrain,
    constraints,
    opening,
)
from zoo.inference.continuation import continuation, word_ids
from zoo.inference.decoding import State
from zoo.inference.length_buckets import bucket
from zoo.inference.prompts import (
    UNLIMITED,
    check_generates,
    encode,
    end_token,
    pad,
    require_tokenizer,
)


class Hypotheses(NamedTuple):
    """The texts of a beam, best first: tokens [B, W, N], their lengths and scores [B, W].

    An empty slot has the score -inf.
    """

    tokens: jax.Array
    counts: jax.Array
    scores: jax.Array


def beam_search(
    loaded: Loaded,
    prompt: str,
    *,
    max_new_tokens: int | None = None,
    beams: int = 4,
    length_penalty: float = 1.0,
    best: int = 1,
    bad_words: str | Sequence[str] = (),
    **rules: Unpack[Rules],
) -> list[tuple[str, float]]:
    """Return the `best` continuations or translations of a text with their scores, best first.

    Args:
      loaded: A language model or an encoder-decoder with its tokenizer.
      prompt: The text.
      max_new_tokens: Maximum tokens to generate. None: 100, or 50 more than the source.
      beams: The beam width.
      length_penalty: Above 1: longer texts. Below 1: shorter ones.
      best: How many to return; fewer if the constraints leave fewer.
      bad_words: As in `generate`.
      **rules: `min_new_tokens`, `repetition_penalty`, `no_repeat_ngram_size` and
        `suppress_tokens`, as in `generate`.
    """
    check_generates(loaded.model)
    tokenizer = require_tokenizer(loaded)
    ids, end = encode(loaded, prompt), end_token(tokenizer)
    check_beams(loaded.model, beams)
    if max_new_tokens is None:
        is_source = isinstance(loaded.model, EncoderDecoder)
        max_new_tokens = max_target(len(ids)) if is_source else 100
    (hypotheses,) = beam_search_ids(
        loaded.model,
        loaded.params,
        [ids],
        max_new_tokens=max_new_tokens,
        end=end,
        beams=beams,
        length_penalty=length_penalty,
        best=best,
        bad_words_ids=word_ids(tokenizer, bad_words),
        **rules,
    )
    text = continuation(loaded, ids).text
    return [(text(tokens), score) for tokens, score in hypotheses]


def max_target(length: int) -> int:
    """Return the maximum length of a translation (Vaswani et al. 2017, section 6.1).

    It is 50 more than the length of the source, rounded up to its length bucket so that few
    programs are compiled.
    """
    return bucket(length, UNLIMITED) + 50


def check_beams(model: nn.Module, beams: int) -> None:
    """Raise ValueError if there is no beam, or if it is wider than the vocabulary."""
    check_integer("beams", beams, 1)
    if beams > model.config.vocab_size:
        raise ValueError(
            f"the beam width {beams} is larger than the vocabulary of {model.config.vocab_size}"
        )


def beam_search_ids(
    model: nn.Module,
    params: chex.ArrayTree,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    end: int | None = None,
    beams: int = 4,
    length_penalty: float = 1.0,
    early: bool = False,
    best: int = 1,
    bad_words_ids: Sequence[Sequence[int]] = (),
    **rules: Unpack[Rules],
) -> list[list[tuple[list[int], float]]]:
    """Return the `best` continuations of each prompt of token ids, with their scores.

    The search is that of transformers. The score of a text is the sum of its log probabilities,
    that of `end` included, divided by length**length_penalty; Wu et al. (2016) divide by ((5 +
    length) / 6)**penalty. Of the 2 * beams most probable extensions of the open texts, the first
    `beams` that do not end stay open; the ones among the first `beams` that end are closed, and the
    `beams` best closed texts are kept. A row is finished when it has `beams` closed texts and
    either `early` is set or the best open text would not score higher if it ended now; with a
    positive penalty the latter is a heuristic. Constraints apply to the log probabilities, which
    are not normalized again.

    Raises:
      ValueError: As in `generate_ids`, or if `best` is larger than `beams`.
    """
    check_number("length_penalty", length_penalty)
    if not 1 <= best <= beams:
        raise ValueError(f"best must be between 1 and the beam width {beams}, not {best}")
    limits = constraints(
        model.config.vocab_size, end, max_new_tokens, bad_words_ids=bad_words_ids, **rules
    )
    tokens_BL, document_ids_BL = pad(model, prompts, max_new_tokens)
    end_id = -1 if end is None else end
    rest = limits, jnp.float32(length_penalty), early, end_id, max_new_tokens
    size = bucket(max_new_tokens, UNLIMITED)
    state = search(model, beams, size, params, tokens_BL, document_ids_BL, *rest)
    continue_loop = lambda state, _: resume_search(model, params, state, *rest)
    _, closed = decoding.finish(state, continue_loop, max_new_tokens)
    return [
        [(t[:n].tolist(), float(s)) for t, n, s in zip(*row, strict=True) if s > -np.inf][:best]
        for row in zip(*closed, strict=True)
    ]


@partial(jax.jit, static_argnums=(0, 1, 2))
def search(
    model, width, size, params, tokens_BL, document_ids_BL, limits, penalty, early, end, length
):
    """Run the compiled loop of a beam search; its texts are the open and the closed hypotheses.

    A row runs until it is finished, see `beam_search_ids`; the loop stops like that of `decode`.
    """
    B, W = len(tokens_BL), width
    logits_BV, cache = model.apply(
        {"params": params}, tokens_BL, document_ids_BL, size, method="start"
    )
    cache = jax.tree.map(lambda leaf: jnp.repeat(leaf, W, 0) if leaf.ndim else leaf, cache)
    logits_BWV = jnp.broadcast_to(logits_BV[:, None], (B, W, logits_BV.shape[-1]))
    none = Hypotheses(
        jnp.zeros((B, W, size), jnp.int32), jnp.zeros((B, W), jnp.int32), jnp.full((B, W), -jnp.inf)
    )
    # All beams start from the same text, so only the first may be extended.
    opened = none._replace(scores=none.scores.at[:, 0].set(0.0))
    texts, before = (opened, none), None
    if limits.read_text:
        before = jax.tree.map(
            lambda x: jnp.repeat(x, W, 0), opening(model, tokens_BL, document_ids_BL)
        )
    state = State(0, logits_BWV, cache, texts, jnp.ones(B, bool), jnp.arange(B), before)
    return resume_search(model, params, state, limits, penalty, early, end, length)


@partial(jax.jit, static_argnums=0)
def resume_search(model, params, state, limits, penalty, early, end, length):
    """Continue the loop of `search` from a state."""
    B, W, V = state.logits.shape
    step = partial(model.apply, {"params": params}, method="step")
    # Arrays that a step returns unchanged belong to the source, which all beams of a row share.
    _, after = step(jnp.zeros(B * W, jnp.int32), state.cache)
    per_beam = jax.tree.map(lambda new, old: new.ndim > 0 and new is not old, after, state.cache)

    def advance(state):
        n, logits_BWV, cache, (opened, closed), unfinished_B, row_B, before = state
        log_p = jax.nn.log_softmax(logits_BWV).reshape(B * W, V)
        log_p = constrain(limits, log_p, before, opened.tokens.reshape(B * W, -1), n, end)
        score_BWV = opened.scores[..., None] + log_p.reshape(B, W, V)
        score_BC, at_BC = jax.lax.top_k(score_BWV.reshape(B, W * V), 2 * W)
        beam_BC, token_BC = at_BC // V, at_BC % V
        tokens_BCN = _take(opened.tokens, beam_BC).at[..., n].set(token_BC)
        extended = Hypotheses(tokens_BCN, n + (token_BC != end), score_BC)
        ends_BC = (token_BC == end) | (n + 1 == length)

        closes_BC = ends_BC & (jnp.arange(2 * W) < W) & unfinished_B[:, None]
        final_BC = jnp.where(closes_BC, score_BC / (n + 1.0) ** penalty, -jnp.inf)
        pairs = zip(closed, extended._replace(scores=final_BC), strict=True)
        closed, _ = _best(Hypotheses(*(jnp.concatenate(pair, 1) for pair in pairs)), W)
        opened, at_BW = _best(extended._replace(scores=jnp.where(ends_BC, -jnp.inf, score_BC)), W)

        worst_B = closed.scores[:, -1]
        can_improve_B = opened.scores[:, 0] / (n + 1.0) ** penalty > worst_B
        unfinished_B &= (worst_B == -jnp.inf) | (can_improve_B & ~early)

        rows = (jnp.arange(B)[:, None] * W + _take(beam_BC, at_BW)).reshape(-1)
        cache = jax.tree.map(
            lambda leaf, per_beam: leaf[rows] if per_beam else leaf, cache, per_beam
        )
        logits, cache = step(_take(token_BC, at_BW).reshape(-1), cache)
        texts, logits_BWV = (opened, closed), logits.reshape(B, W, V)
        return State(n + 1, logits_BWV, cache, texts, unfinished_B, row_B, before)

    return decoding.loop(advance, state, length)


def _best(texts: Hypotheses, width: int):
    """Return the `width` best texts of each row, and their indices."""
    at_BW = jax.lax.top_k(texts.scores, width)[1]
    return jax.tree.map(lambda x: _take(x, at_BW), texts), at_BW


def _take(x, at_BW):
    """Return the given indices of each row of x: [B, C, ...] -> [B, W, ...]."""
    return jax.vmap(lambda row, at: row[at])(x, at_BW)
