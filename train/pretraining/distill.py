"""Distillation of a trained model into the model of a recipe, and a comparison of the two.

Any masked language model can be student or teacher, if both have the same vocabulary. The student
is initialized with evenly spaced layers of its teacher (Sanh et al. 2019, section 3) and with all
other parameters that have the same path and shape in both.
"""

import math
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from tokenizers import Tokenizer

import zoo
from train.data.sources.source import Source
from train.objectives.distillation import Distillation
from train.pretraining import corpus
from train.recipes.recipe import Config, Recipe
from train.recipes.roberta import RobertaRecipe
from train.step import add_up, cast, make_evaluate
from zoo import registry
from zoo.checkpoints import arrays
from zoo.contracts import MaskedLanguageModel
from zoo.params import flatten
from zoo.tokenizers import AnyTokenizer, fingerprint


@dataclass(frozen=True, kw_only=True)
class DistillationRecipe(RobertaRecipe):
    """A recipe that distills a masked language model, in rows of whole sentences.

    Attributes:
      teacher: The teacher network.
      teacher_params: The parameters of the teacher, in the compute type of the step.
      teacher_tokenizer: The tokenizer of teacher and student.
    """

    teacher: nn.Module
    teacher_params: chex.ArrayTree
    teacher_tokenizer: Tokenizer

    def train_tokenizer(self, texts: Iterable[str]) -> Tokenizer:
        """Return the tokenizer of the teacher."""
        return self.teacher_tokenizer

    def objective(self, tokenizer: AnyTokenizer) -> Distillation:
        # Hidden states of different widths cannot be compared.
        states = float(self.config.width == self.teacher.config.width)
        masked = self.masking(tokenizer)
        return Distillation(masked, self.teacher, self.teacher_params, states=states)

    def initial_params(self, shapes: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
        """Return the parameters that the student takes from its teacher."""
        teacher = flatten(self.teacher_params)
        return inherited(shapes, teacher, self.config.num_layers, self.teacher.config.num_layers)

    def identity(self) -> dict[str, Any]:
        teacher = {
            "tokenizer": fingerprint(self.teacher_tokenizer),
            "sums": arrays.fingerprint(self.teacher_params),
        }
        return super().identity() | {"teacher": teacher}


def distilled(recipe: Recipe, folder: str | Path) -> DistillationRecipe:
    """Return the recipe with the model of a folder as its teacher.

    Raises:
      ValueError: If one of them is not a masked language model, if their vocabularies differ, or if
        the student has more layers than the teacher.
    """
    teacher, params, tokenizer = zoo.load(folder)
    config = recipe.student_config(teacher.config)
    student = registry.named(recipe.architecture).Model(config)
    for model, name in ((teacher, folder), (student, recipe.name)):
        if not isinstance(model, MaskedLanguageModel):
            raise ValueError(
                f"{name} is a {type(model).__name__}, but teacher and student must be masked "
                "language models, such as BERT"
            )
    if not isinstance(tokenizer, Tokenizer):
        raise ValueError(f"{folder} has no tokenizer, but the student needs the teacher's")
    _check_sizes(recipe.name, config, teacher.config)
    values = {f.name: getattr(recipe, f.name) for f in fields(Recipe)} | {"config": config}
    return DistillationRecipe(
        **values,
        teacher=teacher,
        teacher_params=cast(params, recipe.dtype),
        teacher_tokenizer=tokenizer,
    )


def inherited(
    shapes: Mapping[str, jax.ShapeDtypeStruct],
    params: Mapping[str, jax.Array],
    student_layers: int,
    teacher_layers: int,
) -> dict[str, jax.Array]:
    """Return the parameters that a student takes from its teacher: path -> array, in float32.

    The layers are evenly spaced and include the first and the last: 0, 2, 4, 7, 9 and 11 of twelve,
    as in the released code.

    Args:
      shapes: The parameters of the student: path -> shape.
      params: The parameters of the teacher: path -> array.
      student_layers: Number of layers of the student.
      teacher_layers: Number of layers of the teacher.
    """
    spacing = (teacher_layers - 1) / max(student_layers - 1, 1)
    given = {}
    for path, shape in shapes.items():
        layer = re.search(r"blocks_(\d+)/", path)
        source = path
        if layer is not None:
            source = path.replace(layer[0], f"blocks_{round(int(layer[1]) * spacing)}/")
        if source in params and params[source].shape == shape.shape:
            given[path] = jnp.asarray(params[source], jnp.float32)
    return given


def compare(
    student: str | Path,
    teacher: str | Path,
    recipe: DistillationRecipe,
    source: Source,
    dev: Source | None = None,
) -> list[str]:
    """Return a table that compares both models on held-out text: perplexity, parameters, speed.

    Args:
      student: The model folder of the student.
      teacher: That of its teacher.
      recipe: The recipe that trained the student.
      source: The text that it was trained on.
      dev: The text to evaluate on. None: the last part of `source`.
    """
    lines = [f"{'':8}{'perplexity':>12}{'accuracy':>10}{'parameters':>14}{'tokens/s':>12}"]
    for name, folder in (("student", student), ("teacher", teacher)):
        model, params, tokenizer = zoo.load(folder)
        if tokenizer is None:
            raise ValueError(f"{folder} has no tokenizer to read a text with")
        objective = recipe.masking(tokenizer)
        held_out = corpus.corpus(recipe, dev or source, tokenizer)
        if dev is None:
            _, held_out = held_out.split()
        batches = recipe.batches(tokenizer).evaluate(held_out, recipe.batch)
        evaluate = jax.jit(make_evaluate(model, objective, dtype="float32"))
        jax.block_until_ready(evaluate(params, batches(0), (), 0))  # compiles, outside of the time
        start = time.perf_counter()
        metrics = add_up(objective, evaluate, params, batches, ())
        speed = len(batches) * recipe.batch * recipe.length / (time.perf_counter() - start)
        count = sum(x.size for x in jax.tree.leaves(params))
        lines.append(
            f"{name:8}{math.exp(metrics['loss']):12.1f}{metrics['masked_accuracy']:10.3f}"
            f"{count:14,}{speed:12,.0f}"
        )
    return lines


def _check_sizes(name: str, student: Config, teacher: Config) -> None:
    if student.vocab_size != teacher.vocab_size:
        raise ValueError(
            f"the teacher has a vocabulary of {teacher.vocab_size} tokens, {name} of "
            f"{student.vocab_size}: they must be equal"
        )
    if student.num_layers > teacher.num_layers:
        raise ValueError(
            f"{name} has {student.num_layers} layers, but its teacher only {teacher.num_layers}: "
            "use a larger teacher"
        )
