"""A recipe's model as the student of a trained one, and how the two compare.

Any encoder that predicts masked tokens can be student or teacher; they share a vocabulary. The
student begins with every second layer of its teacher (Sanh et al. 2019, section 3), and with all
else that has the same place and shape in both.
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
    """A recipe whose model learns masked tokens from a teacher, in rows of whole sentences.

    Attributes:
      teacher: The network that is learned from.
      teacher_params: Its parameters, in the type that the step computes in.
      teacher_tokenizer: Its tokenizer, which is the student's too.
    """

    teacher: nn.Module
    teacher_params: chex.ArrayTree
    teacher_tokenizer: Tokenizer

    def train_tokenizer(self, texts: Iterable[str]) -> Tokenizer:
        """Return the tokenizer of the teacher."""
        return self.teacher_tokenizer

    def objective(self, tokenizer: AnyTokenizer) -> Distillation:
        # The hidden states of networks of different widths cannot be compared.
        states = float(self.config.width == self.teacher.config.width)
        masked = self.masking(tokenizer)
        return Distillation(masked, self.teacher, self.teacher_params, states=states)

    def initial_params(self, shapes: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
        """Return what the student inherits from its teacher."""
        teacher = flatten(self.teacher_params)
        return inherited(shapes, teacher, self.config.num_layers, self.teacher.config.num_layers)

    def identity(self) -> dict[str, Any]:
        teacher = {
            "tokenizer": fingerprint(self.teacher_tokenizer),
            "sums": arrays.fingerprint(self.teacher_params),
        }
        return super().identity() | {"teacher": teacher}


def distilled(recipe: Recipe, folder: str | Path) -> DistillationRecipe:
    """Return the recipe with its model taught by the one in a model folder.

    Raises:
      ValueError: If either does not predict masked tokens, if their vocabularies differ, or if the
        student has more layers than the teacher.
    """
    teacher, params, tokenizer = zoo.load(folder)
    config = recipe.student_config(teacher.config)
    student = registry.named(recipe.architecture).Model(config)
    for model, name in ((teacher, folder), (student, recipe.name)):
        if not isinstance(model, MaskedLanguageModel):
            raise ValueError(
                f"{name} is a {type(model).__name__}, which does not predict masked tokens: "
                "teacher and student both have to"
            )
    if not isinstance(tokenizer, Tokenizer):
        raise ValueError(f"{folder} has no tokenizer, which the student needs")
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
    """Return what a student has from its teacher: path -> array, in float32.

    Its layers are spaced evenly over the teacher's, first and last among them: of twelve, 0, 2, 4,
    7, 9 and 11, as in the released code.

    Args:
      shapes: The student's parameters: path -> shape.
      params: The teacher's: path -> array.
      student_layers: How many layers the student has.
      teacher_layers: How many the teacher has.
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
    student: str | Path, teacher: str | Path, recipe: DistillationRecipe, source: Source
) -> list[str]:
    """Return a table of two folders on the held-out text: perplexity, parameters, speed."""
    lines = [f"{'':8}{'perplexity':>12}{'accuracy':>10}{'parameters':>14}{'tokens/s':>12}"]
    for name, folder in (("student", student), ("teacher", teacher)):
        model, params, tokenizer = zoo.load(folder)
        if tokenizer is None:
            raise ValueError(f"{folder} has no tokenizer to read a text with")
        objective = recipe.masking(tokenizer)
        _, held_out = corpus.corpus(recipe, source, tokenizer).split()
        batches = recipe.batches(tokenizer).evaluate(held_out, recipe.batch)
        evaluate = jax.jit(make_evaluate(model, objective, dtype="float32"))
        jax.block_until_ready(evaluate(params, batches(0), (), 0))  # compiled
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
            f"the teacher has a vocabulary of {teacher.vocab_size} words, {name} of "
            f"{student.vocab_size}: they must share one"
        )
    if student.num_layers > teacher.num_layers:
        raise ValueError(
            f"{name} has {student.num_layers} layers, more than the {teacher.num_layers} of its "
            "teacher"
        )
