"""The numbers that a setting may be, in the type of its field, and their check at the border.

A command or a class of settings writes `steps: Positive | None`. `check` compares every number of
a dataclass with its range, and names the flag. Without a range, every finite number that fits is
accepted.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple, get_args

INT32 = 2**31 - 1  # the type of counts and ids on devices


class Range(NamedTuple):
    """A range in the words of a message, and whether a number is in it."""

    words: str
    contains: Callable[[float], bool]


AT_LEAST_0 = Range("at least 0", lambda x: x >= 0)
AT_LEAST_1 = Range("at least 1", lambda x: x >= 1)
MORE_THAN_0 = Range("more than 0", lambda x: x > 0)
SHARE = Range("from 0 to 1", lambda x: 0 <= x <= 1)
BELOW_1 = Range("at least 0 and less than 1", lambda x: 0 <= x < 1)
ANY = Range("a number", lambda x: True)

Positive = Annotated[int, AT_LEAST_1]
Natural = Annotated[int, AT_LEAST_0]
Axis = Annotated[int, Range("at least 1, or -1 for all that remain", lambda x: x >= 1 or x == -1)]
PositiveFloat = Annotated[float, MORE_THAN_0]
NaturalFloat = Annotated[float, AT_LEAST_0]
Probability = Annotated[float, Range("more than 0 and at most 1", lambda x: 0 < x <= 1)]
Share = Annotated[float, SHARE]
Rate = Annotated[float, BELOW_1]
AnyFloat = Annotated[float, ANY]


def check(settings: Any) -> None:
    """Raise ValueError with the first number that is out of its range, by its flag.

    Args:
      settings: A dataclass, whose fields may be dataclasses, numbers and tuples of numbers.
    """
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            check(value)
            continue
        allowed = next(ranges(field.type), ANY)
        for number in value if isinstance(value, tuple) else (value,):
            if type(number) in (int, float):
                check_number("--" + field.name.replace("_", "-"), number, allowed)


def check_number(name: str, number: float, allowed: Range = ANY) -> None:
    """Raise ValueError if a number is out of its range, not finite, or an int of over 32 bits."""
    if not math.isfinite(number):
        words = "a finite number" if allowed is ANY else f"{allowed.words} and finite"
    elif not allowed.contains(number):
        words = allowed.words
    elif isinstance(number, int) and abs(number) > INT32:
        words = f"at most {INT32:,}" if number > 0 else f"at least {-INT32:,}"
    else:
        return
    raise ValueError(f"{name} must be {words}, not {number}")


def ranges(kind: Any) -> Iterator[Range]:
    """Yield the ranges in a type, such as that of `Positive | None`."""
    yield from (note for note in getattr(kind, "__metadata__", ()) if isinstance(note, Range))
    for part in get_args(kind):
        if not isinstance(part, Range):
            yield from ranges(part)
