"""Evaluates a model folder on a text with the objective it was pretrained with."""

from dataclasses import replace
from pathlib import Path

import jax

import zoo
from train.data.corpus.pair_corpus import num_held_out
from train.data.sources.source import Source
from train.metrics import language_model
from train.pretraining import corpus
from train.recipes import RECIPES, recipe
from train.recipes.recipe import Recipe
from train.step import add_up, make_evaluate
from zoo import registry


def evaluate(
    folder: str | Path,
    source: Source | None = None,
    batch_size: int = 16,
    length: int | None = None,
) -> dict[str, float]:
    """Return loss, perplexity and accuracy, each token counted once; of causal models more.

    Args:
      folder: A model folder, ours or Hugging Face's.
      source: The text. None: the held-out part of what is built in.
      batch_size: Rows of a batch.
      length: Tokens in a row. None: 128, or the most that the model takes.

    Raises:
      ValueError: If folder, source and length do not fit.
    """
    model, params, tokenizer = zoo.load(folder)
    if tokenizer is None:
        raise ValueError(f"{folder} has no tokenizer to read a text with")
    name = registry.name_of(model)
    pretrained = registry.named(name).Model
    if not isinstance(model, pretrained):
        raise ValueError(
            f"{folder} holds a {type(model).__name__}, which pretraining does not train: it needs "
            f"a {pretrained.__name__}"
        )
    length = length or min(128, model.config.max_length)
    if length > model.config.max_length:
        raise ValueError(f"--length {length} is over the {model.config.max_length} of {folder}")
    chosen = replace(_recipe(name), name=str(folder), config=model.config, length=length)
    if source and source.kind != chosen.source_kind:
        flag = "--source" if chosen.source_kind == "pairs" else "--text"
        raise ValueError(f"a {name} is evaluated on {chosen.source_kind}: give {flag}")
    text = corpus.corpus(chosen, source or chosen.builtin_source(), tokenizer)
    if source is None:
        _, text = text.split()
    objective = chosen.objective(tokenizer)
    batches = chosen.batches(tokenizer).evaluate(text, batch_size)
    compiled = jax.jit(make_evaluate(model, objective, dtype="float32"))
    carry = objective.initial_carry(model, batch_size)
    metrics = add_up(objective, compiled, params, batches, carry)
    tokens_per_byte = len(text.predicted_tokens(tokenizer)) / text.num_bytes
    return language_model.add_derived(metrics, objective, tokens_per_byte)


def pairs(architecture: str, source: Source | None = None) -> list[str]:
    """Return the pairs to translate, sources and targets in turn; of other models, none."""
    chosen = _recipe(architecture)
    if chosen.source_kind != "pairs":
        return []
    texts = list((source or chosen.builtin_source()).documents())
    return texts if source else texts[-2 * num_held_out(len(texts) // 2) :]


def _recipe(architecture: str) -> Recipe:
    """Return any recipe of an architecture: all of one have one objective."""
    return next(r for r in map(recipe, RECIPES) if r.architecture == architecture)
