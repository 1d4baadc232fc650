"""The pretraining loop: from text to a model folder."""

import math
import os
import signal
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from train.checkpoint import Checkpoints
from train.data.sources.source import Source
from train.metrics import language_model
from train.optimization import weight_decay
from train.pretraining.run import Run, prepare
from train.recipes.recipe import Recipe, flops_per_step
from train.reporting.manifest import write_manifest
from train.reporting.progress import Report, Silence
from train.step import State, add_up
from zoo.checkpoints import model_folder
from zoo.params import flatten, unflatten

Metrics = dict[str, float]


class NotFinite(ValueError):
    """Error of a run whose loss or gradient is not finite."""


def pretrain(
    recipe: Recipe,
    source: Source,
    out: str | Path,
    *,
    dev: Source | None = None,
    resume: bool = False,
    tokenizer: str | Path | None = None,
    parallelism: Literal["mesh", "pmap"] = "mesh",
    mesh: tuple[int, int, int] = (-1, 1, 1),
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
        as an uninterrupted run. If there is no run, a new one starts.
      tokenizer: A folder with a tokenizer. None: one is trained on the text.
      parallelism: How devices share the work.
      mesh: Devices along data, fsdp and tensor; -1: all that are left.
      verbose: Whether to report which parameters have weight decay, and the baselines.

    Raises:
      ValueError: If the folder holds another run, if text, tokenizer and model do not fit, or if
        the loss is not finite.
    """
    run = prepare(
        recipe,
        source,
        out,
        dev=dev,
        resume=resume,
        tokenizer=tokenizer,
        parallelism=parallelism,
        mesh=mesh,
    )
    checkpoints = Checkpoints(run.out, max(2, recipe.average), recipe.save_every)
    state, first_step, messages = initial_state(run, checkpoints)
    with _report(run, first_step) as report, _Signals() as signals:
        for line in [*_introduction(run), *(_details(run) if verbose else ()), *messages]:
            report.line(line)
        if first_step == 0:
            report.line(_before(run, evaluate(run, state, 0, report)))
        try:
            state, step, metrics = train(run, state, first_step, checkpoints, report, signals)
        finally:
            checkpoints.close()
        if step < recipe.steps:
            report.line(f"stopped and saved at step {step}; continue with --resume")
            return {}
        return _finish(run, state, metrics, checkpoints, report)


def initial_state(run: Run, checkpoints: Checkpoints) -> tuple[State, int, list[str]]:
    """Return the initial or restored state, its step, and messages about it."""
    _check_same_run(run.out, checkpoints.meta(), run.identity)
    abstract = run.placement.abstract
    restored = checkpoints.restore(abstract.params, abstract._replace(params=()))
    if restored is None:
        recipe = run.recipe
        model_folder.write(run.out, recipe.architecture, recipe.config, tokenizer=run.tokenizer)
        if jax.process_index() == 0:
            write_manifest(run.out, recipe=recipe.name, **run.identity)
        state = _with_initial_params(run, run.placement.init())
        return state, 0, []
    state = run.placement.from_saved(restored.state._replace(params=restored.params))
    return state, restored.step, [*restored.skipped, f"resuming from step {restored.step}"]


def train(
    run: Run,
    state: State,
    step: int,
    checkpoints: Checkpoints,
    report: Report | Silence,
    signals: "_Signals",
) -> tuple[State, int, Metrics | None]:
    """Train to the end or to a signal; return state, step, and held-out metrics if evaluated."""
    recipe, metrics, pending = run.recipe, None, []
    for batch in run.train_batches.prefetched(step):
        if step == recipe.steps or signals.stop:
            break
        state, latest = run.placement.step(state, run.placement.put(batch))
        step, metrics = step + 1, None
        pending.append(latest)
        is_last = step == recipe.steps
        is_evaluated = step % recipe.evaluate_every == 0 or is_last
        is_saved = step % recipe.save_every == 0 or is_last
        # Metrics are fetched only here, so the device does not wait for the host at every step.
        if step % recipe.report_every == 0 or is_evaluated or is_saved:
            values = _fetch(run, pending, step, checkpoints)
            pending = []
            checkpoints.check()
            if step % recipe.report_every == 0:
                report.step(step, values)
        if is_evaluated:
            metrics = evaluate(run, state, step, report)
        if is_saved:
            _save(run, state, step, checkpoints, metrics)
    if signals.stop and step < recipe.steps:
        _fetch(run, pending, step, checkpoints)
        _save(run, state, step, checkpoints, metrics)
    return state, step, metrics


def evaluate(run: Run, state: State, step: int, report: Report | Silence) -> Metrics:
    """Compute, report and return the held-out metrics at a step."""

    def evaluate(params, batch, *rest):
        return run.placement.evaluate(params, run.placement.put(batch), *rest)

    carry = run.placement.initial_carry()
    metrics = add_up(run.objective, evaluate, state.params, run.held_out_batches, carry)
    metrics = language_model.add_derived(metrics, run.objective, run.tokens_per_byte)
    report.evaluation(step, metrics)
    return metrics


def _finish(
    run: Run,
    state: State,
    metrics: Metrics | None,
    checkpoints: Checkpoints,
    report: Report | Silence,
) -> Metrics:
    """Write the model folder, and report and return its held-out metrics."""
    recipe, placement = run.recipe, run.placement
    if recipe.average > 1:
        mean = checkpoints.average(placement.abstract.params, recipe.average)
        state = placement.from_saved(placement.to_saved(state)._replace(params=mean))
        metrics = None
    metrics = metrics or evaluate(run, state, recipe.steps, report)
    params = placement.to_saved(state).params
    model_folder.write(run.out, recipe.architecture, recipe.config, params, run.tokenizer)
    unigram = {language_model.reported_loss(run.objective): run.baselines["unigram"]}
    unigram = language_model.add_derived(unigram, run.objective, run.tokens_per_byte)
    report.line(f"held out: {_line(metrics)}")
    report.line(f"a unigram model: {_line(unigram)}")
    return metrics


def _with_initial_params(run: Run, state: State) -> State:
    """Return the state with the parameters that the recipe provides."""
    initial = run.recipe.initial_params(flatten(run.placement.abstract.params))
    if not initial:
        return state
    whole = run.placement.to_saved(state)
    put = lambda path, leaf: (
        jax.device_put(initial[path], leaf.sharding, may_alias=False) if path in initial else leaf
    )
    params = unflatten({path: put(path, leaf) for path, leaf in flatten(whole.params).items()})
    return run.placement.from_saved(whole._replace(params=params))


def _save(
    run: Run, state: State, step: int, checkpoints: Checkpoints, metrics: Metrics | None
) -> None:
    whole = run.placement.to_saved(state)
    checkpoints.save(step, whole.params, whole._replace(params=()), run.identity, metrics or {})


def _fetch(run: Run, pending: list, step: int, checkpoints: Checkpoints) -> Metrics:
    """Return the metrics of the last step; raise NotFinite at the first step that is not finite."""
    latest: dict[str, np.ndarray] = {}
    for back, latest in enumerate(jax.device_get(pending)):
        if not (math.isfinite(latest["loss"]) and math.isfinite(latest["gradient_norm"])):
            number = step - len(pending) + back
            file = run.out / f"not_finite_batch_{number}.npz"
            batch: dict[str, Any] = run.train_batches(number)
            np.savez(file, **batch)
            checkpoints.close()
            raise NotFinite(
                f"step {number + 1} has loss {latest['loss']} and gradient norm "
                f"{latest['gradient_norm']}: the run stopped, and the last saved step is "
                f"{(checkpoints.latest() or [0])[-1]}; the batch is in {file.name}; "
                "try a smaller learning rate, a longer warm-up or float32"
            )
    return {name: float(value) for name, value in latest.items()}


def _report(run: Run, first_step: int) -> Report | Silence:
    if jax.process_index() > 0:
        return Silence()
    recipe = run.recipe
    return Report(
        run.out,
        recipe.steps,
        recipe.batch * recipe.length,
        flops_per_step(run.placement.abstract.params, recipe),
        first_step,
        run.baselines,
        language_model.reported_loss(run.objective),
    )


def _introduction(run: Run) -> list[str]:
    """Return the opening lines: the model, the data, the number of steps, the devices."""
    recipe, devices = run.recipe, jax.devices()
    count = sum(math.prod(x.shape) for x in jax.tree.leaves(run.placement.abstract.params))
    epochs = recipe.steps * recipe.batch * recipe.length / run.num_tokens[0]
    processes = jax.process_count()
    on_each = f" ({recipe.batch // processes} per process)" if processes > 1 else ""
    return [
        f"model    {recipe.name}: {count:,} parameters",
        f"data     {run.num_tokens[0]:,} tokens to train on, {run.num_tokens[1]:,} held out",
        f"steps    {recipe.steps:,} of {recipe.batch}{on_each} x {recipe.length} tokens: "
        f"{epochs:.2g} epochs",
        f"devices  {len(devices)} {devices[0].device_kind}, {recipe.dtype}",
        f"output   {run.out}",
        *run.notes,
    ]


def _details(run: Run) -> list[str]:
    """Return the details of `--verbose`: weight decay by parameter, and the baseline losses."""
    return [
        *weight_decay.table(run.placement.abstract.params, run.recipe.undecayed),
        *(f"loss of a {name} model: {value:.3f}" for name, value in run.baselines.items()),
    ]


def _before(run: Run, metrics: Metrics) -> str:
    """Return a line that compares the untrained model with the baselines of the same loss."""
    name = language_model.reported_loss(run.objective)
    baselines = "; ".join(f"{key}: {value:.3f}" for key, value in run.baselines.items())
    return (
        f"before the first step the held-out {name.replace('_', ' ')} is {metrics[name]:.3f}; "
        f"{baselines}"
    )


def _check_same_run(out: Path, before: dict[str, Any] | None, now: dict[str, Any]) -> None:
    if before is None:
        return
    differences = [
        f"{name} was {before.get(name)!r}, is {now.get(name)!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if differences:
        raise ValueError(f"{out} belongs to another run: " + "; ".join(differences))


def _line(metrics: Metrics) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in metrics.items())


class _Signals:
    """Save and stop on Ctrl-C, SIGTERM and SIGUSR1; a second Ctrl-C stops at once."""

    def __enter__(self):
        self.stop = False
        handled = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
        self._before = {number: signal.signal(number, self._ask) for number in handled}
        return self

    def __exit__(self, *error):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number, frame):
        if not self.stop:
            # Not `print`: the signal may have interrupted one.
            os.write(2, b"\nsaving, then stopping; press Ctrl-C again to stop without saving\n")
        self.stop = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
