"""Everything that a pretraining run needs, created and checked before training starts."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax

from train.data.batches.batches import Batches
from train.data.corpus.corpus import Corpus
from train.data.sources.source import Source
from train.devices.parallelism import PARALLELISM
from train.devices.placement import Placement, Training
from train.loop import check_new
from train.metrics import language_model
from train.objectives.objective import Objective
from train.optimization import weight_decay
from train.optimization.optimizers import freeze
from train.pretraining import corpus
from train.recipes.recipe import Recipe
from train.step import random_params
from zoo import registry, tokenizers
from zoo.tokenizers import AnyTokenizer


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """Everything that a run needs.

    Attributes:
      out: The folder of the run.
      recipe: The recipe.
      objective: The training objective.
      tokenizer: The tokenizer of the text.
      placement: The model and its step on the devices.
      train_batches: What is trained on.
      held_out_batches: What is evaluated on.
      identity: What decides the numbers of the run; it resumes only if this agrees.
      baselines: Values of the reported loss to compare with, by name.
      tokens_per_byte: Predicted tokens per byte of the held-out text.
      amounts: How much is read in an epoch, and held out, in the unit of the recipe.
      notes: Notes for the user about the text.
    """

    out: Path
    recipe: Recipe
    objective: Objective
    tokenizer: AnyTokenizer
    placement: Placement
    train_batches: Batches
    held_out_batches: Batches
    identity: dict[str, Any]
    baselines: dict[str, float]
    tokens_per_byte: float
    amounts: tuple[int, int]
    notes: Sequence[str]


def prepare(
    recipe: Recipe,
    source: Source,
    out: str | Path,
    *,
    dev: Source | None = None,
    resume: bool = False,
    overwrite: bool = False,
    tokenizer: str | Path | None = None,
    parallelism: Literal["mesh", "pmap"] = "mesh",
    mesh: tuple[int, int, int] = (-1, 1, 1),
) -> Run:
    """Create and check everything that a run needs: text, batches, model, devices.

    The arguments and errors are those of `train.pretraining.pretrain.pretrain`.
    """
    out = Path(out).absolute()
    tokenizer = tokenizer if recipe.initial is None else recipe.initial.folder
    check_new(out, resume=resume, overwrite=overwrite, reads=[tokenizer])
    text_tokenizer = corpus.tokenizer(recipe, source, out if resume else None, tokenizer)
    train_text, held_out_text, notes = _texts(recipe, source, dev, text_tokenizer)
    texts = train_text, held_out_text
    recipe = recipe.for_text(text_tokenizer, train_text)
    if recipe.embeddings is not None:
        notes = [*notes, recipe.embeddings.note(text_tokenizer, train_text)]
    predicted = [text.predicted_tokens(text_tokenizer) for text in texts]
    objective, batches = recipe.objective(text_tokenizer), recipe.batches(text_tokenizer)
    train_read, held_out_read = (corpus.in_reading_order(recipe, objective, x) for x in texts)
    training = make_training(recipe, objective)
    process = (jax.process_index(), jax.process_count())
    vocab_size = recipe.config.vocab_size
    entropy = language_model.unigram_entropy(predicted[0], predicted[1], vocab_size)
    return Run(
        out=out,
        recipe=recipe,
        objective=objective,
        tokenizer=text_tokenizer,
        placement=PARALLELISM[parallelism](training, mesh),
        train_batches=batches.train(train_read, recipe.batch, recipe.seed, process),
        held_out_batches=batches.evaluate(held_out_read, recipe.batch, process),
        identity=_identity(recipe, source, dev, text_tokenizer),
        baselines=_baselines(objective, recipe, entropy),
        tokens_per_byte=len(predicted[1]) / held_out_text.num_bytes,
        amounts=(recipe.epoch(text_tokenizer, texts[0]), recipe.epoch(text_tokenizer, texts[1])),
        notes=notes,
    )


def make_training(recipe: Recipe, objective: Objective) -> Training:
    """Return the parts of the training step of a recipe, without its data."""
    architecture = registry.named(recipe.architecture)
    schedule = recipe.schedule(recipe.steps)
    mask = weight_decay.undecayed(recipe.undecayed)
    model = recipe.model_class()(recipe.config)
    optimizer = recipe.optimizer(schedule, decay_mask=mask)
    if recipe.embeddings is not None and recipe.embeddings.frozen:
        optimizer = freeze(optimizer, recipe.embeddings.path)
    if recipe.averaging is not None:
        optimizer = recipe.averaging.wrap(optimizer)
    return Training(
        model=model,
        init=lambda: random_params(model, recipe.seed),
        objective=objective,
        optimizer=optimizer,
        schedule=schedule,
        axes=architecture.AXES,
        batch_size=recipe.batch,
        seed=recipe.seed,
        dtype=recipe.dtype,
        accumulate=recipe.accumulate,
        remat=recipe.remat,
    )


def _texts(
    recipe: Recipe, source: Source, dev: Source | None, tokenizer: AnyTokenizer
) -> tuple[Corpus, Corpus, list[str]]:
    """Return the training corpus, the held-out corpus, and notes on both."""
    text = corpus.corpus(recipe, source, tokenizer)
    notes = recipe.notes(source, text, tokenizer)
    if dev is None:
        return *text.split(), notes
    held_out = corpus.corpus(recipe, dev, tokenizer)
    return text, held_out, notes + recipe.notes(dev, held_out, tokenizer)


def _baselines(objective: Objective, recipe: Recipe, entropy: float) -> dict[str, float]:
    """Return the losses of models that have learned nothing, given the entropy of unigrams."""
    uniform = math.log(recipe.config.vocab_size) if objective.has_perplexity else None
    losses = {"uniform, ln V": uniform, "unigram": objective.unigram_loss(entropy, recipe.length)}
    return {name: loss for name, loss in losses.items() if loss is not None}


def _identity(
    recipe: Recipe, source: Source, dev: Source | None, tokenizer: AnyTokenizer
) -> dict[str, Any]:
    identity = recipe.identity() | {
        "data": source.fingerprint if dev is None else f"{source.fingerprint} {dev.fingerprint}",
        "tokenizer": tokenizers.fingerprint(tokenizer),
    }
    return json.loads(json.dumps(identity))
