"""Tells which words of a text a discriminator believes were put there by another model."""

import chex
import jax
import numpy as np
from flax import linen as nn

from zoo.contracts import ReplacedTokenDetector
from zoo.params import call
from zoo.tokenizers import AnyTokenizer, sides


def detect_replaced(
    model: nn.Module, params: chex.ArrayTree, tokenizer: AnyTokenizer | None, text: str
) -> list[tuple[str, float]]:
    """Every piece of the text as the tokenizer cuts it, and the probability that it was replaced.

    Raises ValueError where the text is empty or longer than the model takes, or the model is none
    that detects.
    """
    if tokenizer is None:
        raise ValueError("the model folder has no tokenizer, so there is no text to look at")
    if not isinstance(model, ReplacedTokenDetector):
        raise ValueError(
            f"{type(model).__name__} does not detect replaced words: give an ELECTRA that has its "
            "discriminator"
        )
    encoding = sides(tokenizer).source.encode(text)
    words = [place for place, special in enumerate(encoding.special_tokens_mask) if not special]
    if not words:
        raise ValueError("the text is empty: there is nothing to look at")
    if len(encoding.ids) > model.config.max_length:
        raise ValueError(
            f"the text has {len(encoding.ids)} tokens, the model takes {model.config.max_length}"
        )
    tokens_BL, segments_BL = np.array([encoding.ids]), np.array([encoding.type_ids])
    logits_BL = call(model, params, tokens_BL, segments_BL, method="detect")
    chance_L = jax.nn.sigmoid(logits_BL[0])
    pieces = [text[slice(*encoding.offsets[place])] for place in words]
    return [(piece, float(chance_L[place])) for piece, place in zip(pieces, words, strict=True)]
