"""The class of a sentence or of a pair, and how similar two sentences are.

B batch  L length  C classes
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from train.data.examples.tables import texts
from train.finetuning.tasks.task import Made, Task
from train.metrics import tasks
from train.objectives.cross_entropy import classify
from zoo.inference.classify import encode

NUMBER = ("score",)  # the one label of a model that predicts a number


def _labels(examples) -> tuple[str, ...]:
    """All labels in the order of the alphabet; ValueError where one has a single example."""
    names, counts = np.unique([example.label for example in examples], return_counts=True)
    if len(names) < 2:
        raise ValueError(f"all examples have the label {names[0]}: there is nothing to tell apart")
    single = [str(name) for name, count in zip(names, counts, strict=True) if count == 1]
    if single:
        raise ValueError(
            f"the label {single[0]} has one example, which teaches nothing: give more or leave it "
            "out; where the labels are numbers, the task is similarity"
        )
    return tuple(str(name) for name in names)


def _rows(target, tokenizer, example, labels, length, training) -> list[Made]:
    row = encode(tokenizer, example.text, example.pair, length=length)
    return [Made(row, 0 if example.label is None else target(example.label, labels))]


def _class(label: str, labels) -> int:
    if label not in labels:
        raise ValueError(f"the label {label!r} was never trained: there are {', '.join(labels)}")
    return labels.index(label)


def _number(label: str, labels) -> float:
    try:
        return float(label)
    except ValueError:
        raise ValueError(f"{label!r} is no number: similarity wants one a line") from None


def _class_loss(logits_BC, targets_B, documents_BL):
    weights_B = jnp.float32(documents_BL.any(-1))
    return classify(logits_BC, targets_B, weights_B).loss, weights_B.sum()


def _number_loss(scores_B1, targets_B, documents_BL):
    weights_B = jnp.float32(documents_BL.any(-1))
    return (weights_B * jnp.square(scores_B1[:, 0] - targets_B)).sum(), weights_B.sum()


def _class_answer(example, made, said, labels) -> dict:
    chances_C = np.asarray(jax.nn.softmax(said[0]))
    return {name: float(chance) for name, chance in zip(labels, chances_C, strict=True)}


def _number_answer(example, made, said, labels) -> float:
    return float(said[0][0])


def _best(prediction: dict) -> str:
    return max(prediction, key=prediction.get)


def _class_score(examples, predictions, labels) -> dict:
    gold = [labels.index(example.label) for example in examples]
    found = [labels.index(_best(prediction)) for prediction in predictions]
    collapsed = {"collapsed": 1.0} if tasks.collapsed(found) else {}
    return tasks.classes(gold, found, labels) | collapsed


def _number_score(examples, predictions, labels) -> dict:
    return tasks.similarity([float(example.label) for example in examples], predictions)


def _text(example) -> dict:
    pair = {} if example.pair is None else {"pair": example.pair}
    return (
        {"text": example.text} | pair | ({} if example.label is None else {"label": example.label})
    )


def _class_written(example, prediction) -> dict:
    return _text(example) | {"prediction": _best(prediction), "probabilities": prediction}


def _number_written(example, prediction) -> dict:
    return _text(example) | {"prediction": prediction}


def _read(roles, path, columns):
    return texts(path, roles, columns)


SENTENCE = Task(
    head="text",
    read=partial(_read, ("text", "label")),
    prepared="texts",
    labels=_labels,
    rows=partial(_rows, _class),
    loss=_class_loss,
    answer=_class_answer,
    score=_class_score,
    chosen="accuracy",
    written=_class_written,
)
PAIR = SENTENCE._replace(read=partial(_read, ("text", "pair", "label")), prepared="pairs")
SIMILARITY = PAIR._replace(
    labels=lambda examples: NUMBER,
    rows=partial(_rows, _number),
    loss=_number_loss,
    answer=_number_answer,
    score=_number_score,
    chosen="spearman",
    written=_number_written,
)
