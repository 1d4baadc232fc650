"""Multiple choice: which ending of a text is right (Zellers et al. 2018, SWAG).

B batch  C choices
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import jax
import numpy as np
from flax import linen as nn

from train.data.examples import choices, tfds
from train.data.examples.choices import Choice
from train.data.examples.tables import Examples
from train.finetuning.tasks.task import Apply, LabelledRow, Labels, is_real, outputs, run_model
from train.objectives.cross_entropy import classify
from train.objectives.objective import Term
from zoo.checkpoints.load import Loaded
from zoo.inference.batching import softmax
from zoo.inference.classify import encode
from zoo.inference.prompts import require_tokenizer
from zoo.tokenizers import sides


@dataclass(frozen=True)
class MultipleChoice:
    """Multiple choice; a prediction is the probability of every ending."""

    roles: ClassVar[tuple[str, ...]] = ("text", "label")

    head: str = "multiple-choice"
    metric: str = "accuracy"
    label_smoothing: float = 0.0

    def read(
        self, path: Path, columns: Mapping[str, str], skipped: list[str] | None = None
    ) -> Examples:
        return choices.read_choices(path, columns, skipped)

    def read_tfds(self, name: str, split: str, columns: Mapping[str, str]) -> Examples:
        return tfds.read_choices(name, split, columns)

    def classes(self, example: Choice) -> tuple[str, ...]:
        return ()

    def labels(self, examples: Sequence[Choice], names: Sequence[str]) -> Labels:
        return ()

    def rows(
        self, loaded: Loaded, example: Choice, labels: Labels, max_length: int
    ) -> list[LabelledRow]:
        """Return one row of tokens per ending, in a single labelled row."""
        source = sides(require_tokenizer(loaded)).source
        rows = [
            encode(source, example.context, ending, max_length=max_length)
            for ending in example.endings
        ]
        return [LabelledRow(rows, example.label)]

    def forward(self, model: nn.Module, apply: Apply, batch: Mapping[str, jax.Array]) -> jax.Array:
        return run_model(apply, batch)

    def weights(self, row: Mapping[str, jax.Array]) -> jax.Array:
        return is_real(row)

    def loss(self, output: jax.Array, batch: Mapping[str, jax.Array], weights: jax.Array) -> Term:
        """Return the cross-entropy of logits_BC and targets_B."""
        return classify(output, batch["targets"], weights, self.label_smoothing)

    def predict(
        self,
        loaded: Loaded,
        examples: Sequence[Choice],
        rows: Sequence[Sequence[LabelledRow]],
        batch_size: int,
    ) -> list[list[float]]:
        return [softmax(logits_C).tolist() for (logits_C,) in outputs(loaded, rows, batch_size)]

    def score(
        self, examples: Sequence[Choice], predictions: Sequence[list[float]], labels: Labels
    ) -> dict[str, float]:
        right = [
            int(np.argmax(prediction)) == example.label
            for example, prediction in zip(examples, predictions, strict=True)
        ]
        return {"accuracy": float(np.mean(right))}

    def to_json(self, example: Choice, prediction: list[float]) -> dict:
        return {
            "context": example.context,
            "endings": list(example.endings),
            "target": example.label,
            "prediction": int(np.argmax(prediction)),
            "probabilities": prediction,
        }
