"""`zoo plan`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import tyro

from train import unused
from train.ranges import Axis, Positive, PositiveFloat

if TYPE_CHECKING:
    from train.planning.plan import Plan as RunPlan
    from train.recipes.recipe import Recipe

GIB = 2**30


@dataclass(frozen=True)
class Plan:
    """Show what a run needs before it starts: memory, time, communication, cost."""

    example: ClassVar[str] = "zoo plan gpt2 --on v5e:2x4"

    recipe: Annotated[str | None, tyro.conf.Positional] = None
    """The recipe. `zoo list` shows all recipes."""
    on: Annotated[tuple[str, ...], tyro.conf.arg(metavar="CHIP:SHAPE ...")] = ("v5e:2x4",)
    """The machines: v4, v5e, v5p or v6e with a topology, a100, h100 or h200 with a number of chips,
    or cpu; such as v5p:4x4x4 or h100:8."""
    all: bool = False
    """A table of all published sizes, instead of one recipe."""
    mesh: Annotated[tuple[Axis, Axis, Axis], tyro.conf.arg(metavar="DATA FSDP TENSOR")] = (-1, 1, 1)
    """Number of devices along each axis of the mesh; -1: all that remain."""
    batch: Positive | None = None
    """Sequences per step, over all devices. Default: the recipe's."""
    length: Positive | None = None
    """Tokens per sequence. Default: the recipe's."""
    steps: Positive | None = None
    """Number of training steps. Default: the recipe's."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Type to compute in. Default: the recipe's."""
    accumulate: Positive | None = None
    """Micro-batches per step. Default: the recipe's."""
    remat: Literal["none", "dots", "full"] | None = None
    """What the backward pass computes again. Default: the recipe's."""
    price: PositiveFloat | None = None
    """The price of one chip for one hour, to show the cost of the whole recipe."""
    compile: bool = False
    """For TPUs: ask their compiler, which runs on any machine. Needs the extra tpu, and minutes."""
    picture: Path | None = None
    """A file to draw memory and time to, such as plan.png."""

    def run(self) -> None:
        """Print the plan, and the first setting that fits if this one does not."""
        from train.planning import compiled
        from train.planning.machines import machine
        from train.planning.plan import Planner
        from train.recipes import ngram, recipe
        from train.recipes.recipe import with_fields

        machines = [machine(name) for name in self.on]
        if self.compile:
            for one in machines:
                compiled.check(one)
        if self.all:
            unused.refuse_others(self, ("on", "all", "mesh"), "has no effect with --all")
            return self._table(machines)
        if self.recipe is None:
            raise ValueError("zoo plan needs a recipe, or --all: `zoo list` shows the recipes")
        if self.recipe in ngram.RECIPES:
            raise ValueError("zoo plan is for networks: n-grams are counted, on a CPU")
        names = ("batch", "length", "steps", "dtype", "accumulate", "remat")
        chosen = with_fields(recipe(self.recipe), **{name: getattr(self, name) for name in names})
        plans, planner = [], Planner(chosen)
        for one in machines:
            made = planner.plan(one, self.mesh)
            made = compiled.compiled(made) if self.compile else made
            plans.append(made)
            print("\n".join(_lines(made, self.price)))
            if not made.fits:
                print(_instead(planner.first_that_fits(one, self.mesh)))
        if self.picture is not None:
            from train.planning import picture

            picture.draw(plans, self.picture)
            print(f"picture   {self.picture}")

    def _table(self, machines) -> None:
        """Print a row per published size, with the first setting that fits each machine."""
        from train.planning.plan import Planner

        columns = ("size", "parameters", *(one.name for one in machines))
        print(f"| {' | '.join(columns)} |\n|---|--:|{'---|' * len(machines)}", flush=True)
        for chosen in _published():
            planner = Planner(chosen)
            cells = [_cell(chosen, planner.first_that_fits(one, self.mesh)) for one in machines]
            row = chosen.name, f"{planner.num_parameters:,}", *cells
            print(f"| {' | '.join(row)} |", flush=True)


