"""Pretraining: from text to a model folder."""

import contextlib
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import chex
import jax
import numpy as np

from train.checkpoint import Checkpoints
from train.data.sources.source import Source
from train.loop import (
    Metrics,
    Progress,
    Signals,
    Stage,
    check_finite,
    check_same_run,
    clear,
    restore,
)
from train.loop import train as train_stage
from train.metrics import language_model
from train.optimization import weight_decay
from train.optimization.schedules import AnyLength
from train.pretraining.run import Run, prepare
from train.recipes.recipe import Recipe
from train.reporting.manifest import write_manifest
from train.reporting.progress import Report, Silence
from train.step import State, add_up
from zoo import registry
from zoo.checkpoints import model_folder
from zoo.checkpoints.lock import locked
from zoo.params import flatten, unflatten

EVALUATED_SHARE = 0.05  # of the tokens trained on between two evaluations


def pretrain(
    recipe: Recipe,
    source: Source,
    out: str | Path,
    *,
    dev: Source | None = None,
    resume: bool = False,
    overwrite: bool = False,
    tokenizer: str | Path | None = None,
    parallelism: Literal["mesh", "pmap"] = "mesh",
    mesh: tuple[int, int, int] = (-1, 1, 1),
    evaluate_tokens: int | None = None,
    verbose: bool = False,
) -> Metrics:
    """Train a recipe on a text, write a model folder, and return the held-out metrics.

    Ctrl-C and SIGTERM save a checkpoint and stop the run; then the result is empty.

    Args:
      recipe: The recipe.
      source: The text.
      out: The folder to write.
      dev: The text to evaluate on. None: the last part of the text.
      resume: Whether to resume the run in `out` from its newest intact step, with the same results
        as an uninterrupted run. If there is no run, a new one starts. The recipe may have more
        steps than the run if its schedule is the same for any number of steps.
      overwrite: Whether a model or a run in `out` may be replaced, when training starts.
      tokenizer: A folder with a tokenizer. None: one is trained on the text. A run that starts from
        the model of a folder uses the tokenizer of that folder.
      parallelism: How devices share the work.
      mesh: Devices along data, fsdp and tensor; -1: all that are left.
      evaluate_tokens: Maximum number of held-out tokens per evaluation, except for the last one,
        which reads all. None: 5 % of the tokens trained on between two evaluations, or all if the
        recipe averages the weights depending on the loss.
      verbose: Whether to report which parameters have weight decay, and the baselines.

    Raises:
      ValueError: If the folder holds another run, if text, tokenizer and model do not fit, or if
        the loss is not finite.
      FileExistsError: If the folder holds a model or a run that must not be replaced.
      BlockingIOError: If another process writes the folder.
    """
    with locked(out):
        run = prepare(
            recipe,
            source,
            out,
            dev=dev,
            resume=resume,
            overwrite=overwrite,
            tokenizer=tokenizer,
            parallelism=parallelism,
            mesh=mesh,
        )
        if overwrite:
            clear(run.out)
        return _train(run, evaluate_tokens, verbose=verbose)


def _train(run: Run, evaluate_tokens: int | None, *, verbose: bool) -> Metrics:
    """Train a run from its newest step on, and return the held-out metrics, or none."""
    recipe = run.recipe  # with what it takes from the text
    checkpoints = Checkpoints(run.out, max(2, recipe.average), recipe.save_every)
    stage = make_stage(run, evaluate_tokens)
    progress, messages = begin_or_resume(run, stage, checkpoints)
    with _report(run, progress.step) as report, Signals() as signals:
        for line in [*_introduction(run), *(_details(run) if verbose else ()), *messages]:
            report.line(line)
        if progress.step == 0:
            report.line(_before(run, *stage.evaluate(progress.state, 0, report)))
        with contextlib.closing(checkpoints):
            progress = train_stage(stage, progress, checkpoints, report, signals)
        if progress.step < recipe.steps:
            report.line(f"stopped and saved at step {progress.step}; continue with --resume")
            return {}
        return _finish(run, progress, checkpoints, report)


def make_stage(run: Run, evaluate_tokens: int | None = None) -> Stage:
    """Return the single stage of pretraining."""
    recipe = run.recipe

    def evaluate_part(state: State, step: int, report: Report | Silence) -> Sequence[Metrics]:
        between = min(recipe.evaluate_every, recipe.steps) * recipe.batch * recipe.length
        # What switches the averaging on is the loss of the whole text.
        share = int(EVALUATED_SHARE * between) if recipe.averaging is None else None
        most = None if step == recipe.steps else evaluate_tokens or share
        return [evaluate(run, state, step, report, most)]

    return Stage(
        out=run.out,
        placement=run.placement,
        batches=run.train_batches,
        last=recipe.steps,
        steps=recipe.steps,
        report_every=recipe.report_every,
        fetch_every=recipe.report_every,
        evaluate_every=recipe.evaluate_every,
        save_every=recipe.save_every,
        identity=run.identity,
        evaluate=evaluate_part,
        after_evaluation=None if recipe.averaging is None else partial(_observe, run),
    )


