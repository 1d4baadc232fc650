"""What a model is fine-tuned to do; one kind of task a file.

A task says how its file is read, what rows of tokens an example makes and what they should say, and
what a model's scores mean. It knows neither the model nor how that is trained.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from zoo.inference.batching import Row

ROLES = ("text", "pair", "label")
PADDING = -1  # the target of a token of which nothing is asked


class Made(NamedTuple):
    """A row that an example makes, what the model should say of it, and what it is part of."""

    row: Row
    target: Any  # a class or a number; a list with what each token says, or PADDING; two places
    part: Any = None  # what `answer` needs beside the scores


def _ask(model, apply, batch):
    """What the model says of texts."""
    return apply(batch["tokens"], batch["segments"], batch["documents"])


class Task(NamedTuple):
    """One kind of task."""

    head: str  # its name in TASKS of the architectures
    read: Callable  # (path, columns) -> Examples
    prepared: str  # what from_tfds calls such data
    labels: Callable  # (examples) -> the names of the classes, in a fixed order
    rows: Callable  # (tokenizer, example, labels, length, training) -> [Made], none to leave out
    loss: Callable  # (scores, targets, documents_BL) -> (sum, weight)
    answer: Callable | None  # (example, [Made], [scores], labels) -> a prediction
    score: Callable  # (examples, predictions, labels) -> figures
    chosen: str  # the figure that tells which of several runs is best
    written: Callable  # (example, prediction) -> the fields of a line of predictions
    ask: Callable = _ask  # (model, apply, batch) -> the scores that `loss` takes
    say: Callable | None = None  # in place of `answer`, all predictions at once


def named(name: str) -> Task:
    """The task that the command line calls so."""
    from train.finetuning.tasks import classification, question_answering, tagging, text_to_text

    return {
        "sentence": classification.SENTENCE,
        "pair": classification.PAIR,
        "similarity": classification.SIMILARITY,
        "tag": tagging.TAG,
        "question": question_answering.QUESTION,
        "rewrite": text_to_text.REWRITE,
    }[name]


def columns(settings: Sequence[str]) -> dict[str, str]:
    """What "label=Quality" and its like say; ValueError for anything else."""
    found = dict(setting.partition("=")[::2] for setting in settings)
    wrong = [name for name, column in found.items() if name not in ROLES or not column]
    if wrong:
        raise ValueError(
            f"--columns {wrong[0]}: give ROLE=COLUMN, where a role is {', '.join(ROLES)}"
        )
    return found


def prepared(task: Task, name: str, columns: dict) -> dict:
    """The splits of a dataset of TensorFlow Datasets: its train, its validation or its test."""
    from train.data.examples.tfds import from_tfds
    from train.data.sources.tfds import splits

    read = lambda split: from_tfds(name, split, task.prepared, columns)
    dev = next((split for split in ("validation", "test") if split in splits(name)), None)
    return {"train": read("train")} | ({"dev": read(dev)} if dev else {})


def split(data: dict, limit: int | None) -> dict:
    """The examples by name, where there is no "dev" with every tenth to train on for it; of those
    to train on no more than the limit, evenly spread.
    """
    if "dev" not in data:
        every = data["train"]
        data = data | {"train": [x for i, x in enumerate(every) if i % 10], "dev": every[::10]}
    count = len(data["train"])
    chosen = range(count) if limit is None or limit > count else _spread(count, limit)
    return data | {"train": [data["train"][place] for place in chosen]}


def _spread(count: int, few: int) -> list[int]:
    return [place * count // few for place in range(few)]
