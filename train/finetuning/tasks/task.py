"""What a kind of task must offer: how examples are read, learned, predicted and scored.

B batch  L length
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import numpy as np
from flax import linen as nn

from train.data.examples.tables import Examples
from zoo.checkpoints.load import Loaded
from zoo.inference import batching
from zoo.inference.batching import Row
from zoo.tokenizers import AnyTokenizer

IGNORED = -1  # the target of a token for which nothing is predicted

# A class or a number; a target per token, or IGNORED; the first and last token of an answer.
Target = int | float | list[int] | tuple[int, int]
Labels = tuple[str, ...]  # the names of the classes; none for a task without classes
Example = TypeVar("Example", contravariant=True)
Prediction = TypeVar("Prediction")


class LabelledRow(NamedTuple):
    """A row of tokens, its target, and which part of a long example it is."""

    row: Row
    target: Target
    part: Any = None  # a Piece of a sentence, a Window of a context


class Apply(Protocol):
    """A model's `apply` with its parameters: the inputs of a method -> its outputs."""

    def __call__(self, *inputs: jax.Array, method: str | None = None) -> Any:
        """Return what the model's method returns, by default that of `__call__`."""


class Task(Protocol[Example, Prediction]):
    """A kind of task.

    Knows examples, targets and metrics, but neither the architecture nor how it is trained.
    """

    @property
    def head(self) -> str:
        """Its key in TASKS of the architectures."""

    @property
    def metric(self) -> str:
        """The metric by which runs are compared."""

    def read(self, path: Path, columns: Mapping[str, str]) -> Examples:
        """Return the examples of a file; `columns` are names by role, such as "label"."""

    def read_tfds(self, name: str, split: str, columns: Mapping[str, str]) -> Examples:
        """Return the examples of a split of a dataset of TensorFlow Datasets."""

    def labels(self, examples: Sequence[Example], names: Sequence[str]) -> Labels:
        """Return the names of the classes in a fixed order.

        Args:
          examples: The training examples.
          names: Those that the user wants, or nothing.

        Raises:
          ValueError: If the examples are not fit to train on.
        """

    def rows(
        self, tokenizer: AnyTokenizer, example: Example, labels: Labels, max_length: int
    ) -> list[LabelledRow]:
        """Return the rows of an example, each of at most `max_length` tokens."""

    def forward(self, model: nn.Module, apply: Apply, batch: Mapping[str, jax.Array]) -> Any:
        """Return the model's output for a batch of "tokens", "segments", "documents", "targets"."""

    def loss(
        self, output: Any, targets: jax.Array, documents_BL: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Return the sum of the losses, and how many there are; empty rows have none.

        Args:
          output: What `forward` returned.
          targets: The targets of the rows, stacked.
          documents_BL: 1 for tokens, 0 for padding.
        """

    def predict(
        self,
        loaded: Loaded,
        examples: Sequence[Example],
        rows: Sequence[Sequence[LabelledRow]],
        batch_size: int,
    ) -> list[Prediction]:
        """Return the prediction for every example, given the rows of each."""

    def score(
        self, examples: Sequence[Example], predictions: Sequence[Prediction], labels: Labels
    ) -> dict[str, float]:
        """Return the metrics of predictions; none if the examples have no labels."""

    def to_json(self, example: Example, prediction: Prediction) -> dict[str, Any]:
        """Return an example with its prediction, to be written as a JSON object."""


def run_model(apply: Apply, batch: Mapping[str, jax.Array]) -> jax.Array:
    """Return the output of a model with a head for a batch: `forward` of most tasks."""
    return apply(batch["tokens"], batch["segments"], batch["documents"])


def labels_of(model: nn.Module) -> Labels:
    """Return the names of a model's classes; none if it generates text."""
    return getattr(model.config, "labels", ())


def encode(
    task: Task, loaded: Loaded, examples: Sequence, max_length: int
) -> list[list[LabelledRow]]:
    """Return the rows of every example.

    Raises:
      ValueError: If there is no tokenizer, or a row does not fit the model.
    """
    if loaded.tokenizer is None:
        raise ValueError("the model folder has no tokenizer to read the examples with")
    labels = labels_of(loaded.model)
    rows = [task.rows(loaded.tokenizer, each, labels, max_length) for each in examples]
    batching.check_rows([labelled.row for some in rows for labelled in some], loaded.model)
    return rows


def outputs(
    loaded: Loaded, rows: Sequence[Sequence[LabelledRow]], batch_size: int
) -> list[list[np.ndarray]]:
    """Return the model's output for every row of every example."""
    flat = [labelled.row for some in rows for labelled in some]
    results = iter(batching.outputs(loaded.model, loaded.params, flat, batch_size))
    return [[next(results) for _ in some] for some in rows]
