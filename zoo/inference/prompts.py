"""Prompts and sources: token ids, and the batch they are padded to.

B batch  L length
"""

from collections.abc import Sequence

import numpy as np
from flax import linen as nn

from zoo.contracts import EncoderDecoder, LanguageModel
from zoo.inference.length_buckets import bucket
from zoo.tokenizers import Sides, Tokenizer

ENDS = ("<|endoftext|>", "</s>")  # the names of the token that ends a text
UNLIMITED = 1 << 30  # tokens, for what no table of positions limits


def pad(
    model: nn.Module, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return prompts padded on the left to one length bucket: tokens_BL, documents_BL.

    Raises:
      ValueError: if a prompt is empty, has ids out of range, or leaves no room for `max_new_tokens`
        more; an encoder-decoder takes a source of any length.
    """
    if not isinstance(model, LanguageModel):
        raise ValueError(
            f"a {type(model).__name__} does not generate: give a language model or a translator"
        )
    c = model.config
    longest = max(map(len, prompts))
    if min(map(len, prompts)) == 0:
        raise ValueError("a prompt is empty: begin a new document with the end-of-text token")
    if not isinstance(model, EncoderDecoder) and longest + max_new_tokens > c.max_length:
        raise ValueError(
            f"the prompt has {longest} tokens; with {max_new_tokens} more it would exceed the "
            f"{c.max_length} that the model supports"
        )
    wrong = [i for prompt in prompts for i in prompt if not 0 <= i < c.vocab_size]
    if wrong:
        raise ValueError(f"token id {wrong[0]} is not in 0 to {c.vocab_size - 1}")
    L = bucket(longest, UNLIMITED)
    tokens_BL, documents_BL = np.zeros((2, len(prompts), L), np.int32)
    for row, prompt in enumerate(prompts):
        tokens_BL[row, L - len(prompt) :] = prompt
        documents_BL[row, L - len(prompt) :] = 1
    return tokens_BL, documents_BL


def check_beams(model: nn.Module, beams: int) -> None:
    """Raise ValueError if the beam is wider than the vocabulary."""
    if beams > model.config.vocab_size:
        raise ValueError(
            f"a beam of {beams} is wider than the vocabulary of {model.config.vocab_size}"
        )


def end_token(tokenizer: Tokenizer | Sides, names: Sequence[str] = ENDS) -> int | None:
    """Return the token that ends a text, the first of the names that the tokenizer has, or None."""
    return next((i for name in names if (i := tokenizer.token_to_id(name)) is not None), None)


def encode_source(tokenizer: Tokenizer | Sides, text: str, end: int) -> list[int]:
    """Return the tokens of a text to be translated, and its end; ValueError for an empty one."""
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    if not ids:
        raise ValueError("there is nothing to translate in an empty text")
    return [*ids, end]
