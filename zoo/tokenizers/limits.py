"""What is refused in a `tokenizer.json`, as it could take hours or all memory."""

import re
from collections.abc import Iterator
from typing import Any

LARGEST_ID = 1 << 24  # arrays have a place for every id; the largest published vocabulary has 2**20
LONGEST_PATTERN = 10_000
_ATOM = r"(?:\\.|\[(?:\\.|[^\]\\])*\])"  # an escaped character, or a class of characters
_REPEATED = re.compile(r"\)(?:[*+]|\{\d*,?\d*\})")
_AGAIN = re.compile(r"\\(?:[1-9]|[gk]<)")  # a group or its match once more


def check_json(content: Any) -> None:
    """Raise ValueError for an id or a regular expression that is out of bounds.

    A regular expression in which a group is repeated, such as (a+)+, or called again can take time
    exponential in the length of a text. Those of published tokenizers have none.
    """
    for pattern in _values(content, "Regex"):
        text = str(pattern)
        groups = re.sub(_ATOM, "x", text, flags=re.S)
        if len(text) > LONGEST_PATTERN or _REPEATED.search(groups) or _AGAIN.search(text):
            raise ValueError(
                f"it has the regular expression {text!r:.60}, in which a group is repeated or "
                "which is very long, and which could take for ever"
            )
    for vocabulary in _values(content, "vocab"):
        check_ids(vocabulary)
    for tokens in _values(content, "added_tokens"):
        check_ids(dict(enumerate(_values(tokens, "id"))))


def check_ids(vocabulary: Any) -> None:
    """Raise ValueError for an id that is out of bounds, in a vocabulary of ids by token."""
    ids = vocabulary.values() if isinstance(vocabulary, dict) else ()
    largest = max((number for number in ids if isinstance(number, int)), default=0)
    if largest > LARGEST_ID:
        raise ValueError(f"it has the id {largest:,}, but ids are at most {LARGEST_ID:,}")


def _values(content: Any, name: str) -> Iterator[Any]:
    """Yield the values of a field of any object in some content, at any depth."""
    pending = [content]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if name in value:
                yield value[name]
            pending += value.values()
        elif isinstance(value, list):
            pending += value
