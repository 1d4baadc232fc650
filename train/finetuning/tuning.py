"""Runs of fine-tuning that are trained at once: their stages, and the training through all stages.

A stage trains some of the parameter groups. Its frozen parameters are arrays of the objective, so
the trainer's one step serves every stage. Parameters are dicts by path here: the trained ones of
one run, or arrays [S, ...] of S parallel runs.
"""

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import zoo
from train.checkpoint import Checkpoints
from train.devices.parallelism import PARALLELISM
from train.devices.placement import StepPlacement, Training
from train.devices.runs import RunsPlacement
from train.finetuning import unfreezing
from train.finetuning.batches import (
    LabelledBatches,
    labelled_batches,
    train_rows,
    with_features,
)
from train.finetuning.distillation import DistilledTask, stack
from train.finetuning.evaluate import evaluate, quality
from train.finetuning.objective import TaskObjective
from train.finetuning.packed_batches import PackedBatches, packed_batches
from train.finetuning.settings import BagOfWords, Distillation, Settings
from train.finetuning.tasks.task import LabelledRow, Task
from train.loop import (
    Metrics,
    Progress,
    Signals,
    Stage,
    check_finite,
    check_new,
    check_same_run,
    first_best,
    is_over,
    restore,
    train,
)
from train.reporting.manifest import write_manifest
from train.reporting.progress import Report, Silence
from train.step import State, cast, random_params
from zoo import registry, tokenizers
from zoo.checkpoints import arrays, model_folder
from zoo.checkpoints.load import Loaded
from zoo.layers.taggers import RecurrentTagger
from zoo.params import flatten, unflatten

WITHOUT_EFFECT = "save_every", "parallel", "mesh", "parallel_runs"  # on the results
FETCH_EVERY = 10  # steps between two fetches of the losses, all of which are logged


