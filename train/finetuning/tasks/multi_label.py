"""Classification of a text or of a pair of texts that may have any number of labels.

B batch  C classes
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp

from train.data.examples import multi_label, tfds
from train.data.examples.multi_label import LabelledText
from train.data.examples.tables import Examples
from train.finetuning.tasks.classification import TextTask
from train.finetuning.tasks.task import LabelledRow, Labels, is_real, labels_of
from train.metrics import tasks
from train.objectives.cross_entropy import classify_each
from train.objectives.objective import Term
from zoo.checkpoints.load import Loaded
from zoo.inference.batching import sigmoid


@dataclass(frozen=True, kw_only=True)
class MultiLabel(TextTask):
    """Classification with independent labels; a prediction is label -> probability.

    Attributes:
      class_weights: The weight of each label where a text has it; it is 1 where a text lacks it.
    """

    head: str = "multi-label"
    metric: str = "micro_f1"
    class_weights: tuple[float, ...] = ()
    label_smoothing: float = 0.0

    def read(
        self, path: Path, columns: Mapping[str, str], skipped: list[str] | None = None
    ) -> Examples:
        return multi_label.read_labelled_texts(path, columns, skipped)

    def read_tfds(self, name: str, split: str, columns: Mapping[str, str]) -> Examples:
        return tfds.read_labelled_texts(name, split, columns)

    def classes(self, example: LabelledText) -> tuple[str, ...]:
        return example.labels

    def labels(self, examples: Sequence[LabelledText], names: Sequence[str]) -> Labels:
        """Return the given names, or all labels in alphabetical order.

        Raises:
          ValueError: If there are no labels, or a label has a single example.
        """
        if names:
            return tuple(names)
        counts = Counter(label for example in examples for label in example.labels)
        if not counts:
            raise ValueError("no example has a label: there is nothing to learn")
        single = sorted(label for label, count in counts.items() if count == 1)
        if single:
            raise ValueError(
                f"the label {single[0]} has one example, which is too few to learn from: add more "
                "or remove it"
            )
        return tuple(sorted(counts))

    def rows(
        self, loaded: Loaded, example: LabelledText, labels: Labels, max_length: int
    ) -> list[LabelledRow]:
        if unknown := [label for label in example.labels if label not in labels]:
            raise ValueError(
                f"the label {unknown[0]!r} is not a label of the model: {', '.join(labels)}"
            )
        target = tuple(int(label in example.labels) for label in labels)
        return self._rows(loaded, example, target, max_length)

    def weights(self, row: Mapping[str, jax.Array]) -> jax.Array:
        """Return one weight for each label."""
        targets = row["targets"]
        has_C = jnp.float32(self.class_weights or (1.0,) * targets.shape[-1])
        return is_real(row)[..., None] * jnp.where(targets > 0, has_C, 1.0)

    def loss(self, output: jax.Array, batch: Mapping[str, jax.Array], weights: jax.Array) -> Term:
        """Return the binary cross-entropy of logits_BC and targets_BC."""
        return classify_each(output, batch["targets"], weights, self.label_smoothing)

    def predict(
        self,
        loaded: Loaded,
        examples: Sequence[LabelledText],
        rows: Sequence[Sequence[LabelledRow]],
        batch_size: int,
    ) -> list[dict[str, float]]:
        labels = labels_of(loaded.model)
        return [
            dict(zip(labels, sigmoid(logits_C).tolist(), strict=True))
            for logits_C in self._logits(loaded, rows, batch_size)
        ]

    def score(
        self,
        examples: Sequence[LabelledText],
        predictions: Sequence[dict[str, float]],
        labels: Labels,
    ) -> dict[str, float]:
        """Return the metrics, including "collapsed" if all predictions are the same labels."""
        gold = [[label in example.labels for label in labels] for example in examples]
        predicted = [[prediction[label] > 0.5 for label in labels] for prediction in predictions]
        is_collapsed = len(set(map(tuple, predicted))) == 1
        return tasks.multi_label(gold, predicted) | ({"collapsed": 1.0} if is_collapsed else {})

    def to_json(self, example: LabelledText, prediction: dict[str, float]) -> dict:
        pair = {} if example.pair is None else {"pair": example.pair}
        predicted = [label for label, probability in prediction.items() if probability > 0.5]
        return {
            "text": example.text,
            **pair,
            "targets": list(example.labels),
            "prediction": predicted,
            "probabilities": prediction,
        }
