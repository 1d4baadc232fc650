"""Judges a fine-tuned model on the examples of a file."""

import json
from typing import NamedTuple

import zoo
from train.finetuning import loop, transfer
from train.finetuning.tasks import task
from zoo import registry
from zoo.inference.batching import DOES


class Judged(NamedTuple):
    """Figures, a line of JSON an example, and the true and told classes with their names."""

    figures: dict[str, float]
    lines: list[str]
    classes: tuple[list[str], list[str], tuple[str, ...]]
    remarks: list[str]


def judge(folder, path, task: str | None = None, columns=(), batch: int = 32) -> Judged:
    """What a model says of every example of a file, in their order, and how good that is.

    Raises ValueError where the model cannot do the task, or a label is none of the model's.
    """
    model, params, tokenizer = zoo.load(folder)
    chosen = task.named(task or _task(model, path, columns))
    read = chosen.read(path, task.columns(columns))
    start = transfer.Start(model, params, tokenizer, [])
    made = loop.rows(chosen, start, read.examples, model.config.max_length, False)
    said = loop.answers(start, chosen, read.examples, made, batch)
    labels = loop.labels_of(start)
    figures = chosen.score(read.examples, said, labels)
    written = [chosen.written(*each) for each in zip(read.examples, said, strict=True)]
    lines = [json.dumps(fields, ensure_ascii=False) for fields in written]
    return Judged(figures, lines, _classes(written, labels), [*read.remarks])


def _task(model, path, columns) -> str:
    """The name of the task that a model was made for, and whose data a file has."""
    made = registry.named(registry.name_of(model)).TASKS
    head = next((name for name, cls in made.items() if type(model) is cls), None)
    if head is None:
        raise ValueError(f"a {type(model).__name__} was fine-tuned to nothing: see `zoo finetune`")
    if head != "text":
        return DOES[head][1]
    if len(model.config.labels) == 1:
        return "similarity"
    try:
        task.named("pair").read(path, task.columns(columns))
    except ValueError:
        return "sentence"
    return "pair"


def _classes(written, labels):
    """What is true and what was told, example by example or word by word, and the names."""
    gold, told = [], []
    for fields in written:
        true = fields.get("label", fields.get("labels"))
        if isinstance(true, list):
            gold, told = gold + true, told + fields["prediction"]
        elif true is not None:
            gold, told = [*gold, true], [*told, fields["prediction"]]
    return gold, told, labels
