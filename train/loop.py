"""The training loop: steps, reports, evaluations and checkpoints, until the end or a signal.

A run is a sequence of stages. Pretraining is one stage; fine-tuning with gradual unfreezing is one
for each set of trained parameters. The loop is independent of objectives and tasks: a stage
evaluates its own state.
"""

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from train.checkpoint import Checkpoints
from train.devices.placement import Batch, StepPlacement
from train.reporting.progress import Report, Silence
from train.step import State
from zoo.checkpoints import arrays, existing
from zoo.params import flatten

Metrics = dict[str, float]


class NotFinite(ValueError):
    """Error of a run whose loss, gradient or weights are not finite."""


class TrainBatches(Protocol):
    """Endless batches as a pure function of the step."""

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step."""
        ...

    def prefetched(self, step: int) -> Iterator[Batch]:
        """Yield the batches from a step on."""
        ...


AfterEvaluation = Callable[[State, Sequence[Metrics], Report | Silence], State]


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """A part of a run with one set of trained parameters and one optimizer.

    Attributes:
      out: The folder of the run.
      placement: The step on the devices.
      batches: What is trained on.
      first: The step at which the stage begins.
      last: The step at which it ends.
      steps: The step at which the run ends.
      report_every: Steps between reports.
      fetch_every: Steps after which metrics are fetched; until then the device need not wait.
      evaluate_every: Steps between evaluations; the last step of the run is evaluated too.
      save_every: Steps between checkpoints; the last step of the stage is saved too.
      identity: What determines the results of the run; it resumes only if this agrees.
      evaluate: Reports and returns the metrics of a state at a step: one dict per parallel run.
      after_evaluation: Returns the state to continue from, for an optimizer whose state depends on
        the metrics. None: the evaluated one. It is called only at multiples of `evaluate_every`, so
        that a longer run begins with the same steps.
      quality: What the best state has most of, computed from its metrics; None: the last state is
        the result, and no best one is kept.
      patience: Evaluations without a better state after which the run ends; None: never.
      frozen: Parameters by path that are not trained, for checkpoints, which hold all of them.
    """

    out: Path
    placement: StepPlacement
    batches: TrainBatches
    first: int = 0
    last: int
    steps: int
    report_every: int
    fetch_every: int
    evaluate_every: int
    save_every: int
    identity: dict[str, Any]
    evaluate: Callable[[State, int, Report | Silence], Sequence[Metrics]]
    after_evaluation: AfterEvaluation | None = None
    quality: Callable[[Metrics], float] | None = None
    patience: int | None = None
    frozen: Mapping[str, jax.Array] = field(default_factory=dict)


class Best(NamedTuple):
    """The best parameters of each parallel run so far, the later ones of equals.

    Attributes:
      params: The parameters.
      quality: Their quality.
      step: The step at which the quality last improved.
    """

    params: chex.ArrayTree
    quality: jax.Array
    step: jax.Array


class Progress(NamedTuple):
    """Where a run is: its state, the best so far if it is kept, the step, and metrics if known."""

    state: State
    best: Best | None
    step: int
    metrics: Sequence[Metrics] = ()


def train(
    stage: Stage,
    progress: Progress,
    checkpoints: Checkpoints,
    report: Report | Silence,
    signals: "Signals",
) -> Progress:
    """Train to the end of a stage, to a signal, or until patience is exhausted."""
    state, best, step, _ = progress
    metrics: Sequence[Metrics] = ()
    pending: list[dict[str, jax.Array]] = []
    batches = map(stage.placement.put, stage.batches.prefetched(step))
    batch = next(batches)
    while not (step == stage.last or signals.stop or is_over(stage, best, step)):
        state, latest = stage.placement.step(state, batch)
        batch = next(batches)  # on its way to the devices while they step
        step, metrics = step + 1, ()
        pending.append(latest)
        is_evaluated = step % stage.evaluate_every == 0 or step == stage.steps
        is_saved = step % stage.save_every == 0 or step == stage.last
        if step % stage.fetch_every == 0 or is_evaluated or is_saved:
            fetched = _fetch(stage, pending, step, checkpoints)
            pending = []
            signals.agree()
            checkpoints.check()
            report.steps(fetched)
        if is_evaluated:
            metrics = stage.evaluate(state, step, report)
            best = _better(stage, best, state, metrics, step)
            if stage.after_evaluation is not None and step % stage.evaluate_every == 0:
                state = stage.after_evaluation(state, metrics, report)
        if is_saved or is_over(stage, best, step):
            _save(stage, Progress(state, best, step, metrics), checkpoints)
    if signals.stop and step < stage.last:
        report.steps(_fetch(stage, pending, step, checkpoints))
        _save(stage, Progress(state, best, step, metrics), checkpoints)
    return Progress(state, best, step, metrics)


def is_over(stage: Stage, best: Best | None, step: int) -> bool:
    """Return whether the run ended early, because its quality has not improved for long enough."""
    if stage.patience is None or best is None:
        return False
    last_improved = int(np.max(jax.device_get(best.step)))
    return step - last_improved >= stage.patience * stage.evaluate_every


def first_best(stage: Stage, state: State) -> Best | None:
    """Return the initial `Best`, whose quality is minus infinity."""
    if stage.quality is None:
        return None
    saved = stage.placement.to_saved(state)
    copy = jax.tree.map(jnp.copy, saved.params)
    quality = np.full(saved.step.shape, -np.inf, np.float32)
    step = np.zeros(saved.step.shape, np.int32)
    return Best(copy, *jax.device_put((quality, step), saved.step.sharding))


def restore(
    checkpoints: Checkpoints, stage_of: Callable[[int], Stage]
) -> tuple[Progress, list[str]] | None:
    """Return the newest intact saved progress, and a message for each step that was skipped.

    Args:
      checkpoints: The saved steps of the run.
      stage_of: Returns the stage that a step belongs to.
    """
    restored = checkpoints.restore(lambda step: _saved(stage_of(step)))
    if restored is None:
        return None
    stage = stage_of(restored.step)
    rest, best = restored.state if stage.quality else (restored.state, None)
    params = restored.params
    if stage.frozen:
        params = {path: params[path] for path in stage.placement.abstract.params}
    state = stage.placement.from_saved(rest._replace(params=params))
    return Progress(state, best, restored.step), restored.skipped


def check_new(
    out: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    reads: Sequence[str | Path | None] = (),
) -> None:
    """Raise an error unless a run may write a folder.

    Args:
      out: The folder.
      resume: Whether the run in it, if there is one, is to be continued.
      overwrite: Whether a model or a run in it may be replaced.
      reads: The folders that the run reads, of which none may be replaced.

    Raises:
      ValueError: If the arguments contradict each other.
      FileExistsError: If the folder holds a model or a run, and must not be replaced.
    """
    if resume and overwrite:
        raise ValueError("--resume and --overwrite cannot be combined: leave out one of them")
    if overwrite:
        for folder in (folder for folder in reads if folder is not None):
            if out.exists() and os.path.exists(folder) and out.samefile(folder):
                raise ValueError(
                    f"--overwrite would remove {folder}, which the run reads: use another --out"
                )
        return
    content = existing.find(out)
    is_run = any(out.glob("checkpoints")) or any(out.glob("*/checkpoints"))
    if content is None or (resume and is_run):
        return
    again = "use --resume to continue it, --overwrite" if is_run else "use --overwrite"
    raise FileExistsError(f"{out} holds {content}: {again} to replace it, or another --out")


def clear(out: Path) -> None:
    """Remove the model or the run that a new run replaces; all processes must call this."""
    if jax.process_index() == 0:
        existing.remove(out, existing.files(out, existing.ALL_FILES))
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("a run has been removed")


def check_same_run(out: Path, before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> None:
    """Raise ValueError with all differences between the identities of a saved run and of this."""
    if before is None:
        return
    differences = [
        f"{name} was {before.get(name)!r}, is {now.get(name)!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if differences:
        raise ValueError(f"{out} belongs to another run: " + "; ".join(differences))


def check_finite(params: chex.ArrayTree, checkpoints: Checkpoints) -> None:
    """Raise NotFinite if a trained parameter is not finite."""
    finite = jax.device_get(_are_finite(flatten(params)))
    if wrong := [path for path, is_finite in finite.items() if not is_finite]:
        last = (checkpoints.latest() or [0])[-1]
        raise NotFinite(
            f"{wrong[0]} is not finite after training: no model is written, and the last saved "
            f"step is {last}; try a smaller learning rate or float32"
        )


@jax.jit
def _are_finite(arrays: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    return {path: jnp.isfinite(x).all() for path, x in arrays.items()}


def _saved(stage: Stage) -> tuple[chex.ArrayTree, chex.ArrayTree]:
    """Return the shapes and shardings of what a checkpoint of a stage holds: params and state."""
    abstract = stage.placement.abstract
    rest = abstract._replace(params=())
    params = abstract.params
    if stage.frozen:
        shape = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
        params = jax.tree.map(shape, dict(stage.frozen)) | params
    if stage.quality is None:
        return params, rest
    like_step: Any = lambda dtype: jax.ShapeDtypeStruct(
        rest.step.shape, dtype, sharding=rest.step.sharding
    )
    return params, (rest, Best(abstract.params, like_step(jnp.float32), like_step(jnp.int32)))


def _save(stage: Stage, progress: Progress, checkpoints: Checkpoints) -> None:
    state, best, step, metrics = progress
    saved = stage.placement.to_saved(state)
    params = {**stage.frozen, **saved.params} if stage.frozen else saved.params
    rest = saved._replace(params=())
    checkpoints.save(
        step, params, rest if best is None else (rest, best), stage.identity, dict(*metrics[:1])
    )


def _better(
    stage: Stage, best: Best | None, state: State, metrics: Sequence[Metrics], step: int
) -> Best | None:
    """Return the best parameters of each run after an evaluation."""
    if best is None or stage.quality is None:
        return None
    saved = stage.placement.to_saved(state)
    shape = saved.step.shape
    quality = np.array([stage.quality(each) for each in metrics], np.float32).reshape(shape)
    at = np.full(shape, step, np.int32)
    new = Best(saved.params, *jax.device_put((quality, at), saved.step.sharding))
    return _choose(best, new)


@jax.jit
def _choose(best: Best, new: Best) -> Best:
    is_as_good = new.quality >= best.quality

    def choose(old, new):
        shape = is_as_good.shape + (1,) * (new.ndim - is_as_good.ndim)
        return jnp.where(is_as_good.reshape(shape), new, old)

    return Best(
        jax.tree.map(choose, best.params, new.params),
        jnp.maximum(new.quality, best.quality),
        jnp.where(new.quality > best.quality, new.step, best.step),
    )


def _fetch(
    stage: Stage, pending: list, step: int, checkpoints: Checkpoints
) -> list[tuple[int, Metrics]]:
    """Return the metrics to report of the last steps, each a mean over parallel runs, by step.

    Raises:
      NotFinite: At the first step whose loss or gradient is not finite.
    """
    first = step - len(pending)
    fetched = []
    for number, latest in enumerate(jax.device_get(pending), first):
        loss, gradient_norm = latest["loss"], latest["gradient_norm"]
        if not (np.isfinite(loss).all() and np.isfinite(gradient_norm).all()):
            file = stage.out / f"not_finite_batch_{number}.npz"
            batch: dict[str, Any] = dict(stage.batches(number))
            np.savez(file, **batch)
            checkpoints.close()
            raise NotFinite(
                f"step {number + 1} has loss {loss} and gradient norm {gradient_norm}: the run "
                f"stopped, and the last saved step is {(checkpoints.latest() or [0])[-1]}; the "
                f"batch is in {file.name}; try a smaller learning rate, a longer warm-up or float32"
            )
        if (number + 1) % stage.report_every == 0:
            fetched.append((number + 1, {name: float(np.mean(x)) for name, x in latest.items()}))
    return fetched


class Signals:
    """Save and stop on Ctrl-C, SIGTERM and SIGUSR1; a second Ctrl-C stops at once.

    Attributes:
      stop: Whether to stop. Processes save together, so with more than one it changes in `agree`.
    """

    def __enter__(self):
        self.stop = self._requested = False
        handled = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
        self._before = {number: signal.signal(number, self._request_stop) for number in handled}
        return self

    def __exit__(self, *error):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def agree(self) -> None:
        """Stop all processes if one got a signal; each calls this after the same steps."""
        self.stop = arrays.in_any_process(self._requested)

    def _request_stop(self, number, frame):
        if not self._requested:
            # Not `print`: the signal may have interrupted one.
            os.write(2, b"\nsaving, then stopping; press Ctrl-C again to stop without saving\n")
        self._requested = True
        self.stop |= jax.process_count() == 1
        signal.signal(signal.SIGINT, signal.default_int_handler)
