"""Evaluation of fine-tuned models: their metrics and predictions on labelled examples."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax import linen as nn

from train.finetuning import inputs
from train.finetuning.settings import Settings, TaskName
from train.finetuning.tasks.bag_of_words import LabelOfBag
from train.finetuning.tasks.registry import TASKS
from train.finetuning.tasks.similarity import in_both_orders
from train.finetuning.tasks.task import (
    LabelledRow,
    Labels,
    Task,
    columns_of,
    encode,
    labels_of,
    skipped_rows,
)
from train.finetuning.weighting import configured
from zoo import registry
from zoo.checkpoints.load import Loaded, load
from zoo.models.fasttext import FastTextClassifier

Metrics = dict[str, float]
COLLAPSED = 1000.0  # more than any metric: taken from one that predicts one class for everything


class Evaluation(NamedTuple):
    """The metrics of a model on labelled examples, and every example with its prediction."""

    metrics: Metrics
    predictions: list[dict[str, Any]]  # as `Task.to_json` returns them
    labels: Labels
    notes: tuple[str, ...] = ()

    def classes(self) -> tuple[list[str], list[str]]:
        """Return the true and the predicted labels of all examples, or of all words."""
        gold: list[str] = []
        predicted: list[str] = []
        for fields in self.predictions:
            label = fields.get("label", fields.get("labels"))
            if isinstance(label, list):
                gold += label
                predicted += fields["prediction"]
            elif label is not None:
                gold.append(label)
                predicted.append(fields["prediction"])
        return gold, predicted


def evaluate(
    task: Task,
    loaded: Loaded,
    examples: Sequence,
    rows: Sequence[Sequence[LabelledRow]],
    batch_size: int = 32,
) -> Evaluation:
    """Evaluate a model on examples, given their rows."""
    return score(task, loaded, examples, task.predict(loaded, examples, rows, batch_size))


def score(task: Task, loaded: Loaded, examples: Sequence, predictions: Sequence) -> Evaluation:
    """Return the metrics of the predictions of a model."""
    labels = labels_of(loaded.model)
    metrics = task.score(examples, predictions, labels)
    fields = [task.to_json(*pair) for pair in zip(examples, predictions, strict=True)]
    return Evaluation(metrics, fields, labels)


def evaluate_folder(
    folder: str | Path,
    path: str | Path,
    task_name: TaskName | None = None,
    columns: Sequence[str] = (),
    batch_size: int = 32,
    stride: int | None = None,
    average_with: str | Path | None = None,
    *,
    skip_invalid: bool = False,
) -> Evaluation:
    """Evaluate a fine-tuned model on the examples of a file.

    Args:
      folder: The model folder, ours or Hugging Face's.
      path: A file with examples, in a format of `zoo finetune`.
      task_name: The task of the model. None: inferred from its class and labels.
      columns: Column names by role, such as "label=Quality".
      batch_size: Rows per batch.
      stride: As in `Settings`.
      average_with: The folder of another classifier, such as one that reads backward: predict from
        the mean of the probabilities of both (Howard and Ruder 2018, section 3.3). None: one model.
      skip_invalid: As in `DataSettings`.

    Raises:
      ValueError: If the model does not support the task, or does not have a label of the examples,
        or if the two models do not predict probabilities of the same labels, in any order.
    """
    loaded = load(folder)
    settings = Settings(stride=stride)
    task = configured(task_for(loaded.model, task_name), (), (), settings)
    skipped: list[str] | None = [] if skip_invalid else None
    examples, notes = task.read(Path(path), columns_of(task, columns), skipped)
    notes += skipped_rows(skipped or ())
    inputs.check(folder, inputs.kind(examples))

    def predict(task: Task, loaded: Loaded) -> list:
        rows = encode(task, loaded, examples, loaded.model.config.max_length)
        return task.predict(loaded, examples, rows, batch_size)

    predictions = predict(task, loaded)
    if average_with is not None:
        other = load(average_with)
        # Its own task: a fastText classifier reads texts, the others rows of tokens.
        other_task = configured(task_for(other.model), (), (), settings)
        names = labels_of(loaded.model), labels_of(other.model)
        is_same = other_task.metric == task.metric and sorted(names[0]) == sorted(names[1])
        if not is_same or not isinstance(predictions[0], dict):
            raise ValueError(
                f"--average-with {average_with}: both models must predict the probabilities of the "
                f"same labels in the same task, not {', '.join(names[0])} and {', '.join(names[1])}"
            )
        predictions = [
            {label: (one[label] + two[label]) / 2 for label in one}
            for one, two in zip(predictions, predict(other_task, other), strict=True)
        ]
    return score(task, loaded, examples, predictions)._replace(notes=notes)


def task_for(model: nn.Module, name: TaskName | None = None) -> Task:
    """Return the task by name, or the one that a model was fine-tuned for."""
    if not isinstance(model, FastTextClassifier):
        if name not in (None, task_of(model)):
            raise ValueError(
                f"the model was fine-tuned for {task_of(model)}, not for {name}: leave out --task"
            )
        task = TASKS[name or task_of(model)]
        return in_both_orders(task) if _is_similarity(model) else task
    if name not in (None, "classification"):
        raise ValueError(f"a fastText classifier is for --task classification, not {name}")
    return LabelOfBag()


def task_of(model: nn.Module) -> TaskName:
    """Return the task that a model was fine-tuned for."""
    classes = registry.of(model).TASKS
    kind = next((name for name in TASKS if classes.get(name) is type(model)), None)
    kind = "classification" if _is_similarity(model) else kind
    if kind is None:
        raise ValueError(f"a {type(model).__name__} has no task: fine-tune it with zoo finetune")
    is_number = kind == "classification" and len(model.config.labels) == 1
    return "regression" if is_number else kind


def _is_similarity(model: nn.Module) -> bool:
    return registry.of(model).TASKS.get("similarity") is type(model)


def run_metric(task: Task, metrics: Metrics) -> float:
    """Return the metric by which runs are compared."""
    return metrics.get(task.metric, metrics.get("accuracy", 0.0))


def quality(task: Task, metrics: Metrics) -> float:
    """Return the metric by which models are compared; a collapsed one is worse than all others."""
    return run_metric(task, metrics) - COLLAPSED * metrics.get("collapsed", 0.0)


def best_run(task: Task, runs: Sequence[Metrics]) -> int:
    """Return the index of the best run, the first of equals."""
    return max(range(len(runs)), key=lambda run: quality(task, runs[run]))


def summary(task: Task, metrics: Mapping[str, Sequence[Metrics]]) -> list[str]:
    """Return lines with the metrics of every run, and mean and spread if there are more runs."""
    best, lines = best_run(task, metrics["dev"]), []
    for name, runs in metrics.items():
        for number, values in enumerate(runs):
            text = ", ".join(f"{key.replace('_', ' ')} {x:.4f}" for key, x in values.items())
            end = "  (best)" if number == best and len(runs) > 1 else ""
            lines.append(f"{name}, run {number}: {text}{end}")
        if len(runs) > 1:
            x = [run_metric(task, values) for values in runs]
            lines.append(
                f"{name}, {len(runs)} runs: {np.mean(x):.4f} +- {np.std(x, ddof=1):.4f}, "
                f"{min(x):.4f} to {max(x):.4f}"
            )
        collapsed = [str(number) for number, values in enumerate(runs) if "collapsed" in values]
        if collapsed:
            lines.append(f"{name}: run {', '.join(collapsed)} predicts one class for all examples")
    return lines
