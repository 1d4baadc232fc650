"""Every recipe by its name; one file a family."""

import difflib
from collections.abc import Mapping
from typing import Protocol

from train.recipes import (
    albert,
    bert,
    distilbert,
    electra,
    gpt2,
    rnn,
    roberta,
    t5,
    translators,
    xlnet,
)
from train.recipes.recipe import Recipe, RecipeFactory


class Family(Protocol):
    """A module of recipes."""

    @property
    def RECIPES(self) -> Mapping[str, RecipeFactory]:
        """Its recipes by name."""
        ...


FAMILIES: tuple[Family, ...] = (
    rnn,
    translators,
    gpt2,
    bert,
    xlnet,
    roberta,
    albert,
    electra,
    distilbert,
    t5,
)
RECIPES = {name: make for family in FAMILIES for name, make in family.RECIPES.items()}


def recipe(name: str) -> Recipe:
    """The recipe of that name; ValueError with the nearest one where there is none."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else "`zoo list` shows them"
        raise ValueError(f"unknown recipe {name!r}; {hint}")
    return RECIPES[name]()
