"""What a step of an entrant costs: seconds measured in a trial, and FLOP counted exactly."""

import statistics
import time
from pathlib import Path
from typing import NamedTuple

import jax

from train.data.sources.source import Source
from train.planning.programs import matrix_flops
from train.planning.run_shapes import RunShapes
from train.pretraining.run import Run, make_training, prepare
from train.recipes.recipe import Recipe

LEAST_STEPS = 3  # of a trial, after the first, which is compiled
TRIAL_SHARE, LEAST_TRIAL = 0.02, 0.5  # of the budget; seconds


class Cost(NamedTuple):
    """What an entrant costs.

    Attributes:
      parameters: The size of the model.
      tokens: How many the text has to train on.
      step_flop: FLOP of a step: of all products of matrices, forward and backward.
      step_seconds: Seconds of a step.
    """

    parameters: int
    tokens: int
    step_flop: float
    step_seconds: float


def measure(
    recipe: Recipe,
    source: Source,
    dev: Source | None,
    tokenizer: Path,
    out: Path,
    seconds: float,
) -> Cost:
    """Return what a recipe costs on a text, given its budget in seconds; nothing is written."""
    run = prepare(recipe, source, out, dev=dev, resume=True, tokenizer=tokenizer)
    parameters = sum(x.size for x in jax.tree.leaves(run.placement.abstract.params))
    trial = max(TRIAL_SHARE * seconds, LEAST_TRIAL)
    return Cost(parameters, run.amounts[0], step_flop(run), step_seconds(run, trial))


def step_flop(run: Run) -> float:
    """Return the FLOP of all products of matrices in a step, two per multiply-add."""
    shapes = RunShapes.of(make_training(run.recipe, run.objective), run.train_batches(0))
    return matrix_flops(jax.make_jaxpr(shapes.step())(shapes.state(), shapes.batch()).jaxpr)


def step_seconds(run: Run, trial: float) -> float:
    """Return the median of the seconds of a step, over a trial of so many seconds."""
    state, took = run.placement.init(), list[float]()
    while len(took) <= LEAST_STEPS or sum(took[1:]) < trial:
        began = time.perf_counter()
        batch = run.placement.put(run.train_batches(len(took)))
        state, metrics = run.placement.step(state, batch)
        jax.block_until_ready(metrics)
        took.append(time.perf_counter() - began)
    return statistics.median(took[1:])
