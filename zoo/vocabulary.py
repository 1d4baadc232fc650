"""Vocabulary extension: new words in the tokenizer and in every array that the vocabulary indexes.

V vocabulary
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from zoo import tokenizers
from zoo.checkpoints.load import Loaded
from zoo.params import abstract, flatten, unflatten
from zoo.tokenizers import AnyTokenizer, Sides, Tokenizer


def extend_vocabulary(
    loaded: Loaded,
    words: Sequence[str],
    *,
    init: Literal["mean", "random"] = "mean",
    key: chex.PRNGKey | None = None,
) -> Loaded:
    """Return a model whose vocabulary has these words, each as one token.

    Tokenizer, embeddings, output rows and output biases grow together; the tokens so far keep their
    ids, rows and outputs. Words that are one token already are left out, with a warning.

    Args:
      loaded: The model.
      words: The words, without white space. They are normalized as any text: a lower-casing
        tokenizer reads "Covid" and "covid" as one word.
      init: What the new rows are: the mean of the rows of the pieces that the word had, or of all
        rows if it was unknown (Howard and Ruder 2018), or random as in a new model.
      key: Required if they are random.

    Raises:
      ValueError: If the model has no vocabulary or no tokenizer, or if a word cannot be one token.
    """
    if isinstance(words, str):
        raise ValueError("words must be a sequence of words, not one string")
    if loaded.tokenizer is None:
        raise ValueError("the model has no tokenizer to add words to")
    known = tokenizers.known_words(loaded.tokenizer, words)
    if known:
        warnings.warn(
            f"already in the vocabulary and left out: {', '.join(known)}", UserWarning, stacklevel=2
        )
    return with_tokenizer(loaded, tokenizers.add_words(loaded.tokenizer, words), init, key)


def with_tokenizer(
    loaded: Loaded,
    tokenizer: AnyTokenizer,
    init: Literal["mean", "random"] = "mean",
    key: chex.PRNGKey | None = None,
) -> Loaded:
    """Return a model with rows for the tokens that a longer tokenizer adds to its own.

    The arguments are those of `extend_vocabulary`. The rows of a vocabulary that was padded beyond
    its tokenizer are used first.

    Raises:
      ValueError: If the two sides of a translator with one table give a token different ids.
    """
    if init not in ("mean", "random"):
        raise ValueError(f"init must be 'mean' or 'random', not {init!r}")
    if init == "random" and key is None:
        raise ValueError("init='random' needs a key")
    model, params, old = loaded
    assert old is not None, "checked by the callers"
    pieces = [_pieces(*pair) for pair in zip(_sides(old), _sides(tokenizer), strict=True)]
    axes = _vocabulary_axes(model)
    is_joint = not any("source_embedding" in path for path in axes)
    if is_joint and pieces[0].keys() != pieces[1].keys():
        raise ValueError(
            "source and target have one embedding table, but would give the new words different "
            "ids: add only words that neither of their vocabularies has"
        )
    if is_joint and isinstance(tokenizer, Sides):
        both = {number: pieces[0][number] + pieces[1][number] for number in pieces[0]}
        pieces = [both, both]
    vocab_size = max(model.config.vocab_size, *(max(ids, default=-1) + 1 for ids in pieces))
    grown = type(model)(replace(model.config, vocab_size=vocab_size))
    fresh = _initial(grown, list(axes), key) if init == "random" else {}
    leaves = dict(flatten(params))
    for path, axis in axes.items():
        of_side = pieces[0] if "source_embedding" in path else pieces[1]
        leaves[path] = _extended(leaves[path], axis, vocab_size, of_side, fresh.get(path))
    return Loaded(grown, unflatten(leaves), tokenizer)


def _sides(tokenizer: AnyTokenizer) -> tuple[Tokenizer, Tokenizer]:
    both = tokenizers.sides(tokenizer)
    return both.source, both.target


def _pieces(old: Tokenizer, new: Tokenizer) -> dict[int, list[int]]:
    """Return the ids that a tokenizer adds to another one, and the old ids of their text.

    They are none for a text that is unknown to the old tokenizer as a whole.
    """
    unknown = tokenizers.unknown_id(old)
    pieces = {
        number: old.encode(content, add_special_tokens=False).ids
        for content, number in new.get_vocab().items()
        if old.id_to_token(number) is None
    }
    return {number: [] if set(ids) == {unknown} else ids for number, ids in pieces.items()}


def _vocabulary_axes(model: nn.Module) -> dict[str, int]:
    """Return the paths of the arrays that the vocabulary indexes, and by which axis."""
    config = model.config
    if "vocab_size" not in vars(config):
        raise ValueError(f"a {type(model).__name__} has no vocabulary")
    larger = flatten(abstract(type(model)(replace(config, vocab_size=config.vocab_size + 1))))
    return {
        path: next(a for a, size in enumerate(x.shape) if size != larger[path].shape[a])
        for path, x in flatten(abstract(model)).items()
        if x.shape != larger[path].shape
    }


def _initial(model: nn.Module, paths: Sequence[str], key: chex.PRNGKey | None) -> dict[str, Any]:
    """Return some of the initial parameters of a model; the others are not computed."""

    @jax.jit
    def initial(key):
        params = flatten(model.init(key, jnp.zeros((1, 8), jnp.int32))["params"])
        return {path: params[path] for path in paths}

    return initial(key)


def _extended(
    array: jax.Array,
    axis: int,
    size: int,
    pieces: Mapping[int, Sequence[int]],
    fresh: jax.Array | None,
) -> jax.Array:
    """Return an array with rows along an axis for new ids: fresh ones, or means of others."""
    rows = np.moveaxis(np.asarray(array), axis, 0)
    new = np.zeros((size, *rows.shape[1:]), rows.dtype)
    new[: len(rows)] = rows
    source = None if fresh is None else np.moveaxis(np.asarray(fresh), axis, 0)
    for number, ids in pieces.items():
        own = rows[list(ids)] if ids else rows
        new[number] = own.mean(0) if source is None else source[number]
    return jnp.asarray(np.moveaxis(new, 0, axis))
