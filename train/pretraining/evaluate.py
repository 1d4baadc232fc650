"""Evaluation of a model folder on a text with its pretraining objective."""

from dataclasses import replace
from pathlib import Path

import jax
from flax import linen as nn

import zoo
from train.data.batches.sliding_windows import SlidingWindows
from train.data.corpus.pair_corpus import num_held_out
from train.data.sources.source import Source
from train.metrics import language_model
from train.objectives.causal import Causal, SlidingCausal
from train.objectives.causal_sound import CausalSound
from train.objectives.causal_stateful import StatefulCausal
from train.objectives.objective import Objective
from train.pretraining import corpus
from train.pretraining.adaptation import Adaptation, Evaluation, Pretrained
from train.recipes import RECIPES, recipe
from train.recipes.recipe import Recipe
from train.step import add_up, make_evaluate
from zoo import registry
from zoo.inference.prompts import UNLIMITED

# Documents per row, for a model that is trained on packed documents only.
PACKED = 32
# The kind of a source -> the flag that gives one.
FLAGS = {"text": "--text", "pairs": "--source", "sound": "--sound"}


def evaluate(
    folder: str | Path,
    source: Source | None = None,
    batch_size: int | None = None,
    length: int | None = None,
    stride: int | None = None,
    adaptation: Adaptation | None = None,
) -> dict[str, float]:
    """Return loss, perplexity and accuracy, and for causal models also bits per byte.

    Args:
      folder: A model folder, ours or Hugging Face's.
      source: The text. None: the held-out part of the built-in data.
      batch_size: Rows per batch. None: 16, or 1 with an adaptation, which then follows the whole
        text.
      length: Tokens per row. None: 128, or with a stride the maximum of the model if it has one,
        or what the adaptation prefers; never more than that maximum.
      stride: For causal models: the distance between windows, each of which scores only its last
        `stride` tokens, so that a token has the longest context. None: windows do not overlap.
      adaptation: For recurrent models: a neural cache or dynamic evaluation. None: the model stays
        as it is.

    Raises:
      ValueError: If the model is not a pretrained one, or the source or length does not fit it.
    """
    model, params, tokenizer = zoo.load(folder)
    if tokenizer is None:
        raise ValueError(f"{folder} has no tokenizer to read a text with")
    name = registry.name_of(model)
    pretrained = registry.named(name).Model
    model_recipe = _recipe(type(model))
    if model_recipe is None:
        raise ValueError(
            f"{folder} holds a {type(model).__name__}, which has no pretraining objective: use a "
            f"{pretrained.__name__}"
        )
    most = model.config.max_length
    if stride is None or most >= UNLIMITED:
        most = 128
    if adaptation is not None:
        most = adaptation.length
    length = length or min(most, model.config.max_length)
    if length > model.config.max_length:
        raise ValueError(
            f"--length {length} is too long: {folder} supports at most "
            f"{model.config.max_length} tokens"
        )
    model_recipe = replace(model_recipe, name=str(folder), config=model.config, length=length)
    if source and source.kind != model_recipe.source_kind:
        kind = model_recipe.source_kind
        raise ValueError(f"a {type(model).__name__} is evaluated on {kind}: give {FLAGS[kind]}")
    text = corpus.corpus(model_recipe, source or model_recipe.builtin_source(), tokenizer)
    if source is None:
        _, text = text.split()
    batch_size = batch_size or (16 if adaptation is None else 1)
    objective = model_recipe.objective(tokenizer)
    read = corpus.in_reading_order(model_recipe, objective, text)
    if stride is None:
        batches = model_recipe.batches(tokenizer).evaluate(read, batch_size)
    else:
        objective, windows = _sliding(objective, length, stride, folder)
        batches = windows.evaluate(read, batch_size)
    if adaptation is None:
        compiled = jax.jit(make_evaluate(model, objective, dtype="float32"))
        carry = objective.initial_carry(model, batch_size)
        evaluation = Evaluation(objective, compiled, params, carry)
    else:
        stateful = _stateful(objective, adaptation, folder)
        loaded = Pretrained(model, params, tokenizer, model_recipe, stateful)
        evaluation = adaptation.evaluation(loaded, batch_size)
    metrics = add_up(
        evaluation.objective,
        evaluation.evaluate,
        evaluation.params,
        batches,
        evaluation.carry,
    )
    tokens_per_byte = len(text.predicted_tokens(tokenizer)) / text.num_bytes
    return language_model.add_derived(metrics, evaluation.objective, tokens_per_byte)


def _stateful(objective: Objective, adaptation: Adaptation, folder: str | Path) -> StatefulCausal:
    """Return the objective of a model whose states continue, without penalties of training."""
    if isinstance(objective, StatefulCausal):
        return StatefulCausal(objective.end_of_document)
    raise ValueError(
        f"{adaptation.flag} is for recurrent language models, such as lstm-lm-tiny, whose state "
        f"continues from window to window, which {folder} is not: leave it out"
    )


def _sliding(
    objective: Objective, length: int, stride: int, folder: str | Path
) -> tuple[SlidingCausal, SlidingWindows]:
    """Return the objective and the batches of overlapping windows."""
    if isinstance(objective, StatefulCausal):
        raise ValueError(
            f"{folder} passes its state from window to window, so every token has the whole "
            "context already: leave out --stride"
        )
    if not isinstance(objective, Causal) or isinstance(objective, CausalSound):
        raise ValueError(
            f"--stride is for causal language models of text, such as GPT-2, but {folder} is "
            f"trained on another objective, {type(objective).__name__}: leave it out"
        )
    if not 1 <= stride <= length:
        raise ValueError(
            f"--stride must be from 1 to the length of a window, --length {length}, not {stride}"
        )
    windows = SlidingWindows(length=length, stride=stride)
    return SlidingCausal(objective.end_of_document), windows


def pairs(architecture: str, source: Source | None = None) -> list[str]:
    """Return the texts to translate, alternating sources and targets; none for other models."""
    any_recipe = _recipe(registry.named(architecture).Model)
    if any_recipe is None or any_recipe.source_kind != "pairs":
        return []
    texts = list((source or any_recipe.builtin_source()).documents())
    return texts if source else texts[-2 * num_held_out(len(texts) // 2) :]


def source_kind(cls: type[nn.Module]) -> str | None:
    """Return the kind of source that the models of a class are evaluated on, or None."""
    any_recipe = _recipe(cls)
    return None if any_recipe is None else any_recipe.source_kind


def _recipe(cls: type[nn.Module]) -> Recipe | None:
    """Return a recipe that trains a class of models, or None; all of them share the objective."""
    recipes = [recipe(name) for name in RECIPES]
    packed = [replace(each, pack=PACKED) for each in recipes if each.can_pack]
    return next((each for each in (*recipes, *packed) if each.model_class() is cls), None)
