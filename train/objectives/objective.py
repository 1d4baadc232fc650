"""What a network is trained to do: the contract of all objectives."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar, dataclass_transform

import chex
import jax
from flax import linen as nn

# What a model is given: {name: array}, of one example or of a batch; "weights" is a dict of arrays.
Example = dict[str, Any]
T = TypeVar("T")


class Term(NamedTuple):
    """One term of a loss, summed with the weights of its predictions.

    Attributes:
      loss: The sum of the losses in nats.
      right: The sum of the weights of the correct predictions; None where nothing is predicted.
    """

    loss: jax.Array
    right: jax.Array | None


class Objective(Protocol):
    """What a network is trained to do.

    An objective is a class made by `objective` and derived from this one. The loss of a run is the
    sum over terms of factor * (sum of losses / sum of weights), both sums over the whole batch: so
    padding, devices and accumulation change nothing.

    Attributes:
      reported_term: The term whose perplexity is reported.
      predicts_every_token: Whether every token of a text is predicted, so that the loss can be
        reported as bits per byte too.
    """

    reported_term: ClassVar[str]
    predicts_every_token: ClassVar[bool] = False

    @property
    def factors(self) -> Mapping[str, float]:
        """The factor of each term of the loss: {name: factor}."""
        ...

    def corrupt(self, key: chex.PRNGKey, example: Example) -> Example:
        """Return what the network sees and predicts, for ONE example.

        The trainer maps it over the batch, each row with a key of its own, so masks do not depend
        on devices, processes or accumulation.

        Args:
          key: The key of the row.
          example: A row of a batch, as its source makes it.

        Returns:
          What `loss` needs, and "weights": {name of a term: weights, one per prediction}.
        """
        ...

    def initial_carry(self, model: nn.Module, batch_size: int) -> chex.ArrayTree:
        """Return the state that passes from batch to batch, before the first one.

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
          params: Its parameters.
          batch: Rows that `corrupt` returned, stacked.
          carry: What the batch before left.
          key: The key of the step.
          train: Whether dropout and the like are on.
        """
        ...

    def unigram_loss(self, entropy: float, length: int) -> float:
        """Return the loss of a model that knows only how often each token occurs.

        Args:
          entropy: That of the text's tokens, in nats per token.
          length: Tokens of a row, as the recipe has it.
        """
        return entropy


@dataclass_transform(frozen_default=True)
def objective(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass that is a pytree: its `arrays` are leaves, the rest static.

    So an objective is an argument of the compiled step, and its arrays are kept on the devices.
    """
    made: type = dataclass(frozen=True)(cls)
    leaves = [f.name for f in fields(made) if "array" in f.metadata]
    static = [f.name for f in fields(made) if f.name not in leaves]
    return jax.tree_util.register_dataclass(made, data_fields=leaves, meta_fields=static)


def arrays() -> Any:
    """Return a field of an objective that holds arrays, such as a teacher's parameters."""
    return field(metadata={"array": True})


def dropout_rngs(key: chex.PRNGKey) -> dict[str, chex.PRNGKey]:
    """Return the random streams of a training pass, from the key of its step."""
    return {"dropout": jax.random.fold_in(key, 1)}