def _observe(run: Run, state: State, metrics: Sequence[Metrics], report: Report | Silence) -> State:
    """Return the state after its optimizer has observed the held-out loss."""
    averaging, saved = run.recipe.averaging, run.placement.to_saved(state)
    if averaging is None:
        return state
    loss = metrics[0][language_model.reported_loss(run.objective)]
    observed = averaging.observe(saved.opt_state, loss)
    if averaging.is_on(observed) and not averaging.is_on(saved.opt_state):
        report.line("the held-out loss has stopped improving: averaging the weights from here on")
    return run.placement.from_saved(saved._replace(opt_state=observed))


def _model_params(run: Run, state: State) -> chex.ArrayTree:
    """Return the parameters to evaluate and to write."""
    averaging = run.recipe.averaging
    return state.params if averaging is None else averaging.params(state.opt_state, state.params)


def begin_or_resume(run: Run, stage: Stage, checkpoints: Checkpoints) -> tuple[Progress, list[str]]:
    """Return the initial or restored progress of a run, and messages about it."""
    before = checkpoints.meta()
    if before is not None and "embeddings" in before and "embeddings" not in run.identity:
        raise ValueError(
            f"{run.out} belongs to a run that started from word vectors: give its --embeddings "
            "again, which also decide the model and its tokens"
        )
    steps = run.recipe.steps if before is None else before["steps"]
    # All but the number of steps, which may grow, must be as before.
    check_same_run(run.out, before, run.identity | {"steps": steps})
    if steps != run.recipe.steps:
        _check_longer(run, steps)
    restored = restore(checkpoints, lambda step: stage)
    if restored is None:
        _begin_folder(run)
        return Progress(_with_initial_params(run, run.placement.init()), None, 0), []
    progress, messages = restored
    if steps != run.recipe.steps:
        _begin_folder(run)
        messages.append(f"the run of {steps:,} steps now has {run.recipe.steps:,}")
    return progress, [*messages, f"resuming from step {progress.step}"]


def _begin_folder(run: Run) -> None:
    """Write what a run folder has from the start; its model is the newest saved step."""
    recipe = run.recipe
    _write_model(run)
    if jax.process_index() == 0:
        write_manifest(run.out, recipe=recipe.name, **run.identity)


def _write_model(run: Run, params: chex.ArrayTree | None = None) -> None:
    recipe = run.recipe
    cls = recipe.model_class()
    # By default, a folder holds the model that pretraining trains.
    name = None if cls is registry.named(recipe.architecture).Model else cls.__name__
    model_folder.write(run.out, recipe.architecture, recipe.config, params, run.tokenizer, name)


def _check_longer(run: Run, steps: int) -> None:
    """Raise ValueError unless a run of so many steps can be lengthened to those of the recipe."""
    changed = f"{run.out} belongs to another run: steps was {steps}, is {run.recipe.steps}"
    if run.recipe.steps < steps:
        raise ValueError(
            f"{changed}; a run can be lengthened, but not shortened: leave out --steps"
        )
    if not isinstance(run.recipe.schedule, AnyLength):
        raise ValueError(
            f"{changed}; its learning rates depend on the number of steps, so it cannot be "
            f"lengthened: start another run with --init {run.out}"
        )


def evaluate(
    run: Run, state: State, step: int, report: Report | Silence, most_tokens: int | None = None
) -> Metrics:
    """Compute, report and return the held-out metrics at a step.

    Args:
      run: The run.
      state: Its state.
      step: The step.
      report: Where the metrics go.
      most_tokens: How many tokens may be read; always the same part of the text. None: all.
    """

    def evaluate(params, batch, *rest):
        return run.placement.evaluate(params, run.placement.put(batch), *rest)

    carry = run.placement.initial_carry()
    numbers = _part(run, most_tokens, is_stateful=bool(jax.tree.leaves(carry)))
    metrics = add_up(
        run.objective,
        evaluate,
        _model_params(run, state),
        run.held_out_batches,
        carry,
        report.evaluating(numbers),
    )
    metrics = language_model.add_derived(metrics, run.objective, run.tokens_per_byte)
    held_out, recipe = run.amounts[1], run.recipe
    read = min(len(numbers) * recipe.batch * recipe.length, held_out)
    report.evaluation(step, metrics, f"on {read:,} of {held_out:,} {recipe.unit}")
    return metrics


