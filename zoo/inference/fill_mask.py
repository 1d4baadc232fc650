"""Fills the gaps of a text with a masked model."""

import chex
import jax
import numpy as np
from flax import linen as nn

from zoo.contracts import MaskFiller
from zoo.params import call
from zoo.tokenizers import AnyTokenizer, sides, token_id

MASKS = ("[MASK]", "<mask>")


def fill_mask(
    model: nn.Module,
    params: chex.ArrayTree,
    tokenizer: AnyTokenizer | None,
    text: str,
    top: int = 5,
) -> list[list[tuple[str, float]]]:
    """For each mask in the text, the likeliest words and their probabilities.

    Raises ValueError where the text has no mask, is longer than the model takes, or the model is
    none that fills masks.
    """
    if tokenizer is None:
        raise ValueError("the model folder has no tokenizer, so there is no text to fill")
    words = sides(tokenizer).source
    name = next((name for name in MASKS if words.token_to_id(name) is not None), None)
    if name is None or not isinstance(model, MaskFiller):
        raise ValueError(f"{type(model).__name__} does not fill masks: give a masked model")
    for other in MASKS:
        text = text.replace(other, name)
    encoding = words.encode(text)
    tokens_BL = np.array([encoding.ids])
    gaps_P = np.flatnonzero(tokens_BL[0] == token_id(words, name))
    if len(gaps_P) == 0:
        raise ValueError(f"the text has no {name}: put it where a word is to be filled in")
    if tokens_BL.shape[1] > model.config.max_length:
        raise ValueError(
            f"the text has {tokens_BL.shape[1]} tokens, the model takes {model.config.max_length}"
        )
    segments_BL = np.array([encoding.type_ids])
    logits_BPV = call(model, params, tokens_BL, segments_BL, gaps_P[None], method="fill")
    chance_PV = jax.nn.softmax(logits_BPV[0])
    chances, numbers = jax.lax.top_k(chance_PV, top)
    return [
        [(words.id_to_token(int(w)) or "", float(p)) for p, w in zip(row, ids, strict=True)]
        for row, ids in zip(chances, numbers, strict=True)
    ]
