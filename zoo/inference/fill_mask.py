"""Prediction of the masked tokens of a text."""

from functools import partial

import chex
import jax
import numpy as np
from flax import linen as nn

from zoo.checkpoints.load import Loaded
from zoo.contracts import MaskFiller
from zoo.inference.batching import Batch, Row, pad
from zoo.inference.length_buckets import bucket
from zoo.inference.prompts import check_text, require_tokenizer
from zoo.params import call
from zoo.tokenizers import sides

MASKS = ("[MASK]", "<mask>")


def fill_mask(loaded: Loaded, text: str, top: int = 5) -> list[list[tuple[str, float]]]:
    """Return, for each mask in a text, the most probable tokens and their probabilities.

    Args:
      loaded: A masked language model with its tokenizer.
      text: A text with [MASK], or the model's own mask token.
      top: How many tokens to return for each mask.

    Raises:
      ValueError: If the text has no mask or is too long, or the model predicts no masked tokens.
    """
    model, params, _ = loaded
    tokenizer = sides(require_tokenizer(loaded)).source
    check_text(text)
    name = next((name for name in MASKS if tokenizer.token_to_id(name) is not None), None)
    if name is None or not isinstance(model, MaskFiller):
        raise ValueError(
            f"{type(model).__name__} does not predict masked tokens: use a masked language model"
        )
    for other in MASKS:
        text = text.replace(other, name)
    encoding = tokenizer.encode(text)
    masked = [i for i, token in enumerate(encoding.ids) if token == tokenizer.token_to_id(name)]
    if not masked:
        raise ValueError(f"the text has no {name}: write {name} in place of the word to predict")
    length, longest = len(encoding.ids), model.config.max_length
    if length > longest:
        raise ValueError(f"the text has {length} tokens, but the model supports at most {longest}")
    batch = pad([Row(encoding.ids, encoding.type_ids)], 1, bucket(length, longest))
    # XLNet hides the tokens at all of these positions, so one is repeated.
    position_BP = np.full((1, bucket(len(masked), longest)), masked[0], np.int32)
    position_BP[0, : len(masked)] = masked
    probability_PV = np.asarray(_probabilities(model, params, batch, position_BP))[: len(masked)]
    id_PV = np.argsort(-probability_PV, kind="stable")[:, :top]
    return [
        [(tokenizer.id_to_token(int(i)) or "", float(row[i])) for i in ids]
        for row, ids in zip(probability_PV, id_PV, strict=True)
    ]


@partial(jax.jit, static_argnums=0)
def _probabilities(
    model: nn.Module, params: chex.ArrayTree, batch: Batch, position_BP: jax.Array
) -> jax.Array:
    """Return the probability of each token at each position of the one row: probability_PV."""
    inputs = batch.tokens, batch.segments, position_BP, batch.documents
    return jax.nn.softmax(call(model, params, *inputs, method="fill")[0])