class Stopped(Exception):
    """A signal stopped the run after a checkpoint was saved; the message tells at which step."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuning:
    """Runs that are trained at once, all stages of them.

    Attributes:
      loaded: The pretrained model with the head of the task.
      task: The task.
      dev: The examples to evaluate on.
      rows: The rows of every example, by name of the data.
      out: The folder of checkpoints, log and curves.
      settings: The settings of these runs.
      new_paths: The parameters that every run initializes from its seed.
      initial: The parameters before training, by path; the new ones of parallel runs are [S, ...].
      batches: What is trained on.
      groups: The paths of the parameter groups, from input to output.
      peaks: The peak learning rate of every group.
      stages: First step, last step and first trained group of every stage.
      distillation: How the runs learn from a teacher, whose outputs the batches have; or None.
    """

    loaded: Loaded
    task: Task
    dev: Sequence
    rows: Mapping[str, Sequence[Sequence[LabelledRow]]]
    out: Path
    settings: Settings
    new_paths: frozenset[str]
    initial: Mapping[str, jax.Array]
    batches: LabelledBatches | PackedBatches
    groups: Sequence[Sequence[str]]
    peaks: np.ndarray
    stages: Sequence[tuple[int, int, int]]
    distillation: Distillation | None = None

    @property
    def is_parallel(self) -> bool:
        """Whether there is more than one run, so that trained parameters are [S, ...]."""
        return self.settings.seeds > 1

    def number_of(self, step: int) -> int:
        """Return the number of the stage that a step belongs to."""
        return next(n for n, (_, last, _) in enumerate(self.stages) if step <= last)

    def trained(self, number: int) -> dict[str, jax.Array]:
        """Return the initial values of the parameters that a stage trains."""
        paths = [path for group in self.groups[self.stages[number][2] :] for path in group]
        if not self.is_parallel:
            return {path: self.initial[path] for path in paths}
        copies = lambda x: jnp.broadcast_to(x, (self.settings.seeds, *x.shape))
        new, initial = self.new_paths, self.initial
        return {path: initial[path] if path in new else copies(initial[path]) for path in paths}

    def stage(self, number: int) -> Stage:
        """Return a stage: its trained parameters, optimizer, schedule and batches."""
        s, model, task = self.settings, self.loaded.model, self.task
        first, last, first_group = self.stages[number]
        trained = self.trained(number)
        frozen = {path: x for path, x in self.initial.items() if path not in trained}
        by_path = {
            path: peak
            for group, peak in zip(self.groups, self.peaks, strict=True)
            for path in group
        }
        schedule = unfreezing.SCHEDULES[s.schedule](last - first)
        training = Training(
            model=model,
            init=lambda: trained,
            objective=self._objective(cast(frozen, s.dtype)),
            optimizer=unfreezing.optimizer(schedule, by_path, s.weight_decay, s.optimizer),
            schedule=lambda step: self.peaks[-1] * schedule(step - first),
            axes=registry.of(model).AXES,
            batch_size=self.batches.order.batch,
            seed=s.seed,
            dtype=s.dtype,
            accumulate=s.accumulate,
        )
        batches = self.batches
        head_only = first_group == len(self.groups) - 1
        if head_only and not s.auxiliary and isinstance(batches, LabelledBatches):
            rows = train_rows(model, self.rows["train"])
            batches = with_features(batches, model, self.run_params(trained, 0), rows)
        place, each_epoch = self._place(training), batches.order.steps
        return Stage(
            out=self.out,
            placement=place,
            batches=batches,
            first=first,
            last=last,
            steps=self.stages[-1][1],
            report_every=1,
            fetch_every=FETCH_EVERY,
            evaluate_every=s.evaluate_every or each_epoch,
            save_every=s.save_every or each_epoch,
            identity=self.identity(),
            evaluate=partial(self._evaluate, place),
            quality=partial(quality, task) if s.keep == "best" else None,
            patience=s.patience,
            frozen={} if self.is_parallel else frozen,
        )

    def run_params(self, trained: Mapping[str, jax.Array], run: int) -> chex.ArrayTree:
        """Return all parameters of one run, given the trained ones of all runs."""
        of_run = {path: x[run] for path, x in trained.items()} if self.is_parallel else trained
        return unflatten({**self.initial, **of_run})

    def identity(self) -> dict[str, Any]:
        """Return what determines the results of the runs, as JSON."""
        rows, sums = hashlib.sha256(), arrays.fingerprint(self.loaded.params)
        assert self.loaded.tokenizer is not None, "checked when the model was loaded"
        for array in self.batches.arrays.values():
            rows.update(array.tobytes())
        identity = {
            "zoo": zoo.__version__,
            "model": hashlib.sha256(json.dumps(sums).encode()).hexdigest(),
            "tokenizer": tokenizers.fingerprint(self.loaded.tokenizer),
            "rows": rows.hexdigest(),
            "dev": hashlib.sha256(repr([*self.dev]).encode()).hexdigest(),
            "length_buckets": list(self.batches.row_lengths),  # which differ on an accelerator
            "task": str(self.task),
            **flags(self.settings),
            **(flags(self.distillation) if self.distillation else {}),
        }
        return json.loads(json.dumps(identity, default=str))

    def _objective(self, frozen: Mapping[str, jax.Array]) -> TaskObjective:
        if self.distillation is None:
            return TaskObjective(self.task, self.settings.auxiliary, frozen)
        return DistilledTask(self.task, self.settings.auxiliary, frozen, self.distillation)

    def _place(self, training: Training) -> StepPlacement:
        s = self.settings
        if self.is_parallel:
            return RunsPlacement(training, self.batches.order.seeds)
        return PARALLELISM[s.parallel](training, s.mesh)

    def _evaluate(
        self, placement: StepPlacement, state: State, step: int, report: Report | Silence
    ) -> list[Metrics]:
        """Report and return the metrics of every run on the dev data."""
        trained, metrics = placement.to_saved(state).params, []
        for run in range(self.settings.seeds):
            loaded = self.loaded._replace(params=self.run_params(trained, run))
            metrics.append(evaluate(self.task, loaded, self.dev, self.rows["dev"]).metrics)
            number = {"run": run} if self.is_parallel else {}
            report.evaluation(step, {**number, **metrics[-1]})
        return metrics


def prepare(
    loaded: Loaded,
    new_paths: Sequence[str],
    task: Task,
    dev: Sequence,
    rows: Mapping[str, Sequence[Sequence[LabelledRow]]],
    out: Path,
    settings: Settings,
    distillation: Distillation | None = None,
    teacher_outputs: Sequence[np.ndarray] = (),
) -> Tuning:
    """Create and check everything that the runs with the seeds of the settings need.

    Args:
      loaded: The pretrained model with the head of the task.
      new_paths: The paths of the parameters that every run initializes from its seed.
      task: The task.
      dev: The examples to evaluate on.
      rows: The rows of every example, of "train" and "dev".
      out: The folder of checkpoints, log and curves.
      settings: The settings of these runs.
      distillation: How the runs learn from a teacher, or None.
      teacher_outputs: The output of the teacher for every training row.
    """
    model = loaded.model
    seeds = range(settings.seed, settings.seed + settings.seeds)
    flat = train_rows(model, rows["train"])
    batches = make_batches(model, flat, settings, seeds, teacher_outputs)
    initial = initial_params(loaded, new_paths, seeds)
    groups = unfreezing.groups(list(initial), registry.of(model).GROUPS)
    text = settings.learning_rate or default_learning_rate(model, settings)
    strategy = unfreezing.STRATEGIES[unfreezing_strategy(model, settings)]
    planned = strategy(len(groups), settings.epochs)
    epochs = np.cumsum([stage.epochs for stage in planned])
    ends = np.ceil(epochs * batches.order.steps).astype(int).tolist()
    stages = zip([0, *ends[:-1]], ends, [stage.first for stage in planned], strict=True)
    return Tuning(
        loaded=loaded,
        new_paths=frozenset(new_paths),
        task=task,
        dev=dev,
        rows=rows,
        out=out,
        settings=settings,
        initial=initial,
        batches=batches,
        groups=groups,
        peaks=unfreezing.learning_rates(text, len(groups), settings.layer_decay),
        stages=[(first, last, group) for first, last, group in stages if first < last],
        distillation=distillation,
    )


def make_batches(
    model: nn.Module,
    rows: Sequence[LabelledRow],
    settings: Settings,
    seeds: Sequence[int],
    teacher_outputs: Sequence[np.ndarray] = (),
) -> LabelledBatches | PackedBatches:
    """Return the batches of rows, packed if configured, with the outputs of a teacher."""
    longest = model.config.max_length
    if settings.pack is not None:
        return packed_batches(rows, min(settings.length, longest), settings, seeds)
    batches = labelled_batches(rows, longest, settings.batch, seeds)
    if not teacher_outputs:
        return batches
    longest = batches.arrays["documents"].shape[-1]
    return batches.with_outputs("teacher", stack(teacher_outputs, longest))


def initial_params(
    loaded: Loaded, new_paths: Sequence[str], seeds: Sequence[int]
) -> dict[str, jax.Array]:
    """Return the parameters before training by path; new ones of many seeds are [S, ...]."""
    by_seed = [flatten(random_params(loaded.model, seed)) for seed in seeds]
    if len(seeds) == 1:
        new = {path: by_seed[0][path] for path in new_paths}
    else:
        new = {path: jnp.stack([params[path] for params in by_seed]) for path in new_paths}
    return {path: new.get(path, x) for path, x in flatten(loaded.params).items()}


def unfreezing_strategy(
    model: nn.Module, settings: Settings
) -> Literal["all", "head", "head-first", "gradual"]:
    """Return the strategy of the settings, by default that of the papers.

    Taggers read frozen vectors, others train all layers.
    """
    if settings.scratch:
        return "all"
    return settings.unfreeze or ("head" if isinstance(model, RecurrentTagger) else "all")


def default_learning_rate(model: nn.Module, settings: Settings) -> str:
    """Return the peak for BERT (Devlin et al. 2018) or for small models (Turc et al. 2019).

    A tagger on frozen vectors starts from random weights: it has that of Peters et al. 2018.
    Adafactor has that of Raffel et al. 2020.
    """
    if isinstance(model, RecurrentTagger) or settings.optimizer == "adafactor":
        return "1e-3"
    return "5e-5" if model.config.width >= 512 else "3e-4"


def train_runs(tuning: Tuning, *, resume: bool = False) -> list[chex.ArrayTree]:
    """Train the runs through all stages, and return the parameters of each.

    Args:
      tuning: The runs.
      resume: Whether to continue from the newest intact step of their folder, if there is one.

    Raises:
      ValueError: If the folder holds other runs.
      NotFinite: If a loss or a trained parameter is not finite.
      Stopped: If a signal stopped the training, after a checkpoint was saved.
    """
    stage_of = lru_cache(tuning.stage)
    check_new(tuning.out, resume=resume)
    stage = stage_of(0)
    checkpoints = Checkpoints(tuning.out, 1, stage.save_every)
    check_same_run(tuning.out, checkpoints.meta(), stage.identity)
    restored = restore(checkpoints, lambda step: stage_of(tuning.number_of(step)))
    if restored is None:
        state = stage.placement.begin(tuning.trained(0))
        progress, messages = Progress(state, first_best(stage, state), 0), list[str]()
        _begin_folder(tuning)
    else:
        progress, messages = restored
        messages.append(f"resuming from step {progress.step}")
    number = tuning.number_of(progress.step)
    tokens = int(tuning.batches.arrays["documents"].sum()) // tuning.batches.order.steps
    report = Report(
        tuning.out,
        stage.steps,
        tokens * tuning.settings.seeds,
        first_step=progress.step,
        unit="mean of a batch",
        metric=tuning.task.metric,
    )
    with report, Signals() as signals, contextlib.closing(checkpoints):
        for line in (_introduction(tuning), *messages):
            report.line(line)
        while True:
            stage = stage_of(number)
            progress = train(stage, progress, checkpoints, report, signals)
            if is_over(stage, progress.best, progress.step) or progress.step == stage.steps:
                break
            if progress.step < stage.last:
                raise Stopped(f"stopped and saved at step {progress.step}; continue with --resume")
            number += 1
            progress = _enter(tuning, stage, stage_of(number), number, progress)
        saved = stage.placement.to_saved(progress.state).params
        trained = saved if progress.best is None else progress.best.params
        check_finite(trained, checkpoints)
    return [tuning.run_params(trained, run) for run in range(tuning.settings.seeds)]


def flags(settings: Settings | Distillation | BagOfWords) -> dict[str, Any]:
    """Return the settings that determine the results, by their flags, as JSON."""
    return {
        f"--{name.replace('_', '-')}": list(value) if isinstance(value, tuple) else value
        for name, value in asdict(settings).items()
        if name not in WITHOUT_EFFECT
    }


def _introduction(tuning: Tuning) -> str:
    """Return how many parameters there are, and how many steps and stages train them."""
    flat = flatten(tuning.loaded.params)
    size = lambda paths: sum(flat[path].size for path in paths)
    runs = f", {tuning.settings.seeds} runs at once" if tuning.is_parallel else ""
    packed = f"; {tuning.batches}" if isinstance(tuning.batches, PackedBatches) else ""
    stages = f" in {len(tuning.stages)} stages" if len(tuning.stages) > 1 else ""
    return (
        f"training {size(flat):,} parameters, at first {size(tuning.trained(0)):,} of them, for "
        f"{tuning.stages[-1][1]:,} steps{stages}{runs}{packed}"
    )


def _enter(
    tuning: Tuning, stage: Stage, following: Stage, number: int, progress: Progress
) -> Progress:
    """Return the progress at the start of the next stage, which trains more parameters."""
    initial, best = tuning.trained(number), progress.best
    params = {**initial, **stage.placement.to_saved(progress.state).params}
    state = following.placement.begin(params, progress.step)
    if best is not None:
        best = best._replace(params={**initial, **best.params})
    return Progress(state, best, progress.step)


def _begin_folder(tuning: Tuning) -> None:
    """Write what a run folder has from the start; of parallel runs, no model is chosen yet."""
    loaded = tuning.loaded
    write_manifest(tuning.out, **tuning.identity())
    if not tuning.is_parallel:
        name, cls = registry.name_of(loaded.model), type(loaded.model).__name__
        model_folder.write(
            tuning.out, name, loaded.model.config, tokenizer=loaded.tokenizer, cls=cls
        )
