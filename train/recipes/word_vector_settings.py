"""The arguments of `zoo pretrain` that only word vectors have."""

from dataclasses import dataclass, fields, replace
from typing import TypeVar

from train import ranges
from train.ranges import Natural, NaturalFloat, Positive
from train.recipes.recipe import Recipe
from train.recipes.word_vectors import WordVectorRecipe

R = TypeVar("R", bound=Recipe)


@dataclass(frozen=True)
class WordVectorSettings:
    """For word vectors: what is counted and predicted."""

    window: Positive | None = None
    """For word vectors: the most words on either side of a word. Default: the recipe's."""
    negatives: Natural | None = None
    """For word2vec and fastText: negative samples per pair; 0: a hierarchical softmax."""
    sample: NaturalFloat | None = None
    """For word2vec and fastText: words of a higher frequency are left out at random."""

    def apply(self, recipe: R, min_count: int | None) -> R:
        """Return the recipe with what was given in place of its own.

        Args:
          recipe: Any recipe.
          min_count: How often a word must occur, or None.

        Raises:
          ValueError: If a setting is too small, or is none of the recipe.
        """
        ranges.check(self)
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        settings["min_count"] = min_count
        given = {name: value for name, value in settings.items() if value is not None}
        for name in given:
            flag = "--" + name.replace("_", "-")
            if not isinstance(recipe, WordVectorRecipe) or not hasattr(recipe, name):
                raise ValueError(f"{flag} is not a setting of {recipe.name}: leave it out")
        return replace(recipe, **given)
