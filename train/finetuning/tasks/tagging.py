"""The tag of every word of a sentence.

B batch  L length  C classes
"""

import jax
import jax.numpy as jnp

from train.data.examples.tagged import tagged
from train.finetuning.tasks.task import PADDING, Made, Task
from train.metrics import tasks
from zoo.inference.tag import Tag, best, pieces


def _labels(examples) -> tuple[str, ...]:
    """All labels in the order of the alphabet; ValueError where there are none."""
    if any(example.labels is None for example in examples):
        raise ValueError("the words have no tags: the data need a column of labels to learn from")
    return tuple(sorted({label for example in examples for label in example.labels}))


def _rows(tokenizer, example, labels, length, training) -> list[Made]:
    """A row a piece; ValueError for a tag that training never saw."""
    found = []
    for piece in pieces(tokenizer, list(example.words), length):
        target = [PADDING] * len(piece.row.tokens)
        for number, place in zip(piece.words, piece.places, strict=True):
            if example.labels is not None and example.labels[number] in labels:
                target[place] = labels.index(example.labels[number])
            elif example.labels is not None and training:
                raise ValueError(f"the tag {example.labels[number]!r} is none of those given")
        found.append(Made(piece.row, target, piece))
    return found


def _loss(logits_BLC, targets_BL, documents_BL):
    weights_BL = jnp.float32(targets_BL != PADDING)
    targets_BL1 = jnp.maximum(targets_BL, 0)[..., None]
    logs_BL = jnp.take_along_axis(jax.nn.log_softmax(logits_BLC), targets_BL1, -1)[..., 0]
    return -(weights_BL * logs_BL).sum(), weights_BL.sum()


def _answer(example, made, said, labels) -> list[Tag]:
    return best(labels, list(example.words), [each.part for each in made], said)


def _labels_of(prediction) -> list[str]:
    return [tag.label for tag in prediction]


def _score(examples, predictions, labels) -> dict:
    if examples[0].labels is None:
        return {}
    gold = [list(example.labels) for example in examples]
    return tasks.tags(gold, [_labels_of(prediction) for prediction in predictions])


def _written(example, prediction) -> dict:
    gold = {} if example.labels is None else {"labels": list(example.labels)}
    chances = [tag.probability for tag in prediction]
    told = {"prediction": _labels_of(prediction), "probabilities": chances}
    return {"words": list(example.words)} | gold | told


TAG = Task(
    head="token",
    read=lambda path, columns: tagged(path, (columns or {}).get("label")),
    prepared="tags",
    labels=_labels,
    rows=_rows,
    loss=_loss,
    answer=_answer,
    score=_score,
    chosen="f1",
    written=_written,
)
