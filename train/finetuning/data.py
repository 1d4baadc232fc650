"""The examples of a task: read from files or TensorFlow Datasets, and split."""

from collections.abc import Sequence

from train.data.examples.tables import Examples, parse_columns
from train.data.sources import tfds
from train.finetuning.settings import DataSettings
from train.finetuning.tasks.registry import TASKS
from train.finetuning.tasks.task import Task


def load(settings: DataSettings) -> tuple[dict[str, Sequence], list[str]]:
    """Return the examples of "train", "dev" and perhaps "test", and notes on what was left out."""
    task, columns = TASKS[settings.task], parse_columns(settings.columns)
    if (settings.train is None) == (settings.tfds is None):
        raise ValueError("give either --train with a file or --tfds with a name")
    if settings.tfds:
        data = read_tfds(task, settings.tfds, columns)
    else:
        files = {"train": settings.train, "dev": settings.dev, "test": settings.test}
        data = {name: task.read(path, columns) for name, path in files.items() if path}
    notes = [note for some in data.values() for note in some.notes]
    return split({name: some.examples for name, some in data.items()}, settings.limit), notes


def read_tfds(task: Task, name: str, columns: dict[str, str]) -> dict[str, Examples]:
    """Return the splits of a dataset: "train", and its validation or test split as "dev"."""
    splits = tfds.splits(name)
    dev = next((split for split in ("validation", "test") if split in splits), None)
    names = {"train": "train"} | ({"dev": dev} if dev else {})
    return {ours: task.read_tfds(name, theirs, columns) for ours, theirs in names.items()}


def split(data: dict[str, Sequence], limit: int | None) -> dict[str, Sequence]:
    """Return the examples by name, with a tenth of "train" as "dev" if there is none.

    If there are more than `limit` training examples, that many are chosen, evenly spread.
    """
    if "dev" not in data:
        everything = data["train"]
        train = [example for number, example in enumerate(everything) if number % 10]
        data = data | {"train": train, "dev": everything[::10]}
    count = len(data["train"])
    kept = count if limit is None else min(limit, count)
    return data | {"train": [data["train"][number * count // kept] for number in range(kept)]}
