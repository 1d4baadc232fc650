"""Streaming: the pieces of a text as they are generated, token by token."""

from collections.abc import Iterator, Sequence
from typing import Unpack

import chex
from flax import linen as nn

from zoo.checkpoints.load import Loaded
from zoo.inference.continuation import Continuation, continuation, stops, word_ids
from zoo.inference.decoding import State
from zoo.inference.generate import Options, begin
from zoo.inference.prompts import check_generates, encode, end_token, require_tokenizer


def stream(
    loaded: Loaded,
    prompt: str,
    *,
    max_new_tokens: int = 100,
    stop: str | Sequence[str] = (),
    bad_words: str | Sequence[str] = (),
    **options: Unpack[Options],
) -> Iterator[str]:
    """Return an iterator over the pieces of the text that `generate` returns.

    A character that takes more than one token is part of one piece, and a piece is held back as
    long as it may begin a stop string. Generation goes on as pieces are asked for.

    Args:
      loaded: A language model or an encoder-decoder with its tokenizer.
      prompt: The text; an empty text begins a new document.
      max_new_tokens: Maximum tokens to generate.
      stop: As in `generate`.
      bad_words: As in `generate`.
      **options: As in `generate`.

    Raises:
      ValueError: As in `generate`, before the first piece.
    """
    check_generates(loaded.model)
    tokenizer, ids = require_tokenizer(loaded), encode(loaded, prompt)
    continued = continuation(loaded, ids, stops(stop))
    tokens = stream_ids(
        loaded.model,
        loaded.params,
        ids,
        max_new_tokens=max_new_tokens,
        end=end_token(tokenizer),
        bad_words_ids=word_ids(tokenizer, bad_words),
        **options,
    )
    return _pieces(continued, tokens)


def _pieces(continued: Continuation, tokens: Iterator[int]) -> Iterator[str]:
    ids, length = [], 0
    for token in tokens:
        ids.append(token)
        if continued.has_stopped(ids):
            break
        settled = continued.settled(ids)
        if len(settled) > length:
            yield settled[length:]
            length = len(settled)
    if rest := continued.until_stop(ids)[length:]:
        yield rest


def stream_ids(
    model: nn.Module,
    params: chex.ArrayTree,
    prompt: Sequence[int],
    *,
    max_new_tokens: int,
    end: int | None = None,
    bad_words_ids: Sequence[Sequence[int]] = (),
    **options: Unpack[Options],
) -> Iterator[int]:
    """Return an iterator over the tokens of `generate_ids` for one prompt, one at a time."""
    state, continue_loop = begin(
        model, params, [prompt], max_new_tokens, end, bad_words_ids, 1, **options
    )

    def tokens(state: State) -> Iterator[int]:
        while state.unfinished_B[0]:
            yield int(state.texts[0][0, state.length - 1])
            if state.length >= max_new_tokens:
                return
            state = continue_loop(state, int(state.length) + 1)

    return tokens(state)
