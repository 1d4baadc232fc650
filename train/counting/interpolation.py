"""The mean of the probabilities of an n-gram model and a neural one (Bengio et al. 2003, sec. 4).

Both read the same tokens, and each predicts every token but the first. Their errors differ, so that
the mean is often better than either.

B batch  L length  N predicted tokens
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from train.counting import text
from train.counting.evaluate import scored
from train.data.batches.sliding_windows import SlidingWindows
from train.data.corpus.corpus import Corpus
from train.data.sources import builtin
from train.data.sources.source import Source
from train.metrics.language_model import perplexity
from zoo import tokenizers
from zoo.checkpoints.load import Loaded, load
from zoo.contracts import EncoderDecoder, LanguageModel, PermutationLanguageModel
from zoo.models.ngram import NGram
from zoo.params import call

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def perplexities(
    ngram_folder: str | Path,
    neural_folder: str | Path,
    source: Source | None = None,
    weights: Sequence[float] = WEIGHTS,
    length: int = 128,
    stride: int = 64,
) -> dict[float, float]:
    """Return the perplexity of a text for every weight of the neural model.

    Args:
      ngram_folder: The folder or ARPA file of an n-gram model.
      neural_folder: The folder of a causal language model with the same tokenizer.
      source: The text. None: the held-out part of the built-in corpus.
      weights: The weights; 0 is the n-gram model alone, 1 the neural one.
      length: Tokens that the neural model reads at a time, or its maximum if that is lower.
      stride: Tokens from the start of a window to the start of the next, so that every prediction
        has at least `length - stride` tokens of context.

    Raises:
      ValueError: If the models do not fit each other.
    """
    ngram, neural = load(ngram_folder), load(neural_folder)
    if not isinstance(ngram.model, NGram):
        raise ValueError(f"{ngram_folder} is not an n-gram model")
    is_causal = isinstance(neural.model, LanguageModel)
    if not is_causal or isinstance(neural.model, EncoderDecoder | PermutationLanguageModel | NGram):
        raise ValueError(f"{neural_folder} is not a causal language model, such as a fixed window")
    if ngram.tokenizer is None or neural.tokenizer is None or not _is_same(ngram, neural):
        raise ValueError(
            f"{ngram_folder} and {neural_folder} have different vocabularies, so their "
            f"probabilities cannot be mixed: pretrain one with --tokenizer of the other"
        )
    end = ngram.model.config.end
    corpus = text.corpus(source or builtin.read(), tokenizers.sides(ngram.tokenizer).source, end)
    if source is None:
        _, corpus = corpus.split()
    tokens = corpus.read(corpus.start, corpus.stop)
    counted_N = np.concatenate([p_L for _, p_L, _ in scored(ngram.model, ngram.params, tokens)])
    length = min(length, neural.model.config.max_length)
    learned_N = _probabilities(neural, corpus, end, length, min(stride, length))
    return {
        weight: perplexity(-np.log((1 - weight) * counted_N + weight * learned_N).mean())
        for weight in weights
    }


def _probabilities(
    loaded: Loaded, corpus: Corpus, end: int, length: int, stride: int, batch_size: int = 4
) -> np.ndarray:
    """Return the probability of every token but the first: float64 [N]."""
    windows = SlidingWindows(length=length, stride=stride).evaluate(corpus, batch_size)
    parts = []
    for number in range(len(windows)):
        batch = windows(number)
        p_BL = _score(loaded.model, loaded.params, batch["tokens"], end)
        parts.append(np.asarray(p_BL, np.float64)[(batch["mask"] & batch["scored"])[:, 1:]])
    return np.concatenate(parts)


@partial(jax.jit, static_argnums=(0, 3))
def _score(model: nn.Module, params: chex.ArrayTree, tokens_BL: jax.Array, end: int) -> jax.Array:
    """Return the probability of each token but the first, of those after it in its document."""
    document_ids_BL = 1 + jnp.cumsum(tokens_BL[:, :-1] == end, 1)
    logits_BLV = call(model, params, tokens_BL[:, :-1], document_ids_BL)
    log_p_BLV = jax.nn.log_softmax(logits_BLV.astype(jnp.float32))
    return jnp.exp(jnp.take_along_axis(log_p_BLV, tokens_BL[:, 1:, None], -1)[..., 0])


def _is_same(one: Loaded, other: Loaded) -> bool:
    assert one.tokenizer is not None
    assert other.tokenizer is not None
    return tokenizers.fingerprint(one.tokenizer) == tokenizers.fingerprint(other.tokenizer)
