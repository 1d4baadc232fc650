"""The contract of all training objectives."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar, dataclass_transform

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

# An example or a batch: {name: array}; "weights" is a dict of arrays.
Example = dict[str, Any]
T = TypeVar("T")


class Term(NamedTuple):
    """One term of a loss: sums over predictions, weighted.

    Attributes:
      loss: Weighted sum of the losses, in nats.
      right: Sum of the weights of the correct predictions; None if accuracy is undefined.
    """

    loss: jax.Array
    right: jax.Array | None


class Objective(Protocol):
    """A training objective: how to corrupt examples and compute the loss.

    Implementations derive from this class and are decorated with `objective`. The loss of a step is
    the sum over terms of factor * (sum of losses / sum of weights). Both sums run over the whole
    batch, so padding, devices and accumulation do not change the result.

    Attributes:
      reported_term: The term whose perplexity is reported.
      predicts_every_token: Whether every token of a text is predicted, so that the loss can also be
        reported as bits per byte.
      has_perplexity: Whether the reported loss is that of predictions among the whole vocabulary.
      loss_unit: The unit of the reported loss.
    """

    reported_term: ClassVar[str]
    predicts_every_token: ClassVar[bool] = False
    has_perplexity: ClassVar[bool] = True
    loss_unit: ClassVar[str] = "nats per token"

    @property
    def factors(self) -> Mapping[str, float]:
        """The factor of each term of the loss: {name: factor}."""
        ...

    def corrupt(self, key: chex.PRNGKey, example: Example) -> Example:
        """Return the inputs and targets of the network for a single example.

        The trainer maps this method over the batch with one key per row, so masks do not depend on
        devices, processes or accumulation.

        Args:
          key: The key of the row.
          example: A row of a batch, as its batch source returns it.

        Returns:
          The arrays that `loss` needs, and "weights": {term name: one weight per prediction}.
        """
        ...

    def initial_carry(self, model: nn.Module, batch_size: int) -> chex.ArrayTree:
        """Return the initial value of the state that is passed from batch to batch.

        Stateless unless overridden: returns ().
        """
        return ()

    def loss(
        self,
        model: nn.Module,
        params: chex.ArrayTree,
        batch: Example,
        carry: chex.ArrayTree,
        key: chex.PRNGKey,
        *,
        train: bool,
    ) -> tuple[dict[str, Term], chex.ArrayTree]:
        """Return the terms of the loss of one batch, and the carry for the next one.

        Args:
          model: The network.
          params: The parameters of the network.
          batch: The stacked rows that `corrupt` returned.
          carry: The carry that the previous batch returned.
          key: The key of the step.
          train: Whether dropout is active.
        """
        ...

    def unigram_loss(self, entropy: float, length: int) -> float | None:
        """Return the loss of a unigram model, which predicts by token frequency alone.

        None: there is no such model of what this objective predicts.

        Args:
          entropy: Unigram entropy of the text, in nats per token.
          length: Tokens per row, as in the recipe.
        """
        return entropy


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def objective(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass and a pytree: `arrays` fields are leaves, others static.

    An objective is an argument of the compiled step, so its arrays are stored on the devices.
    """
    datacls: type = dataclass(frozen=True)(cls)
    leaves = [f.name for f in fields(datacls) if "array" in f.metadata]
    static = [f.name for f in fields(datacls) if f.name not in leaves]
    return jax.tree_util.register_dataclass(datacls, data_fields=leaves, meta_fields=static)


def arrays() -> Any:
    """Return a field of an objective that holds arrays, such as a teacher's parameters."""
    return field(metadata={"array": True})


def document_ids(example: Example) -> jax.Array:
    """Return the document that each token of a row belongs to, from 1; 0: padding; int32 [L].

    A row that is not packed with documents is one of them.
    """
    return example.get("documents", example["mask"].astype(jnp.int32))


def dropout_rngs(key: chex.PRNGKey) -> dict[str, chex.PRNGKey]:
    """Return the random streams of a forward pass, derived from the key of its step."""
    return {"dropout": jax.random.fold_in(key, 1)}
