"""Fine-tuning of a pretrained model on a task, in one or more runs; the best run is kept."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import optax
from flax import linen as nn

from train.data.batches.epochs import Epochs, epochs
from train.devices import placement
from train.finetuning import seeds, transfer, unfreezing
from train.finetuning.evaluate import Metrics, best_run, evaluate
from train.finetuning.seeds import Replicas
from train.finetuning.settings import Settings
from train.finetuning.tasks.task import LabelledRow, Task, encode
from train.reporting.progress import Report
from zoo import registry
from zoo.checkpoints.load import Loaded, save
from zoo.contracts import ClassifierWithLanguageModel, TrunkWithHead
from zoo.params import flatten


def finetune(
    folder: str | Path,
    task: Task,
    data: Mapping[str, Sequence],
    out: str | Path,
    settings: Settings,
    labels: Sequence[str] = (),
) -> tuple[dict[str, list[Metrics]], list[str]]:
    """Fine-tune the model of a folder and write the model of the best run.

    Args:
      folder: The pretrained model.
      task: The task.
      data: The examples of "train" and "dev", and of other sets to evaluate on, such as "test".
      out: The folder to write, with results.json.
      settings: The training settings.
      labels: The names of the classes; if empty, those of the data.

    Returns:
      The metrics of every run by name of the data, and notes for the user.

    Raises:
      ValueError: If the data, the folder and the settings do not fit together.
    """
    loaded, new_paths = load(folder, task, task.labels(data["train"], labels), settings)
    length = min(settings.length, loaded.model.config.max_length)
    rows = {name: encode(task, loaded, examples, length) for name, examples in data.items()}
    parts = split_runs(loaded, settings, length)
    params = []
    for number, part in enumerate(parts):
        runs = seeds.replicate(loaded, new_paths, range(part.seed, part.seed + part.seeds))
        replicas = train(loaded.model, runs, task, rows["train"], out, part, (number, len(parts)))
        params += [replicas.params(run) for run in range(part.seeds)]
    metrics = {
        name: [
            evaluate(task, loaded._replace(params=run_params), data[name], rows[name]).metrics
            for run_params in params
        ]
        for name in data
        if name != "train"
    }
    best = best_run(task, metrics["dev"])
    save(loaded._replace(params=params[best]), out)
    results = {"settings": asdict(settings), "best": best, "metrics": metrics}
    Path(out, "results.json").write_text(json.dumps(results, indent=2))
    return metrics, _notes(rows, length, len(parts))


def load(
    folder: str | Path, task: Task, labels: Sequence[str] | None, settings: Settings
) -> tuple[Loaded, list[str]]:
    """Return the model to fine-tune, and the paths of its new parameters."""
    key = jax.random.key(settings.seed)
    loaded, new_paths = transfer.load_for_task(folder, task.head, labels, key=key)
    if loaded.tokenizer is None:
        raise ValueError(f"{folder} has no tokenizer, which fine-tuning needs")
    if settings.auxiliary and not isinstance(loaded.model, ClassifierWithLanguageModel):
        raise ValueError(
            f"a {type(loaded.model).__name__} predicts no next token: leave out --auxiliary"
        )
    special = any(loaded.tokenizer.encode("a").special_tokens_mask)
    if task.head == "classification" and not special:
        loaded = transfer.add_marks(loaded, jax.random.key(0))
    if settings.scratch:
        if settings.unfreeze != "all":
            raise ValueError(f"--scratch needs --unfreeze all, not {settings.unfreeze}")
        new_paths = list(flatten(loaded.params))
    if settings.dropout is not None:
        config = replace(loaded.model.config, dropout=settings.dropout)
        loaded = loaded._replace(model=type(loaded.model)(config))
    return loaded, new_paths


def split_runs(loaded: Loaded, settings: Settings, length: int) -> list[Settings]:
    """Return the runs in as few parts as memory allows; parts are trained in sequence."""
    at_once = settings.parallel_runs or jax.device_count() * seeds.max_runs(
        loaded.model, loaded.params, settings.batch, length
    )
    runs = range(settings.seed, settings.seed + settings.seeds)
    parts = np.array_split(runs, -(-settings.seeds // at_once))
    return [replace(settings, seed=int(part[0]), seeds=len(part)) for part in parts]


class Inputs(NamedTuple):
    """The inputs of all steps: the rows as arrays, and their order."""

    arrays: dict[str, np.ndarray]
    order: Epochs


def prepare(model: nn.Module, rows: Sequence[LabelledRow], settings: Settings) -> Inputs:
    """Return the inputs of the steps."""
    target_length = lambda target: len(target) if isinstance(target, list) else 0
    lengths = [max(len(row.row.tokens), target_length(row.target)) for row in rows]
    runs = range(settings.seed, settings.seed + settings.seeds)
    order = epochs(lengths, model.config.max_length, settings.batch, runs)
    return Inputs(seeds.stack(rows, max(order.buckets)), order)


def train(
    model: nn.Module,
    replicas: Replicas,
    task: Task,
    rows: Sequence[Sequence[LabelledRow]],
    out: str | Path,
    settings: Settings,
    part: tuple[int, int] = (0, 1),
) -> Replicas:
    """Train all runs in parallel, stage by stage, and return their parameters.

    Args:
      model: The model.
      replicas: The initial parameters of the runs.
      task: The task.
      rows: The rows of every training example.
      out: The folder for the log.
      settings: The training settings.
      part: Index of this part of the runs, and number of parts.
    """
    flat = [labelled for example in rows for labelled in example]
    arrays, order = prepare(model, flat, settings)
    paths = [*replicas.trained, *replicas.shared]
    groups = unfreezing.groups(paths, registry.of(model).GROUPS)
    text = settings.learning_rate or default_learning_rate(model)
    peaks = unfreezing.learning_rates(text, len(groups), settings.layer_decay)
    by_path = {path: peak for group, peak in zip(groups, peaks, strict=True) for path in group}
    stages = unfreezing.STRATEGIES[settings.unfreeze](len(groups), settings.epochs)
    ends = np.ceil(np.cumsum([stage.epochs for stage in stages]) * order.steps).astype(int)
    tokens = int(arrays["documents"].sum()) // order.steps * settings.seeds
    before = part[0] * int(ends[-1])
    total = part[1] * int(ends[-1])
    with Report(out, total, tokens, first_step=before, unit="mean of a batch") as report:
        for stage, first, end in zip(stages, (0, *ends[:-1]), ends, strict=True):
            if end == first:
                continue
            trained = [path for group in groups[stage.first :] for path in group]
            replicas = seeds.unfreeze(replicas, trained, settings.seeds)
            inputs = Inputs(arrays, order)
            head_only = stage.first == len(groups) - 1
            if head_only and not settings.auxiliary and isinstance(model, TrunkWithHead):
                # The trunk is frozen, so its features are computed only once.
                longest = arrays["tokens"].shape[1]
                features = seeds.frozen_features(model, replicas.params(0), flat, longest)
                inputs = Inputs(arrays | {"features": features}, order)
            schedule = unfreezing.SCHEDULES[settings.schedule](int(end - first))
            optimizer = unfreezing.optimizer(schedule, by_path, settings.weight_decay)
            steps = range(int(first), int(end))
            run = updates(model, replicas, task, optimizer, inputs, steps, settings.auxiliary)
            pending: list[tuple[int, jax.Array]] = []
            for number, updated, losses_S in run:
                replicas = updated
                pending.append((number, losses_S))
                # Losses are read one step late, so that the device never waits for the host.
                for done, losses in pending if number + 1 == end else pending[:-1]:
                    learning_rate = float(schedule(done - first) * peaks[-1])
                    loss = _finite(losses, done)
                    report.step(before + done + 1, {"loss": loss, "rate": learning_rate})
                pending = pending[-1:]
    return replicas


def updates(
    model: nn.Module,
    replicas: Replicas,
    task: Task,
    optimizer: optax.GradientTransformation,
    inputs: Inputs,
    steps: Sequence[int],
    auxiliary: float = 0.0,
) -> Iterator[tuple[int, Replicas, jax.Array]]:
    """Yield the number of every step, the replicas after it, and the loss of every run."""
    arrays, order = inputs
    step = seeds.make_step(model, task, optimizer, auxiliary)
    by_run, by_row, replicated = placement.over_runs(len(order.seeds), order.batch)
    trained = jax.device_put(replicas.trained, by_run)
    shared = jax.device_put(replicas.shared, replicated)
    opt_state = jax.device_put(jax.vmap(optimizer.init)(trained), by_run)
    seeds_S = jax.device_put(np.array(order.seeds), by_run)
    for number in steps:
        batch = jax.device_put(seeds.gather(arrays, *order(number)), by_row)
        trained, opt_state, losses_S = step(trained, opt_state, batch, seeds_S, shared, number)
        yield number, Replicas(trained, shared), losses_S


def default_learning_rate(model: nn.Module) -> str:
    """Return the peak for BERT (Devlin et al. 2018) or for small models (Turc et al. 2019)."""
    return "5e-5" if model.config.width >= 512 else "3e-4"


def _finite(losses_S: jax.Array, number: int) -> float:
    if not np.isfinite(losses_S).all():
        raise ValueError(
            f"the loss of step {number + 1} is not finite: use a lower --learning-rate"
        )
    return float(np.mean(losses_S))


def _notes(rows: Mapping[str, Sequence], length: int, parts: int) -> list[str]:
    flat = (labelled for data in rows.values() for example in data for labelled in example)
    truncated = sum(labelled.row.truncated > 0 for labelled in flat)
    notes = [f"{truncated} texts are longer than {length} tokens and are truncated"]
    notes = notes if truncated else []
    return [*notes, *([f"the runs were trained in {parts} parts"] if parts > 1 else [])]
