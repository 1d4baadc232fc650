"""`zoo show`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from train import unused
from train.ranges import Natural, Positive

if TYPE_CHECKING:
    from train.recipes.ngram import NGramRecipe
    from train.recipes.recipe import Recipe
    from train.reporting.examples import Schedule

BARS, POINTS = 60, 240  # of a schedule in a terminal, and in a picture


@dataclass(frozen=True)
class Show:
    """Show an example of a recipe before and after corruption, and its model."""

    example: ClassVar[str] = "zoo show bert-tiny --picture bert.png"

    recipe: Annotated[str, tyro.conf.Positional]
    """The recipe. `zoo list` shows all recipes."""
    length: Positive = 32
    """Tokens of the example, which is from the built-in text; a pair has the length it has."""
    seed: Natural = 0
    """Chooses the example and what is masked."""
    picture: Path | None = None
    """Draw the example, its attention mask and the schedule to this file, such as show.png."""
    overwrite: bool = False
    """Replace that picture if it exists."""

    def run(self) -> None:
        """Print the example, the table of parameters and the schedule."""
        from train.pretraining import example
        from train.recipes import ngram, recipe
        from train.reporting import examples, pictures
        from zoo.checkpoints import existing

        if self.picture:
            pictures.check_name(self.picture)
            existing.check_file(self.picture, overwrite=self.overwrite)
        else:
            unused.refuse(self, ["overwrite"], "is for --picture")
        if self.recipe in ngram.RECIPES:
            unused.refuse(self, ["seed"], "has no effect on an n-gram model")
            counted = ngram.RECIPES[self.recipe]()
            shown, schedule = example.of_counts(counted, self.length), None
            examples.print_example(shown)
            print("\n".join(_counted(counted)))
        else:
            chosen = recipe(self.recipe)
            shown = example.example(chosen, self.length, self.seed)
            examples.print_example(shown)
            print("\n".join(_lines(chosen)))
            schedule = _schedule(chosen, POINTS)
        if self.picture:
            examples.draw(shown, schedule, self.picture, f"{self.recipe}: one example")
            print(f"picture: {self.picture}")


def _counted(recipe: "NGramRecipe") -> list[str]:
    return [
        "",
        f"model: tables of all n-grams of up to {recipe.order} {recipe.units}s with their "
        "probabilities, as large as the text makes them",
        "schedule: none, the text is counted once",
    ]


def _lines(recipe: "Recipe") -> list[str]:
    """Return the table of parameters and the schedule."""
    from train.reporting import examples, model_table

    model = recipe.model_class()
    schedule = _schedule(recipe, BARS)
    amount = f"{recipe.epochs:g} epochs" if recipe.epochs else f"{recipe.steps:,} steps"
    return [
        "",
        f"model: {model.__name__}",
        *model_table.lines(model_table.rows(model, recipe.config)),
        "",
        f"schedule: {amount} of {recipe.batch} x {recipe.length} {recipe.unit}, learning rate up "
        f"to {schedule.values.max():.2g}",
        f"  {examples.bars(schedule)}",
    ]


def _schedule(recipe: "Recipe", count: int) -> "Schedule":
    """Return the learning rate at evenly spaced steps of a run."""
    import numpy as np

    from train.reporting.examples import Schedule

    steps = recipe.steps if recipe.epochs is None else 10_000  # as many as the text has
    at = np.linspace(0, max(steps - 1, 1), count).round()
    schedule = recipe.schedule(steps)
    values = np.array([float(schedule(int(step))) for step in at])
    if recipe.epochs is None:
        return Schedule("step", at, values)
    return Schedule("share of the run", at / at[-1], values)
