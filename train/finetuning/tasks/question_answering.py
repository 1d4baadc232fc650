"""The answer to a question, a span of a text.

B batch  L length
"""

import jax
import jax.numpy as jnp

from train.data.examples.squad import questions
from train.finetuning.tasks.task import Made, Task
from train.metrics import tasks
from zoo.inference.answer import best, target, windows


def _rows(tokenizer, example, labels, length, training) -> list[Made]:
    """A row a window; the first of the known answers is what training asks for."""
    found = []
    for window in windows(tokenizer, example.question, example.context, length):
        places = (window.null, window.null)
        if example.answers:
            text, start = example.answers[0]
            start += len(text) - len(text.lstrip())
            places = target(window, start, start + len(text.strip()))
        found.append(Made(window.row, places, window))
    return found


def _loss(logits_BL2, targets_B2, documents_BL):
    weights_B = jnp.float32(documents_BL.any(-1))
    logits_BL2 = jnp.where(documents_BL[..., None] > 0, logits_BL2, -1e30)
    logs_BL2 = jax.nn.log_softmax(logits_BL2, axis=1)
    logs_B2 = jnp.take_along_axis(logs_BL2, targets_B2[:, None], 1)[:, 0]
    return -(weights_B * logs_B2.mean(-1)).sum(), weights_B.sum()


def _answer(example, made, said, labels) -> str:
    return best(example.context, [each.part for each in made], said).text


def _score(examples, predictions, labels) -> dict:
    if not examples[0].answers:
        return {}
    found = {example.id: text for example, text in zip(examples, predictions, strict=True)}
    return tasks.answers(examples, found)


def _written(example, prediction) -> dict:
    gold = {"answers": [text for text, _ in example.answers]} if example.answers else {}
    return {"id": example.id, "question": example.question} | gold | {"prediction": prediction}


QUESTION = Task(
    head="span",
    read=lambda path, columns: questions(path),
    prepared="questions",
    labels=lambda examples: None,
    rows=_rows,
    loss=_loss,
    answer=_answer,
    score=_score,
    chosen="f1",
    written=_written,
)
