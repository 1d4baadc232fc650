"""The examples of a task: read from files or TensorFlow Datasets, checked, and split."""

from collections.abc import Mapping, Sequence

from train import ranges, unused
from train.data.examples.tables import Examples, repeated
from train.data.sources import tfds
from train.finetuning import split
from train.finetuning.settings import DataSettings
from train.finetuning.tasks.registry import TASKS
from train.finetuning.tasks.task import Task, columns_of, skipped_rows


def load(settings: DataSettings) -> tuple[dict[str, Sequence], list[str]]:
    """Return the examples of "train", "dev" and, if given, "test", and notes for the user.

    The notes tell what was dropped and which classes have few examples.

    Raises:
      ValueError: If the settings or the examples cannot be trained on.
    """
    task = TASKS[settings.task]
    columns = columns_of(task, settings.columns)
    if (settings.train is None) == (settings.tfds is None):
        raise ValueError("give either --train FILE or --tfds NAME")
    ranges.check(settings)
    if twice := repeated(settings.labels):
        raise ValueError(f"--labels has {twice!r} twice: name each class once")
    if settings.tfds:
        unused.refuse(settings, ["dev", "test"], "cannot be combined with --tfds, which has both")
    if settings.dev:
        unused.refuse(settings, ["split_seed"], "has no effect with --dev")
    if settings.task in ("question-answering", "multiple-choice", "text-to-text"):
        unused.refuse(settings, ["labels"], f"is for tasks with classes, not {settings.task}")
    if settings.task == "regression" and len(settings.labels) > 1:
        raise ValueError("--labels has the name of the number for --task regression: give one")
    if settings.group and settings.dev:
        raise ValueError("--group splits the training examples: leave out --group or --dev")
    group = {"group": settings.group} if settings.group else {}
    skipped: list[str] = []
    if settings.tfds:
        if settings.skip_invalid:
            raise ValueError("--skip-invalid is for files: leave it out with --tfds")
        data = read_tfds(task, settings.tfds, columns, group)
    else:
        files = {"train": settings.train, "dev": settings.dev, "test": settings.test}
        data = {
            name: task.read(
                path,
                columns | (group if name == "train" else {}),
                skipped if settings.skip_invalid else None,
            )
            for name, path in files.items()
            if path
        }
    notes = list(dict.fromkeys(note for part in data.values() for note in part.notes))
    notes += skipped_rows(skipped)
    examples = divide(task, {name: part.examples for name, part in data.items()}, settings)
    return examples, [*notes, *split.few(task, examples)]


def read_tfds(
    task: Task, name: str, columns: Mapping[str, str], group: Mapping[str, str] | None = None
) -> dict[str, Examples]:
    """Return the splits of a dataset: "train", and its validation or test split as "dev"."""
    splits = tfds.splits(name)
    dev = next((split for split in ("validation", "test") if split in splits), None)
    if dev and group:
        raise ValueError(f"--group splits the training examples, but {name} has a {dev} split")
    train = task.read_tfds(name, "train", {**columns, **(group or {})})
    return {"train": train} | ({"dev": task.read_tfds(name, dev, columns)} if dev else {})


def divide(task: Task, data: Mapping[str, Sequence], settings: DataSettings) -> dict[str, Sequence]:
    """Return the examples by name, with a tenth of "train" as "dev" if there is no "dev".

    If there are more than `limit` training examples, `limit` evenly spaced ones are kept.

    Raises:
      ValueError: If there is a single training example, or the classes of the parts differ.
    """
    data, limit = dict(data), settings.limit
    if "dev" not in data:
        data["train"], data["dev"] = split.split(
            task, data["train"], settings.split_seed, settings.group
        )
    count = len(data["train"])
    kept = count if limit is None else min(limit, count)
    if kept < 2:
        raise ValueError(
            "there is one training example, but fine-tuning needs more: give more examples"
            + (" or a higher --limit" if kept < count else "")
        )
    data["train"] = [data["train"][number * count // kept] for number in range(kept)]
    labels = task.labels(data["train"], settings.labels)
    is_given, is_limited = bool(settings.labels), kept < count
    split.check_classes(task, data, labels, given=is_given, limited=is_limited)
    return data
