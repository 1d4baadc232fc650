"""The shapes of a run: its state and its batches, found without its data and without a device."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import chex
import jax
import numpy as np

from train.devices.placement import Training
from train.pretraining import corpus
from train.pretraining.run import make_training
from train.recipes.recipe import Recipe
from train.recipes.word_vectors import WordVectorRecipe
from train.step import State, make_begin
from zoo.layers.execution import Remat

# Batches have the same shapes for any vocabulary, and a small one is learned in a second.
VOCABULARY = 1000


@dataclass(frozen=True)
class RunShapes:
    """A training step and the shapes of its inputs.

    Attributes:
      training: The parts of the step.
      params: The parameters, as shapes.
      row: One row of a batch, as shapes without the first axis.
    """

    training: Training
    params: chex.ArrayTree
    row: dict[str, jax.ShapeDtypeStruct]

    @classmethod
    def of(cls, training: Training, batch: Mapping[str, np.ndarray]) -> "RunShapes":
        """Return the shapes of a run, given one of its batches."""
        row = {name: jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for name, x in batch.items()}
        return cls(training, jax.eval_shape(training.init), row)

    def state(self) -> State:
        """Return the shapes of the state."""
        t = self.training
        begin = make_begin(t.model, t.objective, t.optimizer, t.batch_size)
        return jax.eval_shape(begin, self.params, 0)

    def batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Return the shapes of a batch."""
        rows = self.training.batch_size
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((rows, *x.shape), x.dtype), self.row)

    def step(self, platform: str = "cpu") -> Callable[[State, chex.ArrayTree], Any]:
        """Return the training step of one device of a platform."""
        t = self.training
        make, _ = t.makers(platform)
        parts = t.model, t.objective, t.optimizer, t.schedule
        return make(*parts, seed=t.seed, dtype=t.dtype, accumulate=t.accumulate)

    def with_rows(self, rows: int, remat: Remat = "none") -> "RunShapes":
        """Return the run with another number of rows, in one micro-batch."""
        training = replace(self.training, batch_size=rows, accumulate=1, remat=remat)
        return replace(self, training=training)


def run_shapes(recipe: Recipe) -> RunShapes:
    """Return the shapes of the run of a recipe, from a row of its built-in data.

    Raises:
      ValueError: If the steps of the recipe change rows of tables only.
    """
    if isinstance(recipe, WordVectorRecipe):
        raise ValueError(
            f"zoo plan is for networks: a step of {recipe.name} only changes rows of its tables"
        )
    vocab_size = min(recipe.config.vocab_size, VOCABULARY)
    small = replace(recipe, config=replace(recipe.config, vocab_size=vocab_size))
    source = small.builtin_source()
    tokenizer = corpus.tokenizer(small, source)
    text = corpus.corpus(small, source, tokenizer)
    objective = recipe.objective(tokenizer)
    batch = recipe.batches(tokenizer).train(text, 1, recipe.seed)(0)
    return RunShapes.of(make_training(recipe, objective), batch)
