"""Finds the tokens of a text that another model replaced."""

import jax
import numpy as np

from zoo.checkpoints.load import Loaded
from zoo.contracts import ReplacedTokenDetector
from zoo.inference.prompts import check_text, require_tokenizer


def detect_replaced(loaded: Loaded, text: str) -> list[tuple[str, float]]:
    """Return every token of a text, as it is written there, with its probability to be replaced.

    Args:
      loaded: An ELECTRA with its discriminator and tokenizer.
      text: The text.

    Raises:
      ValueError: if the text is empty or too long, or the model has no discriminator.
    """
    model, params, _ = loaded
    tokenizer = require_tokenizer(loaded)
    check_text(text)
    if not isinstance(model, ReplacedTokenDetector):
        raise ValueError(
            f"{type(model).__name__} does not detect replaced words: give an ELECTRA that has its "
            "discriminator"
        )
    encoding = tokenizer.encode(text)
    places = [place for place, special in enumerate(encoding.special_tokens_mask) if not special]
    if not places:
        raise ValueError("the text is empty: there is nothing to look at")
    if len(encoding.ids) > model.config.max_length:
        raise ValueError(
            f"the text has {len(encoding.ids)} tokens, the model supports {model.config.max_length}"
        )
    tokens_BL, segments_BL = np.array([encoding.ids]), np.array([encoding.type_ids])
    logits_BL = model.apply({"params": params}, tokens_BL, segments_BL, method="detect")
    probability_L = jax.nn.sigmoid(logits_BL[0])
    pieces = [text[slice(*encoding.offsets[place])] for place in places]
    return [(piece, float(probability_L[at])) for piece, at in zip(pieces, places, strict=True)]
