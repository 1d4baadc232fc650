"""`zoo list`."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import tyro


@dataclass(frozen=True)
class List:
    """List the recipes: model size, training steps, batch size."""

    example: ClassVar[str] = "zoo list --architecture gpt2"

    architecture: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """List the recipes of this architecture only. Default: all."""

    def run(self) -> None:
        """Print a table, architecture by architecture, with the tiny recipes first."""
        from train.recipes import RECIPES, ngram, recipe
        from zoo import registry
        from zoo.params import num_parameters

        recipes = [recipe(name) for name in RECIPES]
        names = list(dict.fromkeys(entry.architecture for entry in recipes))
        if self.architecture is not None:
            registry.named(self.architecture)
            if self.architecture not in [*names, *ngram.RECIPES]:
                raise ValueError(f"no recipe trains {self.architecture}")
            names = [name for name in names if name == self.architecture]
        width = max(len(entry.name) for entry in recipes) + 2
        print(f"{'recipe':{width}}  {'parameters':>14}  {'steps':>10}  batch x length")
        for name in ngram.RECIPES:
            if self.architecture in (None, name):
                print(f"{name}\n{'  ' + name:{width}}  {'of the text':>14}  {'counted':>10}")
        for name in names:
            print(name)
            model = registry.named(name).Model
            members = [entry for entry in recipes if entry.architecture == name]
            for entry in sorted(members, key=lambda entry: "-tiny" not in entry.name):
                count = num_parameters(model, entry.config)
                steps = f"{entry.epochs:g} epochs" if entry.epochs else f"{entry.steps:,}"
                print(
                    f"{'  ' + entry.name:{width}}  {count:>14,}  {steps:>10}  "
                    f"{entry.batch:>5} x {entry.length}",
                    flush=True,
                )
