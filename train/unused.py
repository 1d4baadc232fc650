"""Options that were given although they have no effect, which is an error."""

import dataclasses
from collections.abc import Iterable
from typing import Any


def given(settings: Any) -> list[str]:
    """Return the fields of a dataclass that were given: those with other values than by default."""
    return [
        field.name
        for field in dataclasses.fields(settings)
        if field.default is not dataclasses.MISSING
        and getattr(settings, field.name) != field.default
    ]


def refuse(settings: Any, names: Iterable[str], why: str) -> None:
    """Raise ValueError with the first of some fields that was given, by its flag, and why."""
    names = set(names)
    for name in given(settings):
        if name in names:
            raise ValueError(f"--{name.replace('_', '-')} {why}: leave it out")


def refuse_others(settings: Any, used: Iterable[str], why: str) -> None:
    """Raise ValueError with the first field that was given and is not used."""
    refuse(settings, {field.name for field in dataclasses.fields(settings)} - {*used}, why)
