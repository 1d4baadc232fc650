"""Dynamic evaluation: the parameters follow the text that they are evaluated on.

Krause et al. 2017, https://arxiv.org/abs/1709.07432, section 5; the idea is Mikolov et al.'s of
2010. Every window is predicted first; then one step of gradient descent on its loss adapts the
parameters to it, for the windows after it:

    params = params - learning_rate * gradient + decay * (trained - params)

In the simple form both rates are one number each. In the RMS form, that of the published results,
every parameter has its own, from the root mean square of its gradients on the training text: the
learning rate is divided by rms + EPSILON, and the decay multiplied by rms / mean(rms), up to 1. The
mean is that of the means of the arrays, as in the released code.

Good rates depend on the model and are tuned on a validation text; rates that are too high diverge.
Longer windows take fewer steps: 20 tokens are 4 times as fast as 5, at about 4 times the rates. The
text of the RMS form should have every word of the vocabulary, as that of training does.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from train.data.batches.batches import Batches
from train.data.sources.source import Source
from train.objectives.objective import Example, Objective
from train.pretraining import corpus
from train.pretraining.adaptation import Evaluation, Pretrained
from train.step import Evaluate, Sums, corrupt, total

LENGTH = 5  # tokens per window in the paper
EPSILON = 2e-5  # of the released code
STATISTICS_ROWS = 100  # rows per batch from which the released code takes a gradient


class Trained(NamedTuple):
    """The trained parameters, and the two rates of each of them: numbers, or arrays like it."""

    params: chex.ArrayTree
    learning_rates: chex.ArrayTree
    decays: chex.ArrayTree


@dataclass(frozen=True, kw_only=True)
class DynamicEvaluation:
    """The settings of dynamic evaluation, in the simple form.

    Attributes:
      learning_rate: How far a step moves the parameters along the gradient.
      decay: The part of their distance to the trained parameters by which a step moves them back.
    """

    flag: ClassVar[str] = "--dynamic-learning-rate"
    length: ClassVar[int] = LENGTH

    learning_rate: float
    decay: float = 0.0

    def __post_init__(self):
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"--dynamic-learning-rate must be above 0, not {self.learning_rate}")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"--dynamic-decay must be from 0 to 1, not {self.decay}")

    def trained(self, pretrained: Pretrained) -> Trained:
        """Return the rates, which are the same for all parameters."""
        same = lambda rate: jax.tree.map(lambda _: jnp.float32(rate), pretrained.params)
        return Trained(pretrained.params, same(self.learning_rate), same(self.decay))

    def evaluation(self, pretrained: Pretrained, batch_size: int) -> Evaluation:
        """Return the evaluation, which begins with a copy of the trained parameters."""
        model, objective = pretrained.model, pretrained.objective
        compiled = jax.jit(make_dynamic_evaluate(model, objective), donate_argnums=2)
        carry = pretrained.params, objective.initial_carry(model, batch_size)
        carry = jax.tree.map(jnp.array, carry)  # copies, since a step overwrites them
        return Evaluation(objective, compiled, self.trained(pretrained), carry)


@dataclass(frozen=True, kw_only=True)
class ScaledDynamicEvaluation(DynamicEvaluation):
    """The settings of dynamic evaluation in the RMS form.

    Attributes:
      source: The text whose gradients scale the rates, usually that of training.
    """

    source: Source

    def trained(self, pretrained: Pretrained) -> Trained:
        """Return the rates of every parameter, from the gradients on the text of `source`."""
        recipe, tokenizer = pretrained.recipe, pretrained.tokenizer
        text = corpus.corpus(recipe, self.source, tokenizer)
        batches = recipe.batches(tokenizer).train(text, STATISTICS_ROWS, recipe.seed)
        rms = root_mean_squares(pretrained.model, pretrained.objective, pretrained.params, batches)
        return scaled(pretrained.params, self.learning_rate, self.decay, rms)


def scaled(
    params: chex.ArrayTree, learning_rate: float, decay: float, rms: chex.ArrayTree
) -> Trained:
    """Return the rates of the RMS form, given the root mean square of every gradient."""
    means = [x.mean() for x in jax.tree.leaves(rms)]
    mean = sum(means) / len(means)
    return Trained(
        params,
        jax.tree.map(lambda x: learning_rate / (x + EPSILON), rms),
        jax.tree.map(lambda x: jnp.minimum(decay * x / mean, 1), rms),
    )


def root_mean_squares(
    model: nn.Module, objective: Objective, params: chex.ArrayTree, batches: Batches
) -> chex.ArrayTree:
    """Return the root mean square of every gradient over an epoch of batches.

    The rows of the batches are STATISTICS_ROWS; the states continue from batch to batch.
    """
    count = batches.num_examples // STATISTICS_ROWS

    def add(squares, params, batch, carry):
        gradient, _, carry = _gradient(model, objective, params, batch, carry, 0)
        return jax.tree.map(lambda sum, x: sum + x * x, squares, gradient), carry

    compiled = jax.jit(add, donate_argnums=0)
    squares = jax.tree.map(jnp.zeros_like, params)
    carry = objective.initial_carry(model, STATISTICS_ROWS)
    for number in range(count):
        squares, carry = compiled(squares, params, batches(number), carry)
    return jax.tree.map(lambda x: jnp.sqrt(x / count), squares)


def make_dynamic_evaluate(model: nn.Module, objective: Objective) -> Evaluate:
    """Return a function that evaluates one batch and then adapts the parameters to it.

    In place of the parameters it gets `Trained`; the parameters that follow the text are in the
    carry. All rows of a batch share them.
    """

    def evaluate(trained, batch, carry, number):
        params, carry = carry
        gradient, sums, carry = _gradient(model, objective, params, batch, carry, number)
        step = lambda x, slope, goal, rate, decay: x - rate * slope + decay * (goal - x)
        params = jax.tree.map(step, params, gradient, *trained)
        return sums, (params, carry)

    return evaluate


def _gradient(
    model: nn.Module,
    objective: Objective,
    params: chex.ArrayTree,
    batch: Example,
    carry: chex.ArrayTree,
    number: int | jax.Array,
) -> tuple[chex.ArrayTree, Sums, chex.ArrayTree]:
    """Return the gradient of the loss of one batch, its sums, and the next carry."""
    key = jax.random.fold_in(jax.random.key(0), number)
    batch = corrupt(objective, key, batch)
    weights = jax.tree.map(jnp.sum, batch["weights"])

    def loss(params):
        terms, after = objective.loss(model, params, batch, carry, key, train=False)
        return total(objective, terms, weights), (terms, after)

    gradient, (terms, after) = jax.grad(loss, has_aux=True)(params)
    return gradient, (terms, weights), after
