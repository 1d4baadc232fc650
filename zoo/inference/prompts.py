"""Prompts and sources: token ids, and the batch they are padded to.

B batch  L length
"""

from collections.abc import Sequence

import numpy as np
from flax import linen as nn

from zoo import registry
from zoo.checkpoints.load import Loaded
from zoo.contracts import (
    DirectionsModel,
    Encoder,
    EncoderDecoder,
    LanguageModel,
    MaskFiller,
    ReplacedTokenDetector,
    SoundModel,
    WordVectorModel,
)
from zoo.direction import is_backward
from zoo.inference.length_buckets import bucket
from zoo.tokenizers import AnyTokenizer, Tokenizer, ordinary, sides

# The names of the token that ends a text; GPT's begins the next one.
ENDS = ("<|endoftext|>", "</s>", "_start_")
UNLIMITED = 1 << 30  # maximum length of models without a position table


def pad(
    model: nn.Module, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return prompts padded on the left to one length bucket: tokens_BL, document_ids_BL.

    Raises:
      ValueError: If a prompt is empty, has ids out of range, or leaves no room for `max_new_tokens`
        more. The source of an encoder-decoder may have any length.
    """
    check_generates(model)
    c = model.config
    longest = max(map(len, prompts))
    if min(map(len, prompts)) == 0:
        raise ValueError("a prompt is empty: begin a new document with the end-of-text token")
    if not isinstance(model, EncoderDecoder) and longest + max_new_tokens > c.max_length:
        raise ValueError(
            f"the prompt has {longest} tokens; with {max_new_tokens} more it would exceed the "
            f"{c.max_length} that the model supports"
        )
    invalid = [i for prompt in prompts for i in prompt if not 0 <= i < c.vocab_size]
    if invalid:
        raise ValueError(
            f"token id {invalid[0]} is outside the vocabulary, 0 to {c.vocab_size - 1}"
        )
    L = bucket(longest, UNLIMITED)
    tokens_BL, document_ids_BL = np.zeros((2, len(prompts), L), np.int32)
    for row, prompt in enumerate(prompts):
        tokens_BL[row, L - len(prompt) :] = prompt
        document_ids_BL[row, L - len(prompt) :] = 1
    return tokens_BL, document_ids_BL


# What to use instead of `zoo generate`, by kind of task (a key of TASKS).
COMMANDS = {
    "classification": "zoo classify",
    "multi-label": "zoo classify",
    "similarity": "zoo classify",
    "tagging": "zoo tag",
    "crf-tagging": "zoo tag",
    "question-answering": "zoo answer",
    "multiple-choice": "zoo choose",
}


def check_generates(model: nn.Module) -> None:
    """Raise ValueError, with the command to use instead, if a model cannot continue a text."""
    name = type(model).__name__
    if not isinstance(model, LanguageModel):
        instead = _instead(model)
        hint = f"use `{instead}`, or " if instead else "use "
        raise ValueError(
            f"{name} does not generate text: {hint}a language model or an encoder-decoder"
        )
    if is_backward(model.config):
        raise ValueError(
            f"this {name} reads backward, from the last token to the first, so it cannot continue "
            "a text: use a model that reads forward"
        )


def _instead(model: nn.Module) -> str | None:
    """Return the command for a model that does not generate."""
    for task, cls in registry.of(model).TASKS.items():
        if type(model) is cls:
            return COMMANDS.get(task)
    if isinstance(model, MaskFiller):
        return "zoo fill-mask"
    if isinstance(model, ReplacedTokenDetector):
        return "zoo detect-replaced"
    if isinstance(model, WordVectorModel):
        return "zoo neighbors"
    if isinstance(model, DirectionsModel):
        return "zoo score"
    return "zoo embed" if isinstance(model, Encoder) else None


def encode(loaded: Loaded, prompt: str) -> list[int]:
    """Return the tokens of a prompt, or of a source and its end.

    An empty prompt begins a new document.

    Raises:
      ValueError: If there is no tokenizer, or the prompt is empty and no token begins a text, or
        the model is one of sound.
      TypeError: If the prompt is not a string.
    """
    tokenizer = sides(require_tokenizer(loaded)).source
    check_text(prompt)
    if isinstance(loaded.model, SoundModel):
        raise ValueError(
            f"{type(loaded.model).__name__} generates sound, not text: use zoo.generate_sound, or "
            "zoo generate-sound"
        )
    end = end_token(tokenizer)
    last = [] if end is None else [end]
    if isinstance(loaded.model, EncoderDecoder):  # its sources end with this token
        return tokenizer.encode(prompt, add_special_tokens=False).ids + last
    # Every document of the training text begins with this token.
    ids = ordinary(tokenizer).encode(prompt, add_special_tokens=False).ids or last
    if not ids:
        raise ValueError("the prompt is empty, and the tokenizer has no token to begin a text with")
    return ids


def encode_source(tokenizer: Tokenizer, text: str, end: int) -> list[int]:
    """Return the tokens of a text to translate and its end; raise ValueError if it is empty."""
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    if not ids:
        raise ValueError("the text is empty: there is nothing to translate")
    return [*ids, end]


def end_token(tokenizer: AnyTokenizer) -> int | None:
    """Return the token that ends a text, the first of ENDS that the tokenizer has, or None."""
    return next((i for name in ENDS if (i := tokenizer.token_to_id(name)) is not None), None)


def require_tokenizer(loaded: Loaded) -> AnyTokenizer:
    """Return the tokenizer; raise ValueError if there is none."""
    if loaded.tokenizer is None:
        raise ValueError("the model has no tokenizer, so it accepts token ids only")
    return loaded.tokenizer


def check_text(text: str) -> None:
    """Raise TypeError for anything but a string."""
    if not isinstance(text, str):
        raise TypeError(f"a text must be a string, not {type(text).__name__}: {text!r:.60}")


def as_list(texts: str | Sequence[str]) -> list[str]:
    """Return a text or a list of texts as a list; raise TypeError for anything but strings."""
    listed = [texts] if isinstance(texts, str) else list(texts)
    for text in listed:
        check_text(text)
    return listed
