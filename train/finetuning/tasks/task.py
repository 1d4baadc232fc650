"""The contract of all tasks: reading examples, loss, prediction and metrics.

B batch  L length
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from train.data.examples.tables import Examples, parse_columns
from train.objectives.objective import Term
from zoo.checkpoints.load import Loaded
from zoo.inference import batching
from zoo.inference.batching import Row

IGNORED = -1  # the target of tokens without a prediction

# A class; a number; one target per token (or IGNORED); a fixed number of targets, such as 0 or 1
# for each class, or the first and last token of an answer.
Target = int | float | list[int] | tuple[int, ...]
Labels = tuple[str, ...]  # the names of the classes; empty for tasks without classes
Example = TypeVar("Example", contravariant=True)
Prediction = TypeVar("Prediction")


class LabelledRow(NamedTuple):
    """A row of tokens or one per choice, its target, and the part of an example it contains."""

    row: Row | list[Row]
    target: Target
    part: Any = None  # a Piece of a sentence, a Window of a context


def rows_of(labelled: Sequence[LabelledRow]) -> list[Row]:
    """Return the rows of tokens of labelled rows, those of choices one after another."""
    return [
        row for one in labelled for row in (one.row if isinstance(one.row, list) else [one.row])
    ]


class Apply(Protocol):
    """The `apply` of a model, bound to its parameters."""

    def __call__(self, *inputs: jax.Array, method: str | None = None) -> Any:
        """Return the output of a method of the model, by default of `__call__`."""


class Task(Protocol[Example, Prediction]):
    """A task: its examples, targets, loss and metrics.

    It is independent of the architecture and of the training loop.
    """

    @property
    def head(self) -> str:
        """The key of the task in TASKS of the architectures."""

    @property
    def metric(self) -> str:
        """The metric by which runs are compared."""

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that a column of a file may have, such as "label"."""

    def read(
        self, path: Path, columns: Mapping[str, str], skipped: list[str] | None = None
    ) -> Examples:
        """Return the examples of a file.

        Args:
          path: The file.
          columns: Column names by role, and that of "group".
          skipped: Where the reasons go for which rows are skipped. None: they are errors.
        """

    def read_tfds(self, name: str, split: str, columns: Mapping[str, str]) -> Examples:
        """Return the examples of a split of a TensorFlow dataset."""

    def classes(self, example: Example) -> tuple[str, ...]:
        """Return the classes of an example, by which the data are split; empty if it has none."""

    def labels(self, examples: Sequence[Example], names: Sequence[str]) -> Labels:
        """Return the names of the classes in a fixed order.

        Args:
          examples: The training examples.
          names: The names given by the user; may be empty.

        Raises:
          ValueError: If the examples cannot be trained on.
        """

    def rows(
        self, loaded: Loaded, example: Example, labels: Labels, max_length: int
    ) -> list[LabelledRow]:
        """Return the rows of an example, each with at most `max_length` tokens."""

    def forward(self, model: nn.Module, apply: Apply, batch: Mapping[str, jax.Array]) -> Any:
        """Return the output for a batch of "tokens", "segments", "documents" and "targets"."""

    def weights(self, row: Mapping[str, jax.Array]) -> jax.Array:
        """Return the weight of every prediction of a row: a number, or one for each token.

        Args:
          row: "tokens", "segments", "documents" and "targets"; an empty row has no documents, and
            its weights are 0.
        """

    def loss(self, output: Any, batch: Mapping[str, jax.Array], weights: jax.Array) -> Term:
        """Return the weighted sum of the losses, and of the correct predictions.

        Args:
          output: The output of `forward`.
          batch: The stacked rows.
          weights: The stacked weights of the rows.
        """

    def predict(
        self,
        loaded: Loaded,
        examples: Sequence[Example],
        rows: Sequence[Sequence[LabelledRow]],
        batch_size: int,
    ) -> list[Prediction]:
        """Return the prediction for every example, given its rows."""

    def score(
        self, examples: Sequence[Example], predictions: Sequence[Prediction], labels: Labels
    ) -> dict[str, float]:
        """Return the metrics of predictions; empty if the examples have no labels."""

    def to_json(self, example: Example, prediction: Prediction) -> dict[str, Any]:
        """Return an example and its prediction as a JSON object."""


