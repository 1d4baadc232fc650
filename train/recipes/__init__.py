"""All recipes by name, with one file per family; those of count models are in `ngram`."""

import difflib
from collections.abc import Mapping
from typing import Protocol

from train.recipes import (
    albert,
    awd_lstm,
    bert,
    bytenet,
    distilbert,
    electra,
    elmo,
    fasttext,
    fixed_window,
    flair,
    glove,
    gpt,
    gpt2,
    gpt3,
    ngram,
    rnn,
    roberta,
    sequence_autoencoder,
    t5,
    translators,
    ulmfit,
    wavenet,
    word2vec,
    xlnet,
)
from train.recipes.recipe import Recipe, RecipeFactory


class Family(Protocol):
    """A module with the recipes of one family."""

    @property
    def RECIPES(self) -> Mapping[str, RecipeFactory]:
        """The recipes of the family by name."""
        ...


FAMILIES: tuple[Family, ...] = (
    word2vec,
    glove,
    fasttext,
    fixed_window,
    rnn,
    awd_lstm,
    ulmfit,
    elmo,
    flair,
    bytenet,
    translators,
    sequence_autoencoder,
    wavenet,
    gpt,
    gpt2,
    gpt3,
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
    """Return the recipe with the given name, of those that are trained by gradient.

    Raises:
      ValueError: If there is none; the message suggests the most similar name.
    """
    if name not in RECIPES:
        matches = difflib.get_close_matches(name, [*RECIPES, *ngram.RECIPES], n=1, cutoff=0.4)
        hint = f"did you mean {matches[0]!r}?" if matches else "`zoo list` shows them"
        raise ValueError(f"unknown recipe {name!r}; {hint}")
    return RECIPES[name]()
