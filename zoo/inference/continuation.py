"""New tokens as text: what follows the prompt, up to a stop string."""

import bisect
from collections.abc import Sequence
from typing import NamedTuple

from zoo.checkpoints.load import Loaded
from zoo.contracts import EncoderDecoder
from zoo.inference.prompts import require_tokenizer
from zoo.tokenizers import AnyTokenizer, ordinary, sides, unknown_id

INCOMPLETE = "\ufffd"  # what the bytes of an incomplete character are decoded to


class Continuation(NamedTuple):
    """How tokens that follow others are decoded.

    All of them are decoded at once: a character may span more than one byte-level token, and a
    space may be part of the word before it.

    Attributes:
      tokenizer: The tokenizer.
      before: The tokens of the prompt; none for an encoder-decoder.
      stop: The text ends before the first of these strings.
    """

    tokenizer: AnyTokenizer
    before: Sequence[int] = ()
    stop: Sequence[str] = ()

    def text(self, tokens: Sequence[int]) -> str:
        """Return the text of all tokens, with whatever follows a stop string."""
        prompt = self.tokenizer.decode([*self.before], skip_special_tokens=False)
        text = self.tokenizer.decode([*self.before, *tokens], skip_special_tokens=False)
        return text.removeprefix(prompt)

    def has_stopped(self, tokens: Sequence[int]) -> bool:
        """Return whether the text contains a stop string."""
        text = self.text(tokens) if self.stop else ""
        return any(stop in text for stop in self.stop)

    def until_stop(self, tokens: Sequence[int]) -> str:
        """Return the text before the first stop string, as if tokens were checked one by one."""
        if not self.has_stopped(tokens):
            return self.text(tokens)
        sizes = range(1, len(tokens) + 1)
        index = bisect.bisect_left(sizes, True, key=lambda size: self.has_stopped(tokens[:size]))
        text = self.text(tokens[: sizes[index]])
        return text[: min(at for stop in self.stop if (at := text.find(stop)) >= 0)]

    def settled(self, tokens: Sequence[int]) -> str:
        """Return the text that no later token changes.

        It ends before a character that is incomplete, and before what may begin a stop string.
        """
        text = self.text(tokens).rstrip(INCOMPLETE)
        longest = max(map(len, self.stop), default=1)
        for size in range(min(longest - 1, len(text)), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self.stop):
                return text[:-size]
        return text


def continuation(loaded: Loaded, prompt: Sequence[int], stop: Sequence[str] = ()) -> Continuation:
    """Return how the new tokens of a model are decoded; those of an encoder-decoder stand alone."""
    before = () if isinstance(loaded.model, EncoderDecoder) else prompt
    return Continuation(require_tokenizer(loaded), before, stop)


def stops(stop: str | Sequence[str]) -> tuple[str, ...]:
    """Return one or more stop strings as a tuple.

    Raises:
      ValueError: If one is empty.
      TypeError: If one is no string.
    """
    return _strings("stop", stop)


def word_ids(tokenizer: AnyTokenizer, words: str | Sequence[str]) -> list[list[int]]:
    """Return the tokens of words, both at the beginning of a text and behind a space.

    Words that the tokenizer cannot write are left out, since no model generates them.

    Raises:
      ValueError: If one is empty.
      TypeError: If one is no string.
    """
    target = ordinary(sides(tokenizer).target)
    unknown = unknown_id(target)
    encoded = [
        tuple(target.encode(space + word, add_special_tokens=False).ids)
        for word in _strings("bad_words", words)
        for space in ("", " ")
    ]
    return [list(ids) for ids in dict.fromkeys(encoded) if ids and unknown not in ids]


def _strings(name: str, texts: str | Sequence[str]) -> tuple[str, ...]:
    listed = (texts,) if isinstance(texts, str) else tuple(texts)
    for text in listed:
        if not isinstance(text, str):
            raise TypeError(f"{name} must be strings, not {type(text).__name__}: {text!r:.60}")
        if not text:
            raise ValueError(f"{name} has an empty string: leave it out")
    return listed
