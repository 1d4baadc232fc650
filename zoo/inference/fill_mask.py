"""Prediction of the masked tokens of a text."""

import jax
import numpy as np

from zoo.checkpoints.load import Loaded
from zoo.contracts import MaskFiller
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
    tokens_BL = np.array([encoding.ids])
    masked_P = np.flatnonzero(tokens_BL[0] == tokenizer.token_to_id(name))
    if len(masked_P) == 0:
        raise ValueError(f"the text has no {name}: write {name} in place of the word to predict")
    if tokens_BL.shape[1] > model.config.max_length:
        raise ValueError(
            f"the text has {tokens_BL.shape[1]} tokens, but the model supports at most "
            f"{model.config.max_length}"
        )
    segments_BL = np.array([encoding.type_ids])
    logits_BPV = call(model, params, tokens_BL, segments_BL, masked_P[None], method="fill")
    probability_PV, id_PV = jax.lax.top_k(jax.nn.softmax(logits_BPV[0]), top)
    return [
        [(tokenizer.id_to_token(int(i)) or "", float(p)) for p, i in zip(row, ids, strict=True)]
        for row, ids in zip(probability_PV, id_PV, strict=True)
    ]