@runtime_checkable
class Distillable(Protocol):
    """A task whose outputs are distributions that a student can learn from a teacher.

    N is the number of distributions of a row: 1 for a text, its length for tags, 2 for the ends of
    a span. What has no probability has a logit of at most -1e30.
    """

    def distributions(self, output: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
        """Return the logits of all distributions, [B, N, C]; a number is a logit by itself."""

    def distribution_weights(self, row: Mapping[str, jax.Array]) -> jax.Array:
        """Return the weight of every distribution of a row, [N]; those of an empty row are 0."""


def columns_of(task: Task, settings: Sequence[str]) -> dict[str, str]:
    """Return the column of each role, from settings such as "label=Quality".

    Raises:
      ValueError: If a setting has another form, or the task has no such role.
    """
    columns = parse_columns(settings)
    if unused := [role for role in columns if role not in task.roles]:
        roles = f"has columns for {' and '.join(task.roles)}" if task.roles else "has its own names"
        raise ValueError(
            f"--columns {unused[0]}={columns[unused[0]]} is of no use to this task, which {roles}: "
            "leave it out"
        )
    return columns


def skipped_rows(skipped: Sequence[str]) -> tuple[str, ...]:
    """Return notes on the rows that --skip-invalid skipped: their number, and the first three."""
    if not skipped:
        return ()
    return f"{len(skipped)} rows are invalid and are skipped, such as:", *skipped[:3]


def run_model(apply: Apply, batch: Mapping[str, jax.Array]) -> jax.Array:
    """Return the output of a model with a head for a batch; used as `forward` by most tasks.

    If the batch has "texts", the numbers of the texts in each row, there is an output for each.
    """
    if "texts" in batch:
        inputs = batch["tokens"], batch["segments"], batch["documents"], batch["texts"]
        return apply(*inputs, method="read_each")
    return apply(batch["tokens"], batch["segments"], batch["documents"])


def is_real(row: Mapping[str, jax.Array]) -> jax.Array:
    """Return 1 for a row with an example, 0 for an empty one; used as `weights` by most tasks.

    If the row is packed with texts, there is a number for each of its places.
    """
    if "texts" in row:
        return jnp.float32(row["texts"] > 0)
    return jnp.float32((row["documents"] > 0).any())


def weight_of(class_weights: Sequence[float], targets: jax.Array) -> jax.Array:
    """Return the weight of the class of each target; 1 if there are no weights."""
    return jnp.float32(class_weights)[targets] if class_weights else jnp.ones(targets.shape)


def labels_of(model: nn.Module) -> Labels:
    """Return the class names of a model; empty if it generates text."""
    return getattr(model.config, "labels", ())


def encode(
    task: Task, loaded: Loaded, examples: Sequence, max_length: int
) -> list[list[LabelledRow]]:
    """Return the rows of every example.

    Raises:
      ValueError: If there is no tokenizer, or a row does not fit the model.
    """
    if loaded.tokenizer is None:
        raise ValueError("the model folder has no tokenizer to encode the examples")
    labels = labels_of(loaded.model)
    rows = [task.rows(loaded, example, labels, max_length) for example in examples]
    batching.check_rows([row for parts in rows for row in rows_of(parts)], loaded.model)
    return rows


def outputs(
    loaded: Loaded, rows: Sequence[Sequence[LabelledRow]], batch_size: int
) -> list[list[np.ndarray]]:
    """Return the output of the model for every labelled row of every example."""
    flat = [row for parts in rows for row in rows_of(parts)]
    results = iter(batching.outputs(loaded.model, loaded.params, flat, batch_size))
    of_row = lambda row: (
        np.array([next(results) for _ in row]) if isinstance(row, list) else next(results)
    )
    return [[of_row(labelled.row) for labelled in parts] for parts in rows]
