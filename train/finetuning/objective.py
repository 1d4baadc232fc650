"""A fine-tuning task as a training objective, so that the one step trains it.

B batch  L length
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from train.finetuning.tasks.task import Task
from train.objectives.cross_entropy import cross_entropy
from train.objectives.objective import Example, Objective, Term, arrays, dropout_rngs, objective
from zoo.layers.embedding import UnprojectedLogits
from zoo.params import unflatten


@objective
class TaskObjective(Objective):
    """The loss of a task, for the trained parameters of a model whose others are frozen.

    The loss is not differentiated with respect to frozen parameters, so they need no backward pass
    and no optimizer state, and stay bit-identical.

    Attributes:
      task: The task.
      next_token: Factor of the loss of the next token (Radford et al. 2018, section 3.2); 0: none.
        As in their released code, it is the mean over rows of the mean over the tokens of a row, so
        that short texts count as much as long ones; a token weighs 1 / tokens of its row.
      frozen: The frozen parameters by path, in the compute type of the step.
    """

    task: Task
    next_token: float
    frozen: Mapping[str, jax.Array] = arrays()
    reported_term = "task"

    @property
    def factors(self) -> Mapping[str, float]:
        """The factor of each term."""
        return {"task": 1.0} | ({"next_token": self.next_token} if self.next_token else {})

    def corrupt(self, key: chex.PRNGKey, example: Example) -> Example:
        """Return the row with the weights of its predictions; an empty row has none."""
        weights = {"task": self.task.weights(example)}
        if self.next_token:
            is_real = jnp.float32(example["documents"][..., 1:] > 0)
            weights["next_token"] = is_real / jnp.maximum(is_real.sum(-1, keepdims=True), 1)
        return example | {"weights": weights}

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
        """Return {"task": Term}, and "next_token" if it has a factor.

        If the batch has "features", which a frozen trunk computed before, only the head is run.
        """
        variables = {"params": unflatten({**self.frozen, **params})}
        apply = partial(model.apply, variables, train=train, rngs=dropout_rngs(key))
        weights = batch["weights"]
        if "features" in batch:
            output = apply(batch["features"], method="head")
            return self.terms(output, batch), carry
        if not self.next_token:
            output = self.task.forward(model, apply, batch)
            return self.terms(output, batch), carry
        output, words = self.task.forward(model, partial(apply, method="with_words"), batch)
        next_token = _next_token(words, batch["tokens"], weights["next_token"])
        return self.terms(output, batch) | {"next_token": next_token}, carry

    def terms(self, output: Any, batch: Example) -> dict[str, Term]:
        """Return the terms that depend on the output of the task: {"task": Term}."""
        return {"task": self.task.loss(output, batch, batch["weights"]["task"])}


def _next_token(unprojected: UnprojectedLogits, tokens: jax.Array, weights: jax.Array) -> Term:
    """Return the loss of the next token of all rows, which may be those of choices, [B, C, L]."""
    rows = lambda x: x.reshape(-1, x.shape[-1])
    unprojected = unprojected._replace(x_BLD=unprojected.x_BLD[:, :-1])
    return cross_entropy(unprojected, rows(tokens)[:, 1:], rows(weights))
