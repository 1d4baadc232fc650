"""The arguments of `zoo pretrain` that only count models have."""

from dataclasses import dataclass, fields, replace
from typing import Annotated, Literal

import tyro

from train.ranges import Natural, Positive
from train.recipes.ngram import NGramRecipe


@dataclass(frozen=True)
class CountSettings:
    """For n-gram models: what is counted, and how probabilities are estimated."""

    order: Positive | None = None
    """For n-grams: the length of the longest ones. Default: 5."""
    units: Literal["word", "character"] | None = None
    """For n-grams: what a token is. Default: word; with --tokenizer, its tokens."""
    min_count: Positive | None = None
    """For n-grams and word vectors: how often a word must occur. Default: 1, or the recipe's."""
    estimator: str | None = None
    """For n-grams: modified-kneser-ney (the default), kneser-ney, absolute-discounting,
    jelinek-mercer, katz, add-k or stupid-back-off; some with a value, such as add-k=0.1."""
    prune: Annotated[tuple[Natural, ...], tyro.conf.arg(metavar="[COUNT ...]")] = ()
    """For n-grams: up to which count they are dropped, for each order, such as 0 0 1."""
    show: Literal["counts"] | None = None
    """For n-grams: print how many there are of each order, and how many were never seen."""

    def given(self) -> list[str]:
        """Return the flags that were given, of those for n-gram models alone."""
        only = [field.name for field in fields(self) if field.name != "min_count"]
        names = [name for name in only if getattr(self, name)]
        return ["--" + name.replace("_", "-") for name in names]

    def apply(
        self, recipe: NGramRecipe, tokenizer: object | None, vocab_size: int | None
    ) -> NGramRecipe:
        """Return the recipe with what was given in place of its own.

        Raises:
          ValueError: If a vocabulary is limited that a tokenizer brings with it.
        """
        fixed = {"--units": self.units, "--min-count": self.min_count, "--vocab-size": vocab_size}
        wrong = [flag for flag, value in fixed.items() if value is not None]
        if tokenizer and wrong:
            raise ValueError(f"--tokenizer and {wrong[0]} cannot be combined: give one of them")
        names = ("order", "units", "min_count", "estimator")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        recipe = replace(recipe, prune=self.prune, vocab_size=vocab_size, **given)
        return replace(recipe, units="token") if tokenizer else recipe
