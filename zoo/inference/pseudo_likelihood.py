"""The pseudo-log-likelihood of a text by a masked model (Salazar et al. 2019).

https://arxiv.org/abs/1910.14659: each token is masked and predicted from all others. Given its own
end, the beginning of a rare word is too easy to predict, so the later tokens of its word are masked
as well (Kauf and Ivanova 2023, https://arxiv.org/abs/2305.10588).

B batch  L length  V vocabulary
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from tokenizers import Encoding

from zoo.checkpoints.load import Loaded
from zoo.inference import batching
from zoo.inference.batching import Batch, Row
from zoo.inference.fill_mask import MASKS
from zoo.inference.prompts import require_tokenizer
from zoo.params import call
from zoo.tokenizers import sides

Masked = Literal["word", "token"]


def score(
    loaded: Loaded, texts: Sequence[str], masked: Masked, batch_size: int
) -> list[tuple[list[str], list[float]]]:
    """Return the tokens of each text, and the log probability of each given the others.

    Args:
      loaded: A masked language model with its tokenizer.
      texts: The texts.
      masked: With a token, also mask the later tokens of its "word", or only the "token" itself.
      batch_size: The number of rows in a batch; a text has as many rows as tokens.

    Raises:
      ValueError: If a text has no tokens or is too long.
    """
    model, params, _ = loaded
    tokenizer = sides(require_tokenizer(loaded)).source
    mask = next((i for name in MASKS if (i := tokenizer.token_to_id(name)) is not None), None)
    if mask is None:
        raise ValueError("the tokenizer has no mask token: use that of a masked language model")
    encodings = [tokenizer.encode(text) for text in texts]
    positions = [_positions(encoding) for encoding in encodings]
    for text, of_text in zip(texts, positions, strict=True):
        if not of_text:
            raise ValueError(f"the text {text!r:.40} has no tokens: there is nothing to score")
    rows = [
        row
        for encoding, of_text in zip(encodings, positions, strict=True)
        for row in _rows(encoding, of_text, mask, masked)
    ]
    batching.check_rows(rows, model)
    scored = [position for of_text in positions for position in of_text]
    targets = [
        encoding.ids[position]
        for encoding, of_text in zip(encodings, positions, strict=True)
        for position in of_text
    ]
    values = np.zeros(len(rows))
    for indices, batch in batching.batches(rows, batch_size, model.config.max_length):
        at_B, target_B = np.zeros((2, len(batch.tokens)), np.int32)
        at_B[: len(indices)] = [scored[index] for index in indices]
        target_B[: len(indices)] = [targets[index] for index in indices]
        p_B = np.asarray(_log_probability(model, params, batch, at_B, target_B))
        values[indices] = p_B[: len(indices)]
    results = iter(values.tolist())
    return [
        (
            [text[slice(*encoding.offsets[position])] for position in of_text],
            [next(results) for _ in of_text],
        )
        for text, encoding, of_text in zip(texts, encodings, positions, strict=True)
    ]


def _positions(encoding: Encoding) -> list[int]:
    """Return the positions of the tokens that are not special."""
    return [i for i, special in enumerate(encoding.special_tokens_mask) if not special]


def _rows(encoding: Encoding, positions: Sequence[int], mask: int, masked: Masked) -> Iterator[Row]:
    """Yield one row for each position, with that token masked."""
    words = encoding.word_ids
    for position in positions:
        tokens = list(encoding.ids)
        tokens[position] = mask
        if masked == "word" and words[position] is not None:
            for later in range(position + 1, len(tokens)):
                if words[later] == words[position]:
                    tokens[later] = mask
        yield Row(tokens, encoding.type_ids)


@partial(jax.jit, static_argnums=0)
def _log_probability(
    model: nn.Module, params: chex.ArrayTree, batch: Batch, at_B: jax.Array, target_B: jax.Array
) -> jax.Array:
    """Return the log probability of one token of each row: p_B."""
    inputs = batch.tokens, batch.segments, at_B[:, None], batch.documents
    logits_B1V = call(model, params, *inputs, method="fill")
    logits_BV = jax.nn.log_softmax(logits_B1V[:, 0])
    return jnp.take_along_axis(logits_BV, target_B[:, None], -1)[:, 0]
