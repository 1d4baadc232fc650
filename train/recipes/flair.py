"""Flair: language models of both directions on characters.

Akbik et al. 2018, section 3.1, and the released code: stochastic gradient descent with a learning
rate of 20, gradients clipped at 0.25, rows of 250 characters, 100 of them; about a week for the 1B
Word Benchmark, which has four billion characters. Each direction is trained alone there. Our loss
is the mean of both, which halves their gradients, and the norm is that of both together: so the
learning rate is twice as large, and the clipping threshold divided by the square root of 2.

Departure: the learning rate falls to a quarter at fixed steps, five times in the second half of the
run, where the released code waits until the loss of held-out text has not improved ten times.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any, Self

from train.data import vocabulary
from train.data.batches.both_directions import WindowsOfBothDirections
from train.data.corpus.corpus import Corpus
from train.objectives.both_directions import BothDirections
from train.optimization import optimizers, schedules
from train.recipes.recipe import Recipe, RecipeFactory
from zoo.models import flair
from zoo.tokenizers import AnyTokenizer, Tokenizer, end_of_document, sides, units
from zoo.tokenizers.units import END, UNKNOWN

CHARACTERS = 4_000_000_000
BATCH, LENGTH = 100, 250


class FlairRecipe(Recipe):
    """Recipes of both directions on characters; every document starts with `</s>`."""

    def train_tokenizer(self, texts: Iterable[str]) -> Tokenizer:
        """Return a tokenizer of characters, whose vocabulary begins with those that Flair names."""
        most = self.config.vocab_size
        ids = vocabulary.tokenizer(texts, "character", vocab_size=most).get_vocab()
        first = [UNKNOWN, END, "\n", " "]
        rest = [letter for letter in sorted(ids, key=ids.__getitem__) if letter not in first]
        return units.characters([*first, *rest][:most])

    def for_text(self, tokenizer: AnyTokenizer, corpus: Corpus) -> Self:
        config: Any = replace(self.config, vocab_size=tokenizer.get_vocab_size())
        return Recipe.for_text(replace(self, config=config), tokenizer, corpus)

    def objective(self, tokenizer: AnyTokenizer) -> BothDirections:
        flair.check_tokenizer(sides(tokenizer).source)
        return BothDirections(end_of_document(tokenizer, END), self.samples)

    def batches(self, tokenizer: AnyTokenizer) -> WindowsOfBothDirections:
        end = end_of_document(tokenizer, END)
        return WindowsOfBothDirections(length=self.length, end_of_document=end)


def tiny() -> FlairRecipe:
    """Return `zoo pretrain flair-tiny`: 256 cells for each direction, three epochs.

    A step takes 0.3 s on one core, so WikiText-2, which has 10.8 million characters, takes 55
    minutes.
    """
    return _recipe(
        "flair-tiny",
        schedule=lambda steps: schedules.cosine(3e-3, min(200, steps // 10), steps, 1e-4),
        optimizer=partial(optimizers.adamw, decay=0.01, clip=1.0),
        epochs=3,
        steps=10_120,  # those of WikiText-2
        batch=32,
        length=100,
        evaluate_every=800,
        save_every=800,
    )


def published(name: str) -> FlairRecipe:
    """Return a published size."""
    falling = lambda steps: schedules.staircase(2 * 20.0, steps // 2, max(steps // 10, 1), 4.0)
    return _recipe(
        name,
        schedule=falling,
        optimizer=partial(optimizers.sgd, clip=0.25 / 2**0.5),
        steps=CHARACTERS // (BATCH * LENGTH),
        batch=BATCH,
        length=LENGTH,
    )


def _recipe(name: str, **fields) -> FlairRecipe:
    return FlairRecipe(
        name=name,
        architecture="flair",
        config=flair.SIZES[name],
        end_of_document=END,
        undecayed=(r"bias$",),
        **fields,
    )


RECIPES: dict[str, RecipeFactory] = {
    "flair-tiny": tiny,
    "flair-1024": partial(published, "flair-1024"),
    "flair-2048": partial(published, "flair-2048"),
}
