"""Distillation of a fine-tuned teacher into a smaller student, on the examples of a task.

Hinton et al. 2015, https://arxiv.org/abs/1503.02531. Tang et al. 2019,
https://arxiv.org/abs/1903.12136, distill BERT into an LSTM by the squared error of the logits. The
teacher reads every training example once, before the training; its outputs are part of the rows.

Text-to-text tasks distill sequences instead (Kim and Rush 2016, https://arxiv.org/abs/1606.07947):
the student learns the texts that its teacher generates.

B batch  N distributions of a row  L length  C classes
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from train import unused
from train.data.examples.tables import TextExample
from train.finetuning.evaluate import task_for
from train.finetuning.objective import TaskObjective
from train.finetuning.settings import Distillation
from train.finetuning.tasks.task import (
    Distillable,
    LabelledRow,
    Task,
    encode,
    labels_of,
    outputs,
    rows_of,
)
from train.objectives.objective import Example, Term, objective
from zoo.checkpoints.load import Loaded, load
from zoo.inference.translate import translate
from zoo.models.fasttext import FastTextClassifier
from zoo.tokenizers import fingerprint


@objective
class DistilledTask(TaskObjective):
    """The loss of the labels, and that of the outputs of a teacher, which the rows have.

    Attributes:
      distillation: How the student learns from the teacher.
    """

    distillation: Distillation = Distillation()

    @property
    def factors(self) -> Mapping[str, float]:
        """The factor of each term."""
        weight = self.distillation.teacher_weight
        return {**super().factors, "task": 1 - weight, "teacher": weight}

    def corrupt(self, key: chex.PRNGKey, example: Example) -> Example:
        """Return the row with the weights of its predictions, labelled or not."""
        row = super().corrupt(key, example)
        weights = self._distillable.distribution_weights(example)
        return row | {"weights": row["weights"] | {"teacher": weights}}

    def terms(self, output: Any, batch: Example) -> dict[str, Term]:
        """Return {"task": Term, "teacher": Term}; a prediction is right if the teacher agrees."""
        student_BNC = self._distillable.distributions(output, batch)
        teacher_BNC = self._distillable.distributions(batch["teacher"], batch)
        weights_BN = batch["weights"]["teacher"]
        if self.distillation.distillation_loss == "squared-error" or student_BNC.shape[-1] == 1:
            losses_BN = _squared_error(student_BNC, teacher_BNC)
        else:
            losses_BN = _divergence(student_BNC, teacher_BNC, self.distillation.temperature)
        agree_BN = student_BNC.argmax(-1) == teacher_BNC.argmax(-1)
        teacher = Term((weights_BN * losses_BN).sum(), (weights_BN * agree_BN).sum())
        return super().terms(output, batch) | {"teacher": teacher}

    @property
    def _distillable(self) -> Distillable:
        assert isinstance(self.task, Distillable), "checked when the teacher was loaded"
        return self.task


def _divergence(student_BNC: jax.Array, teacher_BNC: jax.Array, temperature: float) -> jax.Array:
    """Return T ** 2 * KL(teacher || student) at a temperature T (section 2 of Hinton et al.)."""
    log_p_BNC = jax.nn.log_softmax(student_BNC / temperature)
    log_q_BNC = jax.nn.log_softmax(teacher_BNC / temperature)
    return temperature**2 * (jnp.exp(log_q_BNC) * (log_q_BNC - log_p_BNC)).sum(-1)


def _squared_error(student_BNC: jax.Array, teacher_BNC: jax.Array) -> jax.Array:
    """Return the mean squared difference of the logits that are not masked."""
    real_BNC = teacher_BNC > -1e29
    error_BNC = jnp.where(real_BNC, student_BNC - teacher_BNC, 0)
    return jnp.square(error_BNC).sum(-1) / jnp.maximum(real_BNC.sum(-1), 1)


def load_teacher(folder: str | Path, task: Task) -> Loaded:
    """Return a teacher for a task.

    Raises:
      ValueError: If the folder holds a model for another task, or the task or the model cannot be
        distilled.
    """
    teacher = load(folder)
    if isinstance(teacher.model, FastTextClassifier):
        raise ValueError(
            f"--teacher {folder} is a fastText classifier, which cannot be a teacher: use another "
            "classifier"
        )
    taught = task_for(teacher.model)
    if taught.head != task.head or taught.metric != task.metric:
        raise ValueError(
            f"--teacher {folder} was fine-tuned for another task: use one fine-tuned for this task"
        )
    if task.head != "text-to-text" and not isinstance(task, Distillable):
        raise ValueError("--teacher does not support this task")
    return teacher


def unlabelled(path: Path, task: Task) -> list[TextExample]:
    """Return the texts of a file without labels: one per line, or pairs with a tab in between.

    Raises:
      ValueError: If the task is not classification or regression, or the file has no texts.
    """
    if task.head not in ("classification", "similarity"):
        raise ValueError("--unlabelled needs --task classification or regression")
    lines = [line.split("\t") for line in path.read_text("utf-8").splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"--unlabelled {path} has no texts")
    if wrong := [number for number, line in enumerate(lines, 1) if len(line) > 2]:
        raise ValueError(f"--unlabelled {path}: text {wrong[0]} has more than one tab")
    return [TextExample(line[0], line[1] if len(line) == 2 else None, None) for line in lines]


def examples(task: Task, teacher: Loaded, labelled: Sequence, distillation: Distillation) -> list:
    """Return what the student is trained on: labelled examples, and unlabelled ones if there are.

    In text-to-text tasks, the labels are the texts that the teacher generates.
    """
    if distillation.unlabelled is not None:
        return [*labelled, *unlabelled(distillation.unlabelled, task)]
    if task.head == "text-to-text":
        losses = ("teacher_weight", "distillation_loss", "temperature")
        unused.refuse(distillation, losses, "is not for text to text, which learns the texts")
        texts = translate(teacher, [example.text for example in labelled], beams=1)
        pairs = zip(labelled, texts, strict=True)
        return [example._replace(label=text) for example, text in pairs]
    return list(labelled)


def teacher_outputs(
    task: Task,
    teacher: Loaded,
    student: Loaded,
    examples: Sequence,
    rows: Sequence[Sequence[LabelledRow]],
) -> list[np.ndarray]:
    """Return the output of the teacher for every row of the student, [C] or [L, C].

    If their tokenizers differ, the teacher encodes the examples itself, which is possible where a
    text has a single output.

    Raises:
      ValueError: If they have other classes, or if tokens with outputs are not the same.
    """
    order = _order(labels_of(teacher.model), labels_of(student.model))
    assert teacher.tokenizer is not None
    assert student.tokenizer is not None
    same_tokens = fingerprint(teacher.tokenizer) == fingerprint(student.tokenizer)
    longest = teacher.model.config.max_length
    if same_tokens and all(len(row.tokens) <= longest for parts in rows for row in rows_of(parts)):
        by_example = outputs(teacher, rows, 32)
        return [output[..., order] for parts in by_example for output in parts]
    unlabelled = [_without_label(example) for example in examples]
    by_example = outputs(teacher, encode(task, teacher, unlabelled, longest), 32)
    if by_example[0][0].ndim > 1:
        raise ValueError(
            "--teacher has another tokenizer than the student, but this task has an output for "
            "every token: use a student with the teacher's tokenizer"
        )
    return [
        np.mean(outputs, 0)[order]
        for outputs, parts in zip(by_example, rows, strict=True)
        for _ in parts
    ]


def stack(outputs: Sequence[np.ndarray], longest: int) -> np.ndarray:
    """Return outputs as one array, [N + 1, C] or [N + 1, longest, C]; the last row is empty."""
    shape = outputs[0].shape[-1:] if outputs[0].ndim == 1 else (longest, outputs[0].shape[-1])
    stacked = np.zeros((len(outputs) + 1, *shape), np.float32)
    for number, output in enumerate(outputs):
        if output.ndim == 1:
            stacked[number] = output
        else:
            stacked[number, : len(output)] = output
    return stacked


def _order(teacher: Sequence[str], student: Sequence[str]) -> Sequence[int] | slice:
    """Return the positions of the student's classes in the teacher's output."""
    if not student:
        return slice(None)
    if sorted(teacher) != sorted(student):
        raise ValueError(
            f"--teacher has the labels {', '.join(teacher)}, but the student "
            f"{', '.join(student)}: they must be equal"
        )
    return [list(teacher).index(label) for label in student]


def _without_label(example):
    return example._replace(label=None) if hasattr(example, "label") else example