def _published() -> "Iterator[Recipe]":
    """Yield the recipe of every published size of a network."""
    from train.recipes import RECIPES, recipe
    from train.recipes.word_vectors import WordVectorRecipe
    from zoo import registry

    for name in RECIPES:
        chosen = recipe(name)
        sizes = registry.named(chosen.architecture).SIZES
        is_published = name in sizes and not name.endswith(("-tiny", "-shallow"))
        if is_published and not isinstance(chosen, WordVectorRecipe):
            yield chosen


def _lines(plan: "RunPlan", price: PositiveFloat | None) -> list[str]:
    recipe, memory = plan.recipe, plan.memory
    gib = lambda size: f"{size / GIB:,.2f} GiB"
    estimate = "" if plan.source == "compiler" else " (an estimate)"
    data, fsdp, tensor = plan.mesh
    steps = f"{recipe.steps:,}" if recipe.epochs is None else f"{recipe.epochs:g} epochs"
    duration = "" if plan.days is None else f", {_duration(plan.days)} for all steps"
    lines = [
        f"model     {recipe.name}: {plan.num_parameters:,} parameters",
        f"machine   {plan.machine.name}: {plan.machine.devices} devices, mesh {data} x {fsdp} x "
        f"{tensor} (data, fsdp, tensor)",
        f"steps     {steps} of {recipe.batch} x {recipe.length} {recipe.unit}, "
        f"{recipe.accumulate} micro-batches, {recipe.dtype}, remat {recipe.remat}",
        f"memory    parameters {gib(memory.parameters)}, optimizer {gib(memory.optimizer)}, "
        f"gradients {gib(memory.gradients)}, activations {gib(memory.activations)}{estimate}",
        f"          {gib(memory.total)} of {gib(plan.machine.chip.memory)} per device: "
        f"{'fits' if plan.fits else 'DOES NOT FIT'}",
        f"work      {plan.model_flops:.4g} FLOP and {'' if estimate == '' else 'at least '}"
        f"{gib(plan.moved)} moved per step and device",
    ]
    sent = ", ".join(f"{axis} {gib(size)}" for axis, size in plan.communication.items() if size)
    lines.append(f"network   {sent or 'nothing'} sent per step and device")
    if plan.compute_seconds is None:
        return [*lines, f"time      unknown: {plan.machine.name} has no specified speed"]
    milliseconds = lambda seconds: f"{seconds * 1e3:,.1f} ms"
    lines += [
        f"time      compute {milliseconds(plan.compute_seconds)}, memory "
        f"{milliseconds(plan.memory_seconds)}, network {milliseconds(plan.link_seconds)}: at best "
        f"{plan.share_of_peak:.0%} of peak",
        f"          at best {plan.tokens_per_second:,.0f} {recipe.unit} per second{duration}",
    ]
    if price is not None and plan.days is not None:
        lines.append(f"cost      {plan.cost(price):,.0f} for all steps, at {price:g} per chip-hour")
    return lines


def _instead(plan: "RunPlan | None") -> str:
    """Return the line on the first setting that fits."""
    if plan is None:
        return "nothing fits: use more chips, or a smaller --batch"
    mesh = " ".join(map(str, plan.mesh))
    remat = "" if plan.recipe.remat == "none" else f" --remat {plan.recipe.remat}"
    return (
        f"fits with --mesh {mesh} --accumulate {plan.recipe.accumulate}{remat}: "
        f"{plan.memory.total / GIB:,.2f} GiB per device"
    )


def _cell(recipe: "Recipe", plan: "RunPlan | None") -> str:
    """Return mesh, micro-batches and remat, memory, the best share of peak, and the time."""
    if plan is None:
        return f"nothing fits a batch of {recipe.batch}"
    remat = "" if plan.recipe.remat == "none" else f", {plan.recipe.remat}"
    setting = f"{' x '.join(map(str, plan.mesh))}, {plan.recipe.accumulate}{remat}"
    share = "" if plan.share_of_peak is None else f", {plan.share_of_peak:.2f}"
    duration = "" if plan.days is None else f", {_duration(plan.days)}"
    return f"{setting}: {plan.memory.total / GIB:,.1f} GiB{share}{duration}"


def _duration(days: float) -> str:
    return f"{days:,.1f} days" if days >= 1 else f"{24 * days:,.1f} hours"
