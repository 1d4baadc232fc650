"""Development examples for a task that has none: a seeded draw, stratified by class, by group."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from train.finetuning.tasks.task import Task

SHARE = 10  # one in so many examples is for development
FEW = 5  # fewer examples of a class are too few to learn or to measure
NAMES = {"train": "training", "dev": "development", "test": "test"}


def split(
    task: Task, examples: Sequence, seed: int, column: str | None = None
) -> tuple[list, list]:
    """Return the training and the development examples, in the order of the file.

    Args:
      task: The task, which returns the classes of an example.
      examples: The examples.
      seed: The seed of the draw.
      column: The column that named the groups of the examples, or None: every example is a group.

    Raises:
      ValueError: If there are too few examples or groups for both sides.
    """
    groups = [example.group for example in examples] if column else range(len(examples))
    drawn = draw(strata([task.classes(example) for example in examples]), groups, seed)
    train = [example for example, is_dev in zip(examples, drawn, strict=True) if not is_dev]
    dev = [example for example, is_dev in zip(examples, drawn, strict=True) if is_dev]
    if not (train and dev):
        count = f"{len(examples)} training example{'s' * (len(examples) != 1)}"
        if column:
            count += f" in {len(set(groups))} groups of --group {column}"
        raise ValueError(
            f"{count}: too few to take a tenth for development; give --dev FILE, or more examples"
        )
    return train, dev


def draw(strata: Sequence[Hashable], groups: Sequence[Hashable], seed: int) -> np.ndarray:
    """Return whether each example is drawn: a tenth of every stratum, in whole groups.

    Groups are visited in random order. A group is drawn if that brings the drawn numbers closer to
    a tenth of every stratum, by chi-square. A stratum of three or more examples is drawn from at
    least once, if a group allows it.
    """
    sizes = Counter(strata)
    wanted = {name: max(size / SHARE, float(size >= 3)) for name, size in sizes.items()}
    members: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    drawn, is_drawn = Counter[Hashable](), np.zeros(len(strata), bool)
    of_group = list(members.values())
    for number in np.random.default_rng(seed).permutation(len(of_group)):
        indices = of_group[number]
        added = Counter(strata[index] for index in indices)
        change = sum(
            count * (2 * (drawn[name] - wanted[name]) + count) / wanted[name]
            for name, count in added.items()
        )
        if change < 0:
            drawn += added
            is_drawn[indices] = True
    return is_drawn


def strata(classes: Sequence[Sequence[str]]) -> list[str | None]:
    """Return the rarest of the classes of each example, or None if it has none."""
    sizes = Counter(name for names in classes for name in set(names))
    return [min(names, key=lambda name: (sizes[name], name), default=None) for names in classes]


def check_classes(
    task: Task, data: Mapping[str, Sequence], labels: Sequence[str], *, given: bool, limited: bool
) -> None:
    """Raise ValueError if a part of the data has a class that is not trained.

    Args:
      task: The task.
      data: The examples by name.
      labels: The classes that are trained; empty if the task has none.
      given: Whether the user named them with --labels.
      limited: Whether --limit left out training examples.
    """
    for part, examples in data.items():
        unknown = {name for example in examples for name in task.classes(example)} - {*labels}
        if not (labels and unknown):
            continue
        if given:
            trained, advice = "one of --labels", "name it there or remove it"
        else:
            trained, advice = "in the training data", "remove it or name it with --labels"
        advice += ", or use a higher --limit" if limited else ""
        raise ValueError(
            f"the label {min(unknown)!r} of the {NAMES[part]} data is not {trained} "
            f"({', '.join(labels)}): {advice}"
        )


def few(task: Task, data: Mapping[str, Sequence]) -> list[str]:
    """Return a note for each part of the data that has too few examples of a class."""
    sizes = {
        part: Counter(name for example in examples for name in set(task.classes(example)))
        for part, examples in data.items()
        if part in ("train", "dev")
    }
    notes = []
    for part, of_part in sizes.items():
        counts = {name: of_part[name] for side in sizes.values() for name in side}
        rare = sorted((count, name) for name, count in counts.items() if count < FEW)
        if rare:
            some = ", ".join(f"{name} ({count})" for count, name in rare[:FEW])
            more = f" and {len(rare) - FEW} more" if len(rare) > FEW else ""
            notes.append(
                f"too few {NAMES[part]} examples of {len(rare)} of {len(counts)} classes: "
                f"{some}{more}"
            )
    return notes
