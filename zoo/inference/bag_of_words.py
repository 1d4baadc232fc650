"""Probabilities of labels from the mean of the rows of a text, for the classifier of fastText.

A text is read as one line: its words are what stands between white space, and its end is a word.

N texts  B batch  R rows of a text  C labels  H depth of the tree  D width
"""

from collections.abc import Callable, Sequence
from functools import partial

import chex
import jax
import numpy as np

from zoo.checkpoints.load import Loaded
from zoo.inference.batching import sigmoid, softmax
from zoo.inference.length_buckets import bucket
from zoo.inference.prompts import UNLIMITED, require_tokenizer
from zoo.layers import huffman
from zoo.models.fasttext import FastTextClassifier
from zoo.params import call
from zoo.tokenizers import sides, subwords


def encode(loaded: Loaded, texts: Sequence[str]) -> subwords.Rows:
    """Return the rows of each text; a word that is not known has those of its n-grams only.

    Raises:
      ValueError: If a text is empty, or the model has no tokenizer.
    """
    c, lines = loaded.model.config, [subwords.line(text) for text in texts]
    for text, words in zip(texts, lines, strict=True):
        if len(words) == 1:
            raise ValueError(f"the text {text!r} is empty: give a text with words")
    id_of = sides(require_tokenizer(loaded)).source.token_to_id
    return subwords.text_rows(
        lines, id_of, c.vocab_size, c.buckets, c.min_n, c.max_n, c.word_ngrams
    )


def classify(loaded: Loaded, texts: Sequence[str], batch_size: int = 64) -> np.ndarray:
    """Return the probability of every label for each text: p_NC.

    Args:
      loaded: A `FastTextClassifier`.
      texts: The texts.
      batch_size: Texts per batch.

    Raises:
      ValueError: As in `encode`.
    """
    model, params, _ = loaded
    assert isinstance(model, FastTextClassifier), "checked by zoo.classify"
    first, rows = encode(loaded, texts)
    sizes = np.diff(first)
    logits_NC = np.zeros((len(texts), model.num_outputs), np.float32)
    order, count = np.argsort(sizes, kind="stable"), min(batch_size, len(texts))
    for start in range(0, len(texts), batch_size):
        batch = order[start : start + batch_size]
        R = bucket(max(int(sizes[batch].max()), 1), UNLIMITED)
        rows_BR = np.full((count, R), -1, np.int32)
        rows_BR[: len(batch)][np.arange(R) < sizes[batch, None]] = np.concatenate(
            [rows[first[text] : first[text + 1]] for text in batch]
        )
        logits_NC[batch] = np.asarray(logits(model, params, rows_BR))[: len(batch)]
    return PROBABILITIES[model.config.loss](logits_NC, np.asarray(params["label_counts"]))


@partial(jax.jit, static_argnums=0)
def logits(model: FastTextClassifier, params: chex.ArrayTree, rows_BR: jax.Array) -> jax.Array:
    """Return the logits of labels or inner nodes, logits_BC; compiled per model and shape."""
    return call(model, params, rows_BR, method="classes")


def along_tree(logits_NC: np.ndarray, counts_C: np.ndarray) -> np.ndarray:
    """Return the product of the probabilities of the turns to each label: p_NC."""
    nodes_CH, signs_CH = huffman.tree(counts_C)
    p_NC = np.ones((len(logits_NC), len(nodes_CH)), np.float32)
    for nodes_C, signs_C in zip(nodes_CH.T, signs_CH.T, strict=True):
        p_NC *= np.where(signs_C != 0, sigmoid(signs_C * logits_NC[:, nodes_C]), 1)
    return p_NC


# The names of `zoo.models.fasttext.LOSSES` -> the probabilities, given how often each label occurs.
PROBABILITIES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "softmax": lambda logits_NC, _: softmax(logits_NC),
    "negative-sampling": lambda logits_NC, _: sigmoid(logits_NC),
    "one-vs-all": lambda logits_NC, _: sigmoid(logits_NC),
    "hierarchical-softmax": along_tree,
}
