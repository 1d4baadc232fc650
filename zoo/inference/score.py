"""The probability of a text, token by token, by any language model.

The probability of a text is the product of those of its tokens, each given the tokens before it.
The first is given the token that begins every document, or left out if the tokenizer has none. A
model that reads backward predicts each token from those after it; of a model of both directions,
the forward one is used; XLNet reads in the order of the text. Masked models have a
pseudo-log-likelihood instead: see `pseudo_likelihood`.

B batch  L length  V vocabulary
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, overload

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from zoo.checkpoints.load import Loaded
from zoo.contracts import (
    CountModel,
    DirectionsModel,
    EncoderDecoder,
    LanguageModel,
    MaskFiller,
    PermutationLanguageModel,
    SoundModel,
    Speller,
)
from zoo.direction import is_backward
from zoo.inference import batching, pseudo_likelihood
from zoo.inference.batching import Batch, Row
from zoo.inference.length_buckets import bucket
from zoo.inference.prompts import as_list, require_tokenizer
from zoo.inference.pseudo_likelihood import Masked
from zoo.params import call
from zoo.tokenizers import Tokenizer, known_id, ordinary, sides, unknown_id

STARTS = ("<|endoftext|>", "<eod>", "_start_", "</s>")  # names of the token that begins a document
LOGITS = 1 << 26  # the largest number of logits computed at a time


class Score(NamedTuple):
    """The tokens of a text as they are written in it, and the log probability of each in nats."""

    tokens: list[str]
    log_probabilities: list[float]

    @property
    def total(self) -> float:
        """The log probability of the text in nats; a pseudo-log-likelihood for masked models."""
        return sum(self.log_probabilities)


@overload
def score(loaded: Loaded, texts: str, *, masked: Masked = ..., batch_size: int = ...) -> Score: ...


@overload
def score(
    loaded: Loaded, texts: list[str], *, masked: Masked = ..., batch_size: int = ...
) -> list[Score]: ...


def score(
    loaded: Loaded,
    texts: str | list[str],
    *,
    masked: Masked = "word",
    batch_size: int = 32,
) -> Score | list[Score]:
    """Return the log probability of every token of a text, or of each of the texts.

    Args:
      loaded: A language model with its tokenizer.
      texts: A text or a list of texts.
      masked: For masked models: with a token, also mask the later tokens of its "word", or only the
        "token" itself.
      batch_size: The largest number of rows in a batch.

    Raises:
      ValueError: If a text is empty or too long, or the model is not a language model.
    """
    listed = as_list(texts)
    if is_masked(loaded.model):
        pairs = pseudo_likelihood.score(loaded, listed, masked, batch_size)
    else:
        pairs = score_readings(loaded, list(map(reader(loaded), listed)), batch_size)
    scores = [Score(*pair) for pair in pairs]
    return scores[0] if isinstance(texts, str) else scores


def next_tokens(loaded: Loaded, text: str, top: int = 10) -> list[tuple[str, float]]:
    """Return the most probable tokens after a text, and their probabilities.

    Args:
      loaded: A language model that reads forward, with its tokenizer.
      text: The text; an empty one begins a document.
      top: How many tokens to return.

    Raises:
      ValueError: If the model does not predict next tokens, or the text is too long.
    """
    model, params, _ = loaded
    if is_masked(model) or is_backward(model.config):
        raise ValueError(
            f"this {type(model).__name__} does not predict the token after a text: use a causal "
            "model that reads forward, or `zoo fill-mask`"
        )
    row = _row(reader(loaded)(text).context)
    if not row.tokens:
        raise ValueError("the text is empty, and the tokenizer has no token to begin a text with")
    batching.check_rows([row], model)
    length = len(row.tokens)
    batch = batching.pad([row], 1, bucket(length, model.config.max_length))
    p_V = _next_distribution(model, params, batch, length - 1)
    probability, id = jax.lax.top_k(p_V, min(top, model.config.vocab_size))
    tokenizer = sides(require_tokenizer(loaded)).source
    names = [tokenizer.decode([int(i)]) or tokenizer.id_to_token(int(i)) or "" for i in id]
    return list(zip(names, map(float, probability), strict=True))


def is_masked(model: nn.Module) -> bool:
    """Return whether a model predicts masked tokens only."""
    return isinstance(model, MaskFiller) and not isinstance(model, PermutationLanguageModel)


class Reading(NamedTuple):
    """A text as a causal model reads it.

    Attributes:
      context: The tokens, after the one that begins a document if there is one. Those of a model
        that reads letters are lists of them.
      targets: The ids of the tokens that are predicted, each from those before it.
      tokens: These as they are written in the text.
    """

    context: list
    targets: list[int]
    tokens: list[str]


def reader(loaded: Loaded) -> Callable[[str], Reading]:
    """Return a function that reads a text: its tokens in the order in which the model reads them.

    Raises:
      ValueError: If the model is not a language model of texts, or there is no tokenizer.
    """
    model = loaded.model
    tokenizer = sides(require_tokenizer(loaded)).source
    if not isinstance(model, LanguageModel | DirectionsModel | PermutationLanguageModel):
        raise ValueError(
            f"{type(model).__name__} is not a language model: it gives a text no probability"
        )
    if isinstance(model, EncoderDecoder):
        raise ValueError(
            f"{type(model).__name__} gives a probability to a target, given its source, but not to "
            "a text alone: use a causal or masked language model"
        )
    if isinstance(model, SoundModel):
        raise ValueError(
            f"{type(model).__name__} models sound, not text: use `zoo evaluate --sound`"
        )
    if isinstance(model, Speller) and not isinstance(model, LanguageModel):
        return partial(_read_letters, model, tokenizer)
    start = next((i for name in STARTS if (i := tokenizer.token_to_id(name)) is not None), None)
    return partial(_read, ordinary(tokenizer), start, is_backward(model.config))


def _read(tokenizer: Tokenizer, start: int | None, backward: bool, text: str) -> Reading:
    """Return the tokens of a text, after the token `start`."""
    encoding = tokenizer.encode(text, add_special_tokens=False)
    ids, tokens = list(encoding.ids), [text[start:end] for start, end in encoding.offsets]
    if backward:
        ids, tokens = ids[::-1], tokens[::-1]
    return (
        Reading(ids, ids[1:], tokens[1:]) if start is None else Reading([start, *ids], ids, tokens)
    )


def _read_letters(model: Speller, tokenizer: Tokenizer, text: str) -> Reading:
    """Return the words of a text for a model that reads their letters and predicts their ids."""
    words = text.split()
    letters, _ = model.spell(tokenizer, words)
    unknown = unknown_id(tokenizer)
    targets = []
    for word in words:
        known = known_id(tokenizer, word)
        id = unknown if known is None else known
        if id is None:
            raise ValueError(f"the word {word!r:.40} is not in the vocabulary: leave it out")
        targets.append(id)
    return Reading(letters[:-1].tolist(), targets, words)


def score_readings(
    loaded: Loaded, readings: Sequence[Reading], batch_size: int
) -> list[tuple[list[str], list[float]]]:
    """Return the tokens of each text in its own order, and the log probability of each."""
    model, params, _ = loaded
    for reading in readings:
        if not reading.targets:
            raise ValueError(
                "a text without tokens, or with a single one that nothing comes before, has no "
                "probability: remove it"
            )
    rows = [_row(reading.context[: len(reading.targets)]) for reading in readings]
    batching.check_rows(rows, model)
    longest = bucket(max((len(row.tokens) for row in rows), default=1), model.config.max_length)
    batch_size = max(1, min(batch_size, LOGITS // (longest * model.config.vocab_size)))
    values: dict[int, list[float]] = {}
    for indices, batch in batching.batches(rows, batch_size, model.config.max_length):
        targets = [_row(readings[index].targets) for index in indices]
        targets_BL = batching.pad(targets, *batch.documents.shape).tokens
        p_BL = np.asarray(_log_probabilities(model, params, batch, targets_BL))
        for index, p_L in zip(indices, p_BL, strict=False):
            values[index] = p_L[: len(readings[index].targets)].tolist()
    step = -1 if is_backward(model.config) else 1
    return [
        (reading.tokens[::step], values[index][::step]) for index, reading in enumerate(readings)
    ]


def _row(tokens: list) -> Row:
    """Return a row without segments, which causal models do not read."""
    return Row(tokens, [0] * len(tokens))


@partial(jax.jit, static_argnums=0)
def _log_probabilities(
    model: nn.Module, params: chex.ArrayTree, batch: Batch, targets_BL: jax.Array
) -> jax.Array:
    """Return the log probability of the token after each position: p_BL."""
    if isinstance(model, CountModel):
        tokens_BT = jnp.concatenate([batch.tokens[:, :1], targets_BL], 1)
        document_ids_BT = jnp.concatenate([batch.documents[:, :1], batch.documents], 1)
        return jnp.log(call(model, params, tokens_BT, document_ids_BT, method="score")[0][:, 1:])
    logits_BLV = jax.nn.log_softmax(_logits(model, params, batch))
    return jnp.take_along_axis(logits_BLV, targets_BL[:, :, None], -1)[:, :, 0]


@partial(jax.jit, static_argnums=0)
def _next_distribution(
    model: nn.Module, params: chex.ArrayTree, batch: Batch, last: jax.Array
) -> jax.Array:
    """Return the probability of every token after position `last` of the only row: p_V."""
    return jax.nn.softmax(_logits(model, params, batch)[0, last])


def _logits(model: nn.Module, params: chex.ArrayTree, batch: Batch) -> jax.Array:
    """Return the logits of the next token at every position: logits_BLV."""
    inputs = batch.tokens, batch.documents
    if isinstance(model, PermutationLanguageModel):
        return call(model, params, *inputs, method="left_to_right")
    logits = call(model, params, *inputs)
    return logits[0] if isinstance(model, DirectionsModel) else logits
