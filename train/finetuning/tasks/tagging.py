"""Tagging: a label for every word of a sentence.

B batch  L length  C classes
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from train.data.examples import tagged, tfds
from train.data.examples.tables import Examples
from train.data.examples.tagged import TaggedSentence
from train.finetuning.tasks.task import (
    IGNORED,
    Apply,
    LabelledRow,
    Labels,
    labels_of,
    outputs,
    run_model,
    weight_of,
)
from train.metrics import tasks
from train.objectives.cross_entropy import classify
from train.objectives.objective import Term
from zoo.checkpoints.load import Loaded
from zoo.inference.tag import Tag, best_tags
from zoo.inference.words import read_words


class TaggedTask:
    """What all tasks for the words of a sentence share; a prediction is a list of tags."""

    roles: ClassVar[tuple[str, ...]] = ("text", "label")

    def read(
        self, path: Path, columns: Mapping[str, str], skipped: list[str] | None = None
    ) -> Examples:
        return tagged.read_tagged(path, columns, skipped)

    def read_tfds(self, name: str, split: str, columns: Mapping[str, str]) -> Examples:
        return tfds.read_tagged(name, split, columns)

    def classes(self, example: TaggedSentence) -> tuple[str, ...]:
        return example.labels or ()

    def labels(self, examples: Sequence[TaggedSentence], names: Sequence[str]) -> Labels:
        """Return the given names, or all labels in alphabetical order.

        Raises:
          ValueError: If the examples have no labels, or a label that is not in `names`.
        """
        if any(example.labels is None for example in examples):
            raise ValueError("the words have no labels: training data need a column of labels")
        labels = sorted({label for example in examples for label in example.labels or ()})
        if missing := [label for label in labels if names and label not in names]:
            raise ValueError(f"the label {missing[0]!r} of the data is not one of --labels")
        return tuple(names or labels)

    def rows(
        self, loaded: Loaded, example: TaggedSentence, labels: Labels, max_length: int
    ) -> list[LabelledRow]:
        """Return one row per piece of the sentence; labels that the model lacks are ignored."""
        rows = []
        for piece in read_words(loaded, example.words, max_length):
            target = [IGNORED] * len(piece.row.tokens)
            for number, position in zip(piece.words, piece.positions, strict=True):
                if example.labels is not None and example.labels[number] in labels:
                    target[position] = labels.index(example.labels[number])
            rows.append(LabelledRow(piece.row, target, piece))
        return rows

    def forward(self, model: nn.Module, apply: Apply, batch: Mapping[str, jax.Array]) -> jax.Array:
        return run_model(apply, batch)

    def predict(
        self,
        loaded: Loaded,
        examples: Sequence[TaggedSentence],
        rows: Sequence[Sequence[LabelledRow]],
        batch_size: int,
    ) -> list[list[Tag]]:
        labels, logits = labels_of(loaded.model), outputs(loaded, rows, batch_size)
        return [
            best_tags(labels, example.words, [row.part for row in parts], logits_LC)
            for example, parts, logits_LC in zip(examples, rows, logits, strict=True)
        ]

    def score(
        self,
        examples: Sequence[TaggedSentence],
        predictions: Sequence[Sequence[Tag]],
        labels: Labels,
    ) -> dict[str, float]:
        if examples[0].labels is None:
            return {}
        predicted = [[tag.label for tag in tags] for tags in predictions]
        return tasks.tagging([list(example.labels or ()) for example in examples], predicted)

    def to_json(self, example: TaggedSentence, prediction: Sequence[Tag]) -> dict:
        labels = {} if example.labels is None else {"labels": list(example.labels)}
        predicted = {
            "prediction": [tag.label for tag in prediction],
            "probabilities": [tag.probability for tag in prediction],
        }
        return {"words": list(example.words)} | labels | predicted


@dataclass(frozen=True)
class Tagging(TaggedTask):
    """Tagging of the words of a sentence, each by itself."""

    head: str = "tagging"
    metric: str = "f1"
    class_weights: tuple[float, ...] = ()
    label_smoothing: float = 0.0

    def weights(self, row: Mapping[str, jax.Array]) -> jax.Array:
        is_real = jnp.float32(row["targets"] != IGNORED)
        return is_real * weight_of(self.class_weights, jnp.maximum(row["targets"], 0))

    def loss(self, output: jax.Array, batch: Mapping[str, jax.Array], weights: jax.Array) -> Term:
        """Return the cross-entropy of logits_BLC and targets_BL."""
        return classify(output, jnp.maximum(batch["targets"], 0), weights, self.label_smoothing)

    def distributions(self, output: jax.Array, batch: Mapping[str, jax.Array]) -> jax.Array:
        return output

    def distribution_weights(self, row: Mapping[str, jax.Array]) -> jax.Array:
        return jnp.float32(row["documents"] > 0)
