"""What the settings of a run change in the loss and the rows of a task."""

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from train.data.examples.tables import lines
from train.finetuning.settings import Settings
from train.finetuning.tasks.multi_label import MultiLabel
from train.finetuning.tasks.similarity import in_both_orders
from train.finetuning.tasks.task import Labels, Task


def configured(task: Task, examples: Sequence, labels: Labels, settings: Settings) -> Task:
    """Return a task with what the settings change: weights, smoothing, stride, both orders.

    Args:
      task: The task.
      examples: The training examples.
      labels: The names of the classes.
      settings: The settings.

    Raises:
      ValueError: If the task does not have what a setting changes, or a class has no weight.
    """
    if settings.both_orders:
        task = in_both_orders(task)
    changes: dict[str, Any] = {
        name: value
        for name in ("class_weights", "label_smoothing", "stride")
        if (value := getattr(settings, name))
    }
    fields = {field.name for field in dataclasses.fields(cast(Any, task))}
    if unused := [name for name in changes if name not in fields]:
        raise ValueError(
            f"--{unused[0].replace('_', '-')} does not work with this task "
            f"({type(task).__name__}): leave it out"
        )
    if source := settings.class_weights:
        by_label = balanced(task, examples) if source == "balanced" else read_weights(Path(source))
        changes["class_weights"] = _ordered(by_label, labels, source)
    return dataclasses.replace(cast(Any, task), **changes)


def balanced(task: Task, examples: Sequence) -> dict[str, float]:
    """Return weights by label that give all classes the same part in the loss.

    The weight of a class is N / (C n), where n of N predictions are of this class. That of a label
    among the labels of a text is (N - n) / n, as "pos_weight" of PyTorch.
    """
    counts = Counter(label for example in examples for label in task.classes(example))
    if isinstance(task, MultiLabel):
        return {label: (len(examples) - count) / count for label, count in counts.items()}
    return {label: counts.total() / (len(counts) * count) for label, count in counts.items()}


def read_weights(path: Path) -> dict[str, float]:
    """Return the weights in a file: a JSON object, or lines of a label, a tab and a weight.

    Raises:
      FileNotFoundError: If the file does not exist.
      ValueError: If the file has another form.
    """
    try:
        if path.suffix == ".json":
            pairs = list(json.loads("".join(lines(path))).items())
        else:
            pairs = [line.rsplit("\t", 1) for line in lines(path) if line.strip()]
        return {label: float(weight) for label, weight in pairs}
    except FileNotFoundError:
        raise FileNotFoundError(
            f"--class-weights {path}: no such file; use balanced, or a file of labels and weights"
        ) from None
    except (ValueError, TypeError, AttributeError):
        raise ValueError(
            f"--class-weights {path}: expected a JSON object, or lines of a label, a tab and a "
            "weight"
        ) from None


def _ordered(by_label: dict[str, float], labels: Labels, source: str) -> tuple[float, ...]:
    if not labels:
        raise ValueError("--class-weights needs a task with classes: leave it out")
    if missing := [label for label in labels if label not in by_label]:
        why = "has no training example" if source == "balanced" else "is not in the file"
        raise ValueError(f"--class-weights {source}: the label {missing[0]!r} {why}")
    if unknown := [label for label in by_label if label not in labels]:
        raise ValueError(
            f"--class-weights {source}: {unknown[0]!r} is not a label of the data, which are "
            f"{', '.join(labels)}"
        )
    weights = tuple(by_label[label] for label in labels)
    if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        raise ValueError(
            f"--class-weights {source}: weights must be at least 0 and finite, and one above 0"
        )
    return weights
