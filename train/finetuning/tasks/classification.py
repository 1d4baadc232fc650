"""Classification and regression of a text or of a pair of texts.

B batch  L length  C classes
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from train.data.examples import tables, tfds
from train.data.examples.multi_label import LabelledText
from train.data.examples.tables import Examples, TextExample
from train.finetuning.tasks.task import (
    IGNORED,
    Apply,
    LabelledRow,
    Labels,
    Target,
    is_real,
    labels_of,
    outputs,
    run_model,
    weight_of,
)
from train.metrics import tasks
from train.objectives.cross_entropy import classify
from train.objectives.objective import Term
from zoo.checkpoints.load import Loaded
from zoo.inference.batching import softmax
from zoo.inference.classify import encode, windows
from zoo.inference.prompts import require_tokenizer
from zoo.tokenizers import sides

NUMBER = ("score",)  # the single label of a regression model


@dataclass(frozen=True, kw_only=True)
class TextTask:
    """What all tasks for a text or a pair of texts share.

    Attributes:
      stride: Read longer texts in windows that begin so many tokens apart, each of which is a row;
        the prediction is made from the mean of their logits. None: truncate them.
    """

    roles: ClassVar[tuple[str, ...]] = ("text", "pair", "label")

    head: str = "classification"
    stride: int | None = None

    def read(
        self, path: Path, columns: Mapping[str, str], skipped: list[str] | None = None
    ) -> Examples:
        return tables.read_texts(path, columns, skipped)

    def read_tfds(self, name: str, split: str, columns: Mapping[str, str]) -> Examples:
        return tfds.read_texts(name, split, columns)

    def forward(self, model: nn.Module, apply: Apply, batch: Mapping[str, jax.Array]) -> jax.Array:
        return run_model(apply, batch)

    def _merged(self, output: jax.Array) -> jax.Array:
        """Return the logits of each example, [..., C], given those of its rows: the same."""
        return output

    def _rows(
        self,
        loaded: Loaded,
        example: TextExample | LabelledText,
        target: Target,
        max_length: int,
    ) -> list[LabelledRow]:
        """Return the rows of the texts of an example, all with the same target."""
        texts, source = (example.text, example.pair), sides(require_tokenizer(loaded)).source
        if self.stride is None:
            return [LabelledRow(encode(source, *texts, max_length=max_length), target)]
        rows = windows(source, *texts, max_length=max_length, stride=self.stride)
        return [LabelledRow(row, target) for row in rows]

    def _logits(
        self, loaded: Loaded, rows: Sequence[Sequence[LabelledRow]], batch_size: int
    ) -> list[np.ndarray]:
        """Return the mean logits of the windows of each example."""
        return [np.mean(parts, 0) for parts in outputs(loaded, rows, batch_size)]


@dataclass(frozen=True, kw_only=True)
class Classification(TextTask):
    """Classification of a text or of a pair of texts; predictions are label -> probability."""

    metric: str = "accuracy"
    class_weights: tuple[float, ...] = ()
    label_smoothing: float = 0.0

    def classes(self, example: TextExample) -> tuple[str, ...]:
        return () if example.label is None else (example.label,)

    def labels(self, examples: Sequence[TextExample], names: Sequence[str]) -> Labels:
        """Return the given names, or all labels in alphabetical order.

        Raises:
          ValueError: If there is only one label, or a label has a single example.
        """
        if names:
            return tuple(names)
        labels, counts = np.unique([example.label for example in examples], return_counts=True)
        if len(labels) < 2:
            raise ValueError(f"all examples have the label {labels[0]}: there is nothing to learn")
        single = [str(name) for name, count in zip(labels, counts, strict=True) if count == 1]
        if single:
            raise ValueError(
                f"the label {single[0]} has one example, which is too few to learn from: add more "
                "or remove it; for numeric labels use --task regression"
            )
        return tuple(str(name) for name in labels)

    def rows(
        self, loaded: Loaded, example: TextExample, labels: Labels, max_length: int
    ) -> list[LabelledRow]:
        if example.label not in (None, *labels):
            raise ValueError(
                f"the label {example.label!r} is not a label of the model: {', '.join(labels)}"
            )
        target = IGNORED if example.label is None else labels.index(example.label)
        return self._rows(loaded, example, target, max_length)

    def weights(self, row: Mapping[str, jax.Array]) -> jax.Array:
        labelled = row["targets"] != IGNORED
        return is_real(row) * labelled * weight_of(self.class_weights, row["targets"])

    def loss(self, output: jax.Array, batch: Mapping[str, jax.Array], weights: jax.Array) -> Term:
        """Return the cross-entropy of logits, [..., C], and targets, [...]."""
        targets = jnp.maximum(batch["targets"], 0)
        return classify(self._merged(output), targets, weights, self.label_smoothing)

    def distributions(self, output: jax.Array, batch: Mapping[str, jax.Array]) -> jax.Array:
        return self._merged(output)[:, None]

    def distribution_weights(self, row: Mapping[str, jax.Array]) -> jax.Array:
        return is_real(row)[None]

    def predict(
        self,
        loaded: Loaded,
        examples: Sequence[TextExample],
        rows: Sequence[Sequence[LabelledRow]],
        batch_size: int,
    ) -> list[dict[str, float]]:
        labels = labels_of(loaded.model)
        return [
            dict(zip(labels, softmax(logits_C).tolist(), strict=True))
            for logits_C in self._logits(loaded, rows, batch_size)
        ]

    def score(
        self,
        examples: Sequence[TextExample],
        predictions: Sequence[dict[str, float]],
        labels: Labels,
    ) -> dict[str, float]:
        """Return the metrics, including "collapsed" if all predictions are the same class."""
        gold = [labels.index(example.label) for example in examples]
        predicted = [labels.index(_argmax(prediction)) for prediction in predictions]
        collapsed = {"collapsed": 1.0} if tasks.collapsed(predicted) else {}
        return tasks.classification(gold, predicted, labels) | collapsed

    def to_json(self, example: TextExample, prediction: dict[str, float]) -> dict:
        predicted = {"prediction": _argmax(prediction), "probabilities": prediction}
        return _to_json(example) | predicted


@dataclass(frozen=True, kw_only=True)
class Regression(TextTask):
    """Regression for a text or a pair, such as similarity: a classifier with a single label."""

    metric: str = "spearman"

    def classes(self, example: TextExample) -> tuple[str, ...]:
        return ()

    def labels(self, examples: Sequence[TextExample], names: Sequence[str]) -> Labels:
        """Return the single label."""
        return tuple(names) or NUMBER

    def rows(
        self, loaded: Loaded, example: TextExample, labels: Labels, max_length: int
    ) -> list[LabelledRow]:
        try:
            target = math.nan if example.label is None else float(example.label)
            if example.label is not None and not math.isfinite(target):
                raise ValueError("not finite")
        except ValueError:
            raise ValueError(
                f"the label {example.label!r} is not a number: --task regression needs numbers"
            ) from None
        return self._rows(loaded, example, target, max_length)

    def weights(self, row: Mapping[str, jax.Array]) -> jax.Array:
        return is_real(row) * jnp.isfinite(row["targets"])

    def loss(self, output: jax.Array, batch: Mapping[str, jax.Array], weights: jax.Array) -> Term:
        """Return the squared error between the outputs, [..., 1], and the targets, [...]."""
        errors = jnp.where(weights > 0, self._merged(output)[..., 0] - batch["targets"], 0)
        return Term((weights * jnp.square(errors)).sum(), None)

    def distributions(self, output: jax.Array, batch: Mapping[str, jax.Array]) -> jax.Array:
        return self._merged(output)[:, None]

    def distribution_weights(self, row: Mapping[str, jax.Array]) -> jax.Array:
        return is_real(row)[None]

    def predict(
        self,
        loaded: Loaded,
        examples: Sequence[TextExample],
        rows: Sequence[Sequence[LabelledRow]],
        batch_size: int,
    ) -> list[float]:
        return [float(output[0]) for output in self._logits(loaded, rows, batch_size)]

    def score(
        self, examples: Sequence[TextExample], predictions: Sequence[float], labels: Labels
    ) -> dict[str, float]:
        numbers = [float(example.label or "nan") for example in examples]
        return tasks.regression(numbers, predictions)

    def to_json(self, example: TextExample, prediction: float) -> dict:
        return _to_json(example) | {"prediction": prediction}


def _argmax(prediction: dict[str, float]) -> str:
    return max(prediction, key=prediction.__getitem__)


def _to_json(example: TextExample) -> dict:
    pair = {} if example.pair is None else {"pair": example.pair}
    return {"text": example.text} | pair | {"label": example.label}
