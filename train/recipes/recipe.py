"""What a run is: a model, an objective, data, an optimizer, and how long.

A recipe is a function that returns a Recipe; its docstring has its source. A family of recipes is a
subclass that says how to train a tokenizer, which objective to train with, and how to cut a text
into batches. The command line sets the plain fields; everything else is Python.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, replace
from typing import Any, ClassVar, Protocol, TypeVar

import chex
import jax

import zoo
from train.data.batches.batches import BatchSource
from train.data.corpus.corpus import Corpus
from train.data.sources import builtin
from train.data.sources.source import Source
from train.objectives.objective import Objective
from train.optimization.optimizers import OptimizerFactory
from train.optimization.schedules import ScheduleFactory
from zoo import registry
from zoo.params import abstract, flatten
from zoo.tokenizers import AnyTokenizer


class Config(Protocol):
    """The part of every model's config that training needs: a frozen dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def vocab_size(self) -> int:
        """The size of the vocabulary."""
        ...

    @property
    def max_length(self) -> int:
        """Tokens of the longest sequence."""
        ...

    @property
    def num_layers(self) -> int:
        """How many layers there are."""
        ...

    @property
    def width(self) -> int:
        """The width of the hidden states."""
        ...


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """A run of `steps` steps, each from a batch of `batch` sequences of `length` tokens.

    Attributes:
      source_kind: What the family learns from: "text" or "pairs".
      name: As in `zoo pretrain NAME`.
      architecture: The name of the model in zoo.registry.
      config: The sizes of the model.
      schedule: Makes the learning rates of a run of so many steps.
      optimizer: Makes the optimizer for them.
      undecayed: Patterns of the paths of parameters without weight decay.
      end_of_document: The token between documents, or None.
      reserved_tokens: A pattern of what no text may contain, or None.
      steps: Steps in all.
      batch: Sequences in the batch of one step, over all devices.
      length: Tokens in a sequence.
      seed: Decides weights, order, masks and dropout.
      dtype: What matrix products compute in; parameters stay float32.
      accumulate: Micro-batches that a batch is cut into.
      evaluate_every: Steps between two evaluations.
      save_every: Steps between two checkpoints.
      report_every: Steps between two reports.
      average: Saved steps whose mean is the model; 1: the last.
    """

    source_kind: ClassVar[str] = "text"

    name: str
    architecture: str
    config: Config
    schedule: ScheduleFactory
    optimizer: OptimizerFactory
    undecayed: tuple[str, ...]
    end_of_document: str | None = None
    reserved_tokens: str | None = None
    steps: int
    batch: int
    length: int
    seed: int = 0
    dtype: str = "float32"
    accumulate: int = 1
    evaluate_every: int = 1000
    save_every: int = 1000
    report_every: int = 10
    average: int = 1

    @abstractmethod
    def train_tokenizer(self, texts: Iterable[str]) -> AnyTokenizer:
        """Return a tokenizer with the vocabulary of the config, trained on texts."""

    @abstractmethod
    def objective(self, tokenizer: AnyTokenizer) -> Objective:
        """Return what the model is trained to do."""

    @abstractmethod
    def batches(self, tokenizer: AnyTokenizer) -> BatchSource:
        """Return how a corpus is cut into batches."""

    def builtin_source(self) -> Source:
        """Return what is learned from if nothing else is given."""
        return builtin.read()

    def notes(self, source: Source, corpus: Corpus, tokenizer: AnyTokenizer) -> list[str]:
        """Return what the user should know of a text before it is trained on, one line each."""
        return []

    def initial_params(self, shapes: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
        """Return those parameters that are given, not drawn: path -> array."""
        return {}

    def student_config(self, teacher: Config) -> Config:
        """Return the config of a model that learns from a teacher with the given config."""
        return self.config

    def separate_vocabularies(self) -> "Recipe":
        """Return the recipe with a vocabulary for each side of a pair.

        Raises:
          ValueError: If the model has one embedding for both sides.
        """
        raise ValueError(
            f"{self.name} has a joint vocabulary: it does not support --separate-vocabularies"
        )

    def identity(self) -> dict[str, Any]:
        """Return what decides the numbers of a run, as JSON: a run resumes only if it agrees."""
        plain = ("name", "steps", "batch", "length", "seed", "dtype", "accumulate")
        values = {name: getattr(self, name) for name in plain}
        return {"zoo": zoo.__version__, "config": vars(self.config)} | values


R = TypeVar("R", bound=Recipe)
RecipeFactory = Callable[[], Recipe]  # makes a recipe; its docstring has the source


def with_fields(recipe: R, vocab_size: int | None = None, **fields: str | int | None) -> R:
    """Return the recipe with the fields that are not None in place of its own.

    Args:
      recipe: What to change.
      vocab_size: The vocabulary size of its config.
      fields: Plain fields of the recipe.

    Raises:
      ValueError: If a value is too small, or the length is over that of the model.
    """
    if vocab_size is not None:
        recipe = replace(recipe, config=replace(recipe.config, vocab_size=vocab_size))
    changes: dict[str, Any] = {k: v for k, v in fields.items() if v is not None}
    recipe = replace(recipe, **changes)
    for name in ("steps", "batch", "length", "accumulate"):
        if getattr(recipe, name) < 1:
            raise ValueError(f"--{name} must be at least 1, not {getattr(recipe, name)}")
    if recipe.length > recipe.config.max_length:
        raise ValueError(
            f"--length {recipe.length} is over the {recipe.config.max_length} of {recipe.name}"
        )
    return recipe


def with_config(recipe: R, settings: Sequence[str]) -> R:
    """Return the recipe with fields of its config, each NAME=VALUE, in place of its own.

    Raises:
      ValueError: For a name that the config does not have, or a value of another type or that no
        model can be built with.
    """
    config = recipe.config
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in vars(config):
            raise ValueError(f"--config {setting}: give NAME=VALUE, of {', '.join(vars(config))}")
        old = getattr(config, name)
        try:
            config = replace(config, **{name: type(old)(value)})
        except (TypeError, ValueError):
            raise ValueError(f"--config {setting}: give a value like {old!r}") from None
    if settings:
        abstract(registry.named(recipe.architecture).Model(config))  # before any text is read
    return replace(recipe, config=config)


def flops_per_step(params: chex.ArrayTree, recipe: Recipe) -> float:
    """Return the FLOP of one step: 6 per kernel parameter and token, and those of attention.

    Attention takes 12 L D per layer and token. Embeddings are not counted; the head is, as if every
    position were predicted.
    """
    leaves = flatten(params).items()
    kernels = sum(math.prod(x.shape) for path, x in leaves if path.endswith("kernel"))
    c = recipe.config
    attention = c.num_layers * recipe.length * c.width if "num_heads" in vars(c) else 0
    per_token = 6 * (kernels + c.vocab_size * c.width) + 12 * attention
    return float(per_token * recipe.batch * recipe.length)
