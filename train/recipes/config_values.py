"""Changes to the config of a model, each given as NAME=VALUE, checked before a model is built."""

import difflib
import types
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar, get_args

from train import ranges
from train.ranges import AT_LEAST_0, AT_LEAST_1, BELOW_1, Range
from zoo.layers.feed_forward import ACTIVATIONS

C = TypeVar("C")

# What a model is built from in a loop, whose time is bounded.
LAYERS = Range("from 1 to 1,000", lambda x: 1 <= x <= 1000)
NO_LAYERS = Range("0, as the model has no layers", lambda x: x == 0)
OF_LAYERS = ("layers", "groups", "highway", "window", "filter_width")
MOST = 1_000_000  # of widths, lengths and others; rows of tables have no limit but 32 bits
OF_ROWS = ("vocab_size", "buckets")
MAY_BE_0 = ("start", "end", "min_n", "max_n", "buckets")  # besides those that are 0 by default
# Fields that fine-tuning sets, which pretraining does not read.
OF_TASKS = (
    *("labels", "null_threshold", "tagger_width", "tagger_dropout", "letters", "stacked"),
    *("loss", "word_ngrams"),
)


def changed(config: C, settings: Sequence[str]) -> C:
    """Return a config with fields replaced.

    Raises:
      ValueError: If the config has no such field, a field is given twice, or a value has another
        type or is out of range.
    """
    every = {field.name: field for field in fields(config)}  # type: ignore[arg-type]
    names = {name: field for name, field in every.items() if name not in OF_TASKS}
    changes: dict[str, Any] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ValueError(
                f"--config {setting}: use NAME=VALUE with one of the names {', '.join(names)}{hint}"
            )
        if name in changes:
            raise ValueError(f"--config {setting}: {name} is given twice: leave out one of them")
        changes[name] = _value(setting, value, names[name].type, getattr(config, name))
        if isinstance(changes[name], int | float):
            allowed = _range(name, changes[name], names[name].default)
            ranges.check_number(f"--config {name}", changes[name], allowed)
    return replace(config, **changes)  # type: ignore[type-var]


def _value(setting: str, text: str, kind: Any, old: object) -> object:
    """Return the value of a field of a type, given its text."""
    options = get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    number = next((option for option in options if option in (int, float, str)), None)
    if number is None:
        raise ValueError(f"--config {setting}: this field cannot be changed: leave it out")
    try:
        value = number(text)
    except ValueError:
        raise ValueError(
            f"--config {setting}: use {'an integer' if number is int else 'a number'} like {old!r}"
        ) from None
    if setting.startswith("activation=") and value not in ACTIVATIONS:
        raise ValueError(f"--config {setting}: use one of {', '.join(ACTIVATIONS)}")
    return value


def _range(name: str, value: float, default: Any) -> Range:
    """Return the range of a field, by its name."""
    if name.endswith("dropout"):
        return BELOW_1
    if name.endswith(OF_LAYERS):
        return LAYERS if default != 0 else NO_LAYERS
    if isinstance(value, float):
        return AT_LEAST_0
    least = 0 if default == 0 or name in MAY_BE_0 else 1
    if name in OF_ROWS:
        return AT_LEAST_1 if least else AT_LEAST_0
    most = max(MOST, default)
    return Range(f"from {least} to {most:,}", lambda x: least <= x <= most)
