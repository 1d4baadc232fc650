"""Detection of replaced tokens with ELECTRA's discriminator."""

import jax
import numpy as np

from zoo.checkpoints.load import Loaded
from zoo.contracts import ReplacedTokenDetector
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
    if len(encoding.ids) > model.config.max_length:
        raise ValueError(
            f"the text has {len(encoding.ids)} tokens, but the model supports at most "
            f"{model.config.max_length}"
        )
    tokens_BL, segments_BL = np.array([encoding.ids]), np.array([encoding.type_ids])
    logits_BL = model.apply({"params": params}, tokens_BL, segments_BL, method="detect")
    probability_L = jax.nn.sigmoid(logits_BL[0])
    pieces = [text[slice(*encoding.offsets[position])] for position in positions]
    return [
        (piece, float(probability_L[position]))
        for piece, position in zip(pieces, positions, strict=True)
    ]
