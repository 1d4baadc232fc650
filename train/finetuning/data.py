"""The examples of a task: read from files or TensorFlow Datasets, and split."""

from collections.abc import Sequence

from train.data.examples.tables import Examples, parse_columns
from train.data.sources import tfds
from train.finetuning.settings import DataSettings
from train.finetuning.tasks.registry import TASKS
from train.finetuning.tasks.task import Task


def load(settings: DataSettings) -> tuple[dict[str, Sequence], list[str]]:
    """Return the examples of "train", "dev" and, if given, "test", and notes on dropped ones."""
    task, columns = TASKS[settings.task], parse_columns(settings.columns)
    if (settings.train is None) == (settings.tfds is None):
        raise ValueError("give either --train FILE or --tfds NAME")
    if settings.tfds:
        data = read_tfds(task, settings.tfds, columns)
    else:
        files = {"train": settings.train, "dev": settings.dev, "test": settings.test}
        data = {name: task.read(path, columns) for name, path in files.items() if path}
    notes = [note for part in data.values() for note in part.notes]
    return split({name: part.examples for name, part in data.items()}, settings.limit), notes


def read_tfds(task: Task, name: str, columns: dict[str, str]) -> dict[str, Examples]:
    """Return the splits of a dataset: "train", and its validation or test split as "dev"."""
    splits = tfds.splits(name)
    dev = next((split for split in ("validation", "test") if split in splits), None)
    names = {"train": "train"} | ({"dev": dev} if dev else {})
    return {part: task.read_tfds(name, tfds_split, columns) for part, tfds_split in names.items()}


def split(data: dict[str, Sequence], limit: int | None) -> dict[str, Sequence]:
    """Return the examples by name, with a tenth of "train" as "dev" if there is no "dev".

    If there are more than `limit` training examples, `limit` evenly spaced ones are kept.
    """
    if "dev" not in data:
        examples = data["train"]
        train = [example for number, example in enumerate(examples) if number % 10]
        data = data | {"train": train, "dev": examples[::10]}
    count = len(data["train"])
    kept = count if limit is None else min(limit, count)
    return data | {"train": [data["train"][number * count // kept] for number in range(kept)]}
