"""Measures a model folder on a text with the objective it was pretrained by."""

from dataclasses import replace

import jax

import zoo
from train.data.corpus.corpus import num_bytes
from train.data.sources.parallel_text import held_out
from train.pretraining import corpus
from train.recipes import RECIPES, recipe
from train.recipes.recipe import Recipe, figures
from train.step import add_up, make_evaluate
from zoo import registry


def evaluate(folder, source=None, batch: int = 16, length: int | None = None, kind=None) -> dict:
    """Loss, perplexity and accuracy, each token counted once; a causal model's bits a byte too.

    On a source of a `kind`, "text" or "pairs"; None: on the held-out part of what is built in.
    Raises ValueError where folder, source and length do not fit.
    """
    model, params, tokenizer = zoo.load(folder)
    if tokenizer is None:
        raise ValueError(f"{folder} has no tokenizer to read a text with")
    name = registry.name_of(model)
    whole_model = registry.named(name).Model
    if not isinstance(model, whole_model):
        raise ValueError(
            f"{folder} holds a {type(model).__name__}, which pretraining does not train: it needs "
            f"a {whole_model.__name__}"
        )
    chosen = replace(_recipe(name), name=str(folder), config=model.config)
    length = length or min(128, model.config.max_length)
    if length > model.config.max_length:
        raise ValueError(f"--length {length} is over the {model.config.max_length} of {folder}")
    if source and kind != chosen.reading.kind:
        wanted = "--source" if chosen.reading.kind == "pairs" else "--text"
        raise ValueError(f"a {name} is measured on {chosen.reading.kind}: give {wanted}")
    text = corpus.corpus(chosen, source or chosen.reading.builtin(), tokenizer)
    if source is None:
        _, text = chosen.reading.split(text)
    task = chosen.task(tokenizer, model.config, length)
    batches = task.evaluate(text, length, batch)
    look = jax.jit(make_evaluate(model, task.objective, dtype="float32"))
    found = add_up(task.objective, look, params, batches, task.objective.carry(model, batch))
    predicted = chosen.reading.predicted(text, tokenizer)
    return figures(found, task, len(predicted) / num_bytes(text))


def pairs(architecture: str, source=None) -> list[str]:
    """The pairs to translate, sources and targets in turn; of what does not translate, none."""
    reading = _recipe(architecture).reading
    if reading.kind != "pairs":
        return []
    texts = list((source or reading.builtin()).documents())
    return texts if source else texts[-2 * held_out(len(texts) // 2) :]


def _recipe(architecture: str) -> Recipe:
    """Any recipe of an architecture: all of one have one objective."""
    return next(made for made in map(recipe, RECIPES) if made.architecture == architecture)
