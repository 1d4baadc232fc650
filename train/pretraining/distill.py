"""A recipe's model as the student of a trained one, and how the two compare.

Any encoder that predicts hidden words can be student or teacher; they share a vocabulary. The
student begins with every second layer of its teacher (Sanh et al. 2019, section 3), and with all
else that has the same place and shape in both.
"""

import math
import re
import time
from dataclasses import replace

import jax
import jax.numpy as jnp

import zoo
from train.objectives.distillation import Distilled
from train.pretraining import corpus
from train.recipes import roberta
from train.recipes.recipe import Recipe, Task
from train.step import add_up, cast, make_evaluate
from zoo import registry
from zoo.checkpoints import arrays
from zoo.contracts import MaskedLanguageModel
from zoo.params import flatten
from zoo.tokenizers import fingerprint


def distilled(recipe: Recipe, folder) -> Recipe:
    """The recipe, its model taught by the one in `folder`.

    Raises ValueError where either does not predict hidden words, where their vocabularies differ,
    or where the student has more layers than the teacher.
    """
    teacher, params, tokenizer = zoo.load(folder)
    if recipe.of_teacher is not None:
        recipe = replace(recipe, config=recipe.of_teacher(teacher.config))
    student = registry.named(recipe.architecture).Model(recipe.config)
    for model, name in ((teacher, folder), (student, recipe.name)):
        if not isinstance(model, MaskedLanguageModel):
            raise ValueError(
                f"{name} is a {type(model).__name__}, which does not predict hidden words: "
                "teacher and student both have to"
            )
    if tokenizer is None:
        raise ValueError(f"{folder} has no tokenizer, which the student needs")
    ours, theirs = recipe.config, teacher.config
    if ours.vocab_size != theirs.vocab_size:
        raise ValueError(
            f"the teacher has a vocabulary of {theirs.vocab_size} words, {recipe.name} of "
            f"{ours.vocab_size}: they must share one"
        )
    if ours.num_layers > theirs.num_layers:
        raise ValueError(
            f"{recipe.name} has {ours.num_layers} layers, more than the {theirs.num_layers} of its "
            "teacher"
        )
    params = cast(params, recipe.dtype)
    states = float(ours.width == theirs.width)  # else there is nothing to compare them with

    def task(tokenizer, config, length) -> Task:
        alone = roberta.task(tokenizer, config, length)
        objective = Distilled(alone.objective, teacher, params, states=states)
        return alone._replace(objective=objective)

    return replace(
        recipe,
        make_tokenizer=lambda texts, vocab_size: tokenizer,
        task=task,
        start=lambda shapes: inherited(shapes, flatten(params), ours, theirs),
        teacher={"tokenizer": fingerprint(tokenizer), "sums": arrays.fingerprint(params)},
    )


def inherited(shapes: dict, params: dict, student, teacher) -> dict:
    """What the student has from its teacher: path -> array, in float32.

    Its layers are spread evenly over the teacher's, first and last among them: of twelve, 0, 2, 4,
    7, 9 and 11, as in the released code.
    """
    step = (teacher.num_layers - 1) / max(student.num_layers - 1, 1)
    found = {}
    for path, shape in shapes.items():
        layer = re.search(r"blocks_(\d+)/", path)
        theirs = path
        if layer is not None:
            theirs = path.replace(layer[0], f"blocks_{round(int(layer[1]) * step)}/")
        if theirs in params and params[theirs].shape == shape.shape:
            found[path] = jnp.asarray(params[theirs], jnp.float32)
    return found


def compare(student, teacher, recipe: Recipe, source) -> list[str]:
    """A table of two folders: hidden words of the held-out text, parameters, speed of reading."""
    lines = [f"{'':8}{'perplexity':>12}{'accuracy':>10}{'parameters':>14}{'tokens/s':>12}"]
    for name, folder in (("student", student), ("teacher", teacher)):
        model, params, tokenizer = zoo.load(folder)
        task = roberta.task(tokenizer, recipe.config, recipe.length)
        _, held_out = recipe.reading.split(corpus.corpus(recipe, source, tokenizer))
        batches = task.evaluate(held_out, recipe.length, recipe.batch)
        look = jax.jit(make_evaluate(model, task.objective, dtype="float32"))
        jax.block_until_ready(look(params, batches(0), (), 0))  # compiled
        start = time.perf_counter()
        found = add_up(task.objective, look, params, batches, ())
        speed = len(batches) * recipe.batch * recipe.length / (time.perf_counter() - start)
        count = sum(x.size for x in jax.tree.leaves(params))
        lines.append(
            f"{name:8}{math.exp(found['loss']):12.1f}{found['masked_accuracy']:10.3f}"
            f"{count:14,}{speed:12,.0f}"
        )
    return lines
