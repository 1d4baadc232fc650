"""Detection of replaced tokens with ELECTRA's discriminator."""

from functools import partial

import chex
import jax
import numpy as np
from flax import linen as nn

from zoo.checkpoints.load import Loaded
from zoo.contracts import ReplacedTokenDetector
from zoo.inference.batching import Batch, Row, pad
from zoo.inference.length_buckets import bucket
from zoo.inference.prompts import check_text, require_tokenizer


def detect_replaced(loaded: Loaded, text: str) -> list[tuple[str, float]]:
    """Return every token of a text, as it is spelled there, and its probability of replacement.

    Args:
      loaded: An ELECTRA with its discriminator and tokenizer.
      text: The text.

    Raises:
      ValueError: If the text is empty or too long, or the model has no discriminator.
    """
    model, params, _ = loaded
    tokenizer = require_tokenizer(loaded)
    check_text(text)
    if not isinstance(model, ReplacedTokenDetector):
        raise ValueError(
            f"{type(model).__name__} does not detect replaced tokens: use an ELECTRA with its "
            "discriminator"
        )
    encoding = tokenizer.encode(text)
    positions = [
        position for position, special in enumerate(encoding.special_tokens_mask) if not special
    ]
    if not positions:
        raise ValueError("the text is empty: give a text with words")
    length, longest = len(encoding.ids), model.config.max_length
    if length > longest:
        raise ValueError(f"the text has {length} tokens, but the model supports at most {longest}")
    batch = pad([Row(encoding.ids, encoding.type_ids)], 1, bucket(length, longest))
    probability_L = np.asarray(_probabilities(model, params, batch))
    pieces = [text[slice(*encoding.offsets[position])] for position in positions]
    return [
        (piece, float(probability_L[position]))
        for piece, position in zip(pieces, positions, strict=True)
    ]


@partial(jax.jit, static_argnums=0)
def _probabilities(model: nn.Module, params: chex.ArrayTree, batch: Batch) -> jax.Array:
    """Return the probability that each token of the one row was replaced: probability_L."""
    logits_BL = model.apply({"params": params}, *batch, method="detect")
    return jax.nn.sigmoid(logits_BL[0])