def _part(run: Run, most_tokens: int | None, *, is_stateful: bool) -> Sequence[int]:
    """Return the numbers of the held-out batches to evaluate on, a seeded sample of all.

    A stateful model must read consecutive batches, from the first on.
    """
    count = len(run.held_out_batches)
    tokens = run.recipe.batch * run.recipe.length
    if most_tokens is None or most_tokens >= count * tokens:
        return range(count)
    some = max(1, most_tokens // tokens)
    if is_stateful:
        return range(some)
    return np.sort(np.random.default_rng(0).choice(count, some, replace=False)).tolist()


def _finish(
    run: Run, progress: Progress, checkpoints: Checkpoints, report: Report | Silence
) -> Metrics:
    """Write the model folder, and report and return its held-out metrics."""
    recipe, placement, state = run.recipe, run.placement, progress.state
    metrics = next(iter(progress.metrics), None)
    if recipe.average > 1:
        mean = checkpoints.average(placement.abstract.params, recipe.average)
        state = placement.from_saved(placement.to_saved(state)._replace(params=mean))
        metrics = None
    metrics = metrics or evaluate(run, state, recipe.steps, report)
    params = placement.to_saved(state._replace(params=_model_params(run, state))).params
    check_finite(params, checkpoints)
    _write_model(run, params)
    report.line(f"held out: {_line(metrics)}")
    if "unigram" in run.baselines:
        unigram = {language_model.reported_loss(run.objective): run.baselines["unigram"]}
        unigram = language_model.add_derived(unigram, run.objective, run.tokens_per_byte)
        report.line(f"a unigram model: {_line(unigram)}")
    return metrics


def _with_initial_params(run: Run, state: State) -> State:
    """Return the state with the parameters that the recipe provides."""
    initial = run.recipe.initial_params(flatten(run.placement.abstract.params))
    if not initial:
        return state
    params = flatten(run.placement.to_saved(state).params)
    return run.placement.begin(unflatten({**params, **initial}))


def _report(run: Run, first_step: int) -> Report | Silence:
    if jax.process_index() > 0:
        return Silence()
    recipe = run.recipe
    return Report(
        run.out,
        recipe.steps,
        recipe.batch * recipe.length,
        recipe.flops_per_step(run.placement.abstract.params),
        first_step,
        run.baselines,
        language_model.reported_loss(run.objective),
        run.objective.loss_unit,
        counted=recipe.unit,
    )


def _introduction(run: Run) -> list[str]:
    """Return the opening lines: the model, the data, the number of steps, the devices."""
    recipe, devices = run.recipe, jax.devices()
    count = sum(math.prod(x.shape) for x in jax.tree.leaves(run.placement.abstract.params))
    epochs = recipe.steps * recipe.batch * recipe.length / run.amounts[0]
    shown = f"{epochs:,.0f}" if epochs >= 10 else f"{epochs:.2g}"
    processes = jax.process_count()
    on_each = f" ({recipe.batch // processes} per process)" if processes > 1 else ""
    return [
        f"model    {recipe.name}: {count:,} parameters",
        *_start(run),
        f"data     {run.amounts[0]:,} {recipe.unit} to train on, {run.amounts[1]:,} held out",
        f"steps    {recipe.steps:,} of {recipe.batch}{on_each} x {recipe.length} {recipe.unit}: "
        f"{shown} epochs",
        f"devices  {len(devices)} {devices[0].device_kind}, {recipe.dtype}",
        f"output   {run.out}",
        *run.notes,
    ]


def _start(run: Run) -> list[str]:
    """Return lines on the weights that the run starts from, and on those that are new."""
    initial = run.recipe.initial
    if initial is None:
        return []
    paths = flatten(run.placement.abstract.params).keys() - initial.params.keys()
    lines = [f"init     {initial.folder}"]
    if paths:
        heads = ", ".join(sorted({path.partition("/")[0] for path in paths}))
        lines.append(f"note     {initial.folder} has no {heads}: initialized at random")
    return lines


def _details(run: Run) -> list[str]:
    """Return the details of `--verbose`: weight decay by parameter, and the baseline losses."""
    return [
        *weight_decay.table(run.placement.abstract.params, run.recipe.undecayed),
        *(f"loss of a {name} model: {value:.3f}" for name, value in run.baselines.items()),
    ]


def _before(run: Run, metrics: Metrics) -> str:
    """Return a line that compares the model before training with the baselines of the same loss."""
    name = language_model.reported_loss(run.objective)
    losses = {f"before the first step the held-out {name.replace('_', ' ')} is": metrics[name]}
    losses |= {f"{key}:": value for key, value in run.baselines.items()}
    return "; ".join(f"{key} {value:.3f}" for key, value in losses.items())


def _line(metrics: Metrics) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in metrics.items())
