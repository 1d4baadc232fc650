"""Extractive question answering: the span of a text that answers a question.

B batch  L length
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from train.data.examples import squad, tfds
from train.data.examples.squad import Question
from train.data.examples.tables import Examples
from train.finetuning.tasks.task import Apply, LabelledRow, Labels, is_real, outputs, run_model
from train.metrics import tasks
from train.objectives.objective import Term
from zoo.checkpoints.load import Loaded
from zoo.inference.answer import STRIDE, Answer, answer_or_none, best_answer, target, windows
from zoo.inference.prompts import require_tokenizer
from zoo.tokenizers import sides


class Prediction(NamedTuple):
    """The best answer to a question, and the threshold above which there is none."""

    best: Answer
    null_threshold: float | None

    @property
    def text(self) -> str:
        """The text of the answer, or "" for none."""
        return answer_or_none(self.best, self.null_threshold).text


@dataclass(frozen=True)
class QuestionAnswering:
    """Extractive question answering, where a question may have no answer (SQuAD 2.0)."""

    roles: ClassVar[tuple[str, ...]] = ()

    head: str = "question-answering"
    metric: str = "f1"
    stride: int = STRIDE

    def read(
        self, path: Path, columns: Mapping[str, str], skipped: list[str] | None = None
    ) -> Examples:
        if skipped is not None:
            raise ValueError("--skip-invalid does not work with --task question-answering")
        return squad.read_questions(path, columns.get("group"))

    def read_tfds(self, name: str, split: str, columns: Mapping[str, str]) -> Examples:
        return tfds.read_questions(name, split, columns.get("group"))

    def classes(self, example: Question) -> tuple[str, ...]:
        """Return whether the question has an answer."""
        return ("answer",) if example.answers else ("no answer",)

    def labels(self, examples: Sequence[Question], names: Sequence[str]) -> Labels:
        """Return no labels.

        Raises:
          ValueError: If no question has an answer.
        """
        if not any(example.answers for example in examples):
            raise ValueError("no question has an answer: training data need answers")
        return ()

    def rows(
        self, loaded: Loaded, example: Question, labels: Labels, max_length: int
    ) -> list[LabelledRow]:
        """Return one row per window; the target is the first answer."""
        rows = []
        source = sides(require_tokenizer(loaded)).source
        for window in windows(source, example.question, example.context, max_length, self.stride):
            span = (window.null, window.null)
            if example.answers:
                text, start = example.answers[0]
                start += len(text) - len(text.lstrip())
                span = target(window, start, start + len(text.strip()))
            rows.append(LabelledRow(window.row, span, window))
        return rows

    def forward(self, model: nn.Module, apply: Apply, batch: Mapping[str, jax.Array]) -> jax.Array:
        return run_model(apply, batch)

    def weights(self, row: Mapping[str, jax.Array]) -> jax.Array:
        return is_real(row)

    def loss(self, output: jax.Array, batch: Mapping[str, jax.Array], weights: jax.Array) -> Term:
        """Return the cross-entropy of logits_BL2 and targets_B2, averaged over start and end."""
        logits_BL2 = jnp.where(batch["documents"][..., None] > 0, output, -1e30)
        logs_BL2 = jax.nn.log_softmax(logits_BL2, axis=1)
        logs_B2 = jnp.take_along_axis(logs_BL2, batch["targets"][:, None], 1)[:, 0]
        right_B = (logits_BL2.argmax(1) == batch["targets"]).all(-1)
        return Term(-(weights * logs_B2.mean(-1)).sum(), (weights * right_B).sum())

    def distributions(self, output: jax.Array, batch: Mapping[str, jax.Array]) -> jax.Array:
        """Return the logits of both ends over the tokens, [B, 2, L]."""
        return jnp.where(batch["documents"][..., None] > 0, output, -1e30).swapaxes(1, 2)

    def distribution_weights(self, row: Mapping[str, jax.Array]) -> jax.Array:
        return jnp.broadcast_to(is_real(row), 2)

    def predict(
        self,
        loaded: Loaded,
        examples: Sequence[Question],
        rows: Sequence[Sequence[LabelledRow]],
        batch_size: int,
    ) -> list[Prediction]:
        logits = outputs(loaded, rows, batch_size)
        threshold = loaded.model.config.null_threshold
        best = [
            best_answer(example.context, [row.part for row in parts], logits_L2)
            for example, parts, logits_L2 in zip(examples, rows, logits, strict=True)
        ]
        return [Prediction(answer, threshold) for answer in best]

    def score(
        self, examples: Sequence[Question], predictions: Sequence[Prediction], labels: Labels
    ) -> dict[str, float]:
        """Return the metrics.

        If questions have no answer and the model has no threshold, that with the best F1 is used
        and returned as "null_threshold".
        """
        if not any(example.answers for example in examples):
            return {}
        chosen = {}
        if predictions[0].null_threshold is None and not all(x.answers for x in examples):
            threshold = tasks.best_null_threshold(examples, [x.best for x in predictions])
            predictions = [Prediction(best, threshold) for best, _ in predictions]
            chosen = {"null_threshold": threshold}
        by_id = {one.id: x.text for one, x in zip(examples, predictions, strict=True)}
        return tasks.question_answering(examples, by_id) | chosen

    def to_json(self, example: Question, prediction: Prediction) -> dict:
        answers = {"answers": [text for text, _ in example.answers]} if example.answers else {}
        question = {"id": example.id, "question": example.question}
        return question | answers | {"prediction": prediction.text}
