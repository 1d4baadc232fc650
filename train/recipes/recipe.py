"""What a run is: a model, an objective, data, an optimizer, and how long.

A recipe is a function that returns a Recipe; its docstring has its source. The command line sets
the plain fields; everything else is Python.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import optax

import zoo
from train.data.reading import TEXT, Reading
from train.metrics import language_model
from zoo import registry
from zoo.params import abstract, flatten


class Task(NamedTuple):
    """What tokenizer, config and length make of a recipe: the objective, and its examples."""

    objective: Any
    train: Callable  # (corpus, length, batch, seed, process=) -> Batches
    evaluate: Callable  # (corpus, length, batch, process=) -> Batches
    words: str  # the term of the loss whose perplexity is told
    predicts_all: bool  # every token of the text: then nats a token are bits a byte
    level: Callable[[float], float] = lambda unigram: unigram  # a unigram model's loss here


def figures(found: dict, task: Task, tokens_a_byte: float) -> dict:
    """Held-out losses and accuracies, with perplexity, and bits a byte where every token counts."""
    nats = found.get(f"{task.words}_loss", found["loss"])
    more = {"perplexity": language_model.perplexity(nats)}
    if task.predicts_all:
        more["bits_per_byte"] = nats * tokens_a_byte / math.log(2)
    return found | more


@dataclass(frozen=True)
class Recipe:
    """A run: `steps` updates, each from a batch of `batch` sequences of `length` tokens."""

    name: str
    architecture: str
    config: Any
    make_tokenizer: Callable  # (texts, vocab_size) -> Tokenizer
    end_of_document: str | None  # the token between documents
    task: Callable  # (tokenizer, config, length) -> Task
    schedule: Callable[[int], optax.Schedule]  # steps -> schedule
    optimizer: Callable[[optax.Schedule, Callable], optax.GradientTransformation]
    undecayed: tuple[str, ...]
    steps: int
    batch: int
    length: int
    seed: int = 0
    dtype: str = "float32"
    accumulate: int = 1
    evaluate_every: int = 1000
    save_every: int = 1000
    separate: Callable | None = None  # as make_tokenizer, a vocabulary for each side of a pair
    average: int = 1  # saved steps whose mean is the model; 1: the last
    report_every: int = 10
    reading: Reading = TEXT
    start: Callable[[dict], dict] = lambda shapes: {}  # of all parameters -> those not drawn
    reserved: str | None = None  # a pattern that no text may hold
    of_teacher: Callable | None = None  # the teacher's config -> that of a student made to fit
    teacher: dict | None = None  # what decides the numbers of a distilled run

    def fields(self) -> dict:
        """What of it decides the numbers of a run, as JSON: a run goes on only where they agree."""
        plain = ("name", "steps", "batch", "length", "seed", "dtype", "accumulate")
        return {"zoo": zoo.__version__, "config": vars(self.config), "teacher": self.teacher} | {
            name: getattr(self, name) for name in plain
        }


def with_fields(recipe: Recipe, vocabulary: int | None = None, **fields) -> Recipe:
    """The recipe with the fields that are not None in place of its own; ValueError if unfit.

    `vocabulary` is that of its config.
    """
    if vocabulary is not None:
        recipe = replace(recipe, config=replace(recipe.config, vocab_size=vocabulary))
    recipe = replace(recipe, **{k: v for k, v in fields.items() if v is not None})
    for name in ("steps", "batch", "length", "accumulate"):
        if getattr(recipe, name) < 1:
            raise ValueError(f"--{name} must be at least 1, not {getattr(recipe, name)}")
    if recipe.length > recipe.config.max_length:
        raise ValueError(
            f"--length {recipe.length} is over the {recipe.config.max_length} of {recipe.name}"
        )
    return recipe


def with_config(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """The recipe with fields of its config, each NAME=VALUE, in place of its own.

    Raises ValueError for a name that the config does not have, or a value of another type or that
    no model can be built of.
    """
    config = recipe.config
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in vars(config):
            raise ValueError(f"--config {setting}: give NAME=VALUE, of {', '.join(vars(config))}")
        was = getattr(config, name)
        try:
            config = replace(config, **{name: type(was)(value)})
        except (TypeError, ValueError):
            raise ValueError(f"--config {setting}: give a value like {was!r}") from None
    if settings:
        abstract(registry.named(recipe.architecture).Model(config))  # before any text is read
    return replace(recipe, config=config)


def separate(recipe: Recipe) -> Recipe:
    """A recipe with a vocabulary for each side of a pair; ValueError where they share a table."""
    if recipe.separate is None:
        raise ValueError(f"{recipe.name} has one table of words: it cannot take --separate")
    return replace(recipe, make_tokenizer=recipe.separate)


def flops(params, recipe: Recipe) -> float:
    """FLOP of one update: 6 a kernel parameter and token, and attention's 12 L D a layer and token.

    Embeddings are not counted; the head is, as if every position were predicted.
    """
    leaves = flatten(params).items()
    kernels = sum(math.prod(x.shape) for path, x in leaves if path.endswith("kernel"))
    c = recipe.config
    attention = c.num_layers * recipe.length * c.width if hasattr(c, "num_heads") else 0
    a_token = 6 * (kernels + c.vocab_size * c.width) + 12 * attention
    return float(a_token * recipe.batch * recipe.length)
