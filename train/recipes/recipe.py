"""The description of a run: model, objective, data, optimizer, number of steps.

A family of recipes is a subclass that defines the tokenizer, the objective and the batches. Its
module names the source of the settings. The command line sets the plain fields; everything else is
Python.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, replace
from typing import Any, ClassVar, Protocol, TypeVar

import chex
import jax
import numpy as np
from flax import linen as nn

import zoo
from train.data.batches.batches import BatchSource
from train.data.batches.packed_documents import PackedDocuments
from train.data.corpus.corpus import Corpus
from train.data.sources import builtin
from train.data.sources.source import Source
from train.objectives.objective import Objective
from train.optimization import schedules
from train.optimization.averaging import NonMonotonicAveraging
from train.optimization.optimizers import OptimizerFactory
from train.optimization.schedules import ScheduleFactory
from train.recipes.config_values import changed
from train.recipes.embeddings import Embeddings
from zoo import registry
from zoo.layers.execution import Remat
from zoo.params import abstract, flatten
from zoo.tokenizers import AnyTokenizer

R = TypeVar("R", bound="Recipe")


class Config(Protocol):
    """The fields of a model config that training needs; configs are frozen dataclasses."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def vocab_size(self) -> int:
        """The size of the vocabulary."""
        ...

    @property
    def max_length(self) -> int:
        """The maximum number of tokens in a sequence."""
        ...

    @property
    def num_layers(self) -> int:
        """The number of layers."""
        ...

    @property
    def width(self) -> int:
        """The width of the hidden states."""
        ...


@dataclass(frozen=True, eq=False)
class Initial:
    """The weights that a run starts from.

    Attributes:
      folder: Where they are from.
      params: Path -> array; parameters that it lacks are initialized at random.
      fingerprint: A checksum of all arrays.
    """

    folder: str
    params: Mapping[str, np.ndarray]
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """A run of `steps` steps, each on a batch of `batch` sequences of `length` tokens.

    Attributes:
      source_kind: The kind of source that the family is trained on: "text", "pairs" or "sound".
      unit: What `length` counts, for reports.
      reads_words: Whether the model can read a vocabulary of words, without special tokens of its
        own; it does so if it starts from word vectors.
      reads_all_words: Whether the tokenizer is trained on all of the text, not on a sample.
      can_sample: Whether the family can be trained with a sampled softmax.
      can_pack: Whether the family can be trained on rows packed with single documents.
      can_mask: Whether the family predicts masked tokens.
      name: The name in `zoo pretrain NAME`.
      architecture: The name of the architecture in zoo.registry.
      config: The config of the model.
      schedule: Creates the learning-rate schedule for a number of steps.
      optimizer: Creates the optimizer for a schedule.
      undecayed: Patterns for the paths of parameters without weight decay.
      end_of_document: The token between documents, or None.
      reserved_tokens: A pattern that no text may contain, or None.
      steps: Total number of steps.
      batch: Sequences per step, over all devices.
      length: Tokens per sequence, or what else `unit` names.
      seed: Seed of initialization, order, masks and dropout.
      dtype: The type of matrix products; parameters stay float32.
      accumulate: Number of micro-batches per batch.
      remat: What the backward pass computes again to save memory: "none", "dots" (all but products
        with weights) or "full".
      evaluate_every: Steps between evaluations.
      save_every: Steps between checkpoints.
      report_every: Steps between reports.
      samples: Negatives of a sampled softmax, in training; 0: the full softmax.
      pack: The most documents in a row, which do not attend to each other. None: the rows of the
        paper.
      epochs: Passes over the text, from which the number of steps follows. None: `steps`.
      average: Number of last checkpoints whose mean is the final model; 1: no averaging.
      averaging: When the averaging of weights starts, whose mean becomes the model. None: never.
      learning_rate: The peak of `schedule`, where it is not that of the paper. None: it is.
      mask_rate: Fraction of the tokens that is masked, where it is not that of the paper. None: it
        is.
      initial: The weights to start from. None: random ones.
      embeddings: Word vectors for the input table. None: it is initialized like the others.
    """

    source_kind: ClassVar[str] = "text"
    unit: ClassVar[str] = "tokens"
    reads_words: ClassVar[bool] = False
    reads_all_words: ClassVar[bool] = False
    can_sample: ClassVar[bool] = False
    can_pack: ClassVar[bool] = False
    can_mask: ClassVar[bool] = False

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
    remat: Remat = "none"
    evaluate_every: int = 1000
    save_every: int = 1000
    report_every: int = 10
    average: int = 1
    samples: int = 0
    pack: int | None = None
    averaging: NonMonotonicAveraging | None = None
    epochs: float | None = None
    learning_rate: float | None = None
    mask_rate: float | None = None
    initial: Initial | None = None
    embeddings: Embeddings | None = None

    @abstractmethod
    def train_tokenizer(self, texts: Iterable[str]) -> AnyTokenizer:
        """Return a tokenizer trained on texts, with the vocabulary size of the config."""

    @abstractmethod
    def objective(self, tokenizer: AnyTokenizer) -> Objective:
        """Return the training objective."""

    @abstractmethod
    def batches(self, tokenizer: AnyTokenizer) -> BatchSource:
        """Return the batch source, which splits a corpus into batches."""

    def model_class(self) -> type[nn.Module]:
        """Return the class of the model."""
        return registry.named(self.architecture).Model

    def epoch(self, tokenizer: AnyTokenizer, corpus: Corpus) -> int:
        """Return how much of a text an epoch reads, in the unit of `length`.

        Packed rows are counted with their padding.
        """
        batches = None if self.pack is None else self.batches(tokenizer)
        if isinstance(batches, PackedDocuments):
            return batches.packing(corpus)[0].num_rows * self.length
        return len(corpus.predicted_tokens(tokenizer))

    def for_text(self: R, tokenizer: AnyTokenizer, corpus: Corpus) -> R:
        """Return the recipe with what it takes from its training text, such as the number of steps.

        Raises:
          ValueError: If the text has too little to train on.
        """
        if self.embeddings is not None:
            model = self.architecture, self.config, self.seed
            fitted = self.embeddings.for_vocabulary(tokenizer, *model)
            return replace(self, embeddings=fitted)._with_steps(tokenizer, corpus)
        return self._with_steps(tokenizer, corpus)

    def _with_steps(self: R, tokenizer: AnyTokenizer, corpus: Corpus) -> R:
        if self.epochs is None:
            return self
        steps = math.ceil(self.epochs * self.epoch(tokenizer, corpus) / (self.batch * self.length))
        return replace(self, steps=max(steps, 1))

    def examples(self, source: Source) -> Source:
        """Return the documents to train on, given the source that the user chose: the same."""
        return source

    def builtin_source(self) -> Source:
        """Return the source to train on if the user gives none."""
        return builtin.read()

    def notes(self, source: Source, corpus: Corpus, tokenizer: AnyTokenizer) -> list[str]:
        """Return notes for the user about a text before training, one line each."""
        batches = None if self.pack is None else self.batches(tokenizer)
        return [batches.note(corpus)] if isinstance(batches, PackedDocuments) else []

    def initial_params(self, shapes: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, Any]:
        """Return the parameters that are not initialized at random: path -> array."""
        initial = {} if self.initial is None else self.initial.params
        # A model that is trained on packed documents may lack a head of the paper's.
        params: dict[str, Any] = {path: x for path, x in initial.items() if path in shapes}
        if self.embeddings is not None:
            params[self.embeddings.path] = self.embeddings.table_VE
        return params

    def flops_per_step(self, params: chex.ArrayTree) -> float:
        """Return the FLOP of one step, given the parameters or their shapes."""
        return flops_per_step(params, self)

    def student_config(self, teacher: Config) -> Config:
        """Return the config of a student of a teacher with the given config."""
        return self.config

    def separate_vocabularies(self) -> "Recipe":
        """Return the recipe with a separate vocabulary for each side of a pair.

        Raises:
          ValueError: If the model has one embedding for both sides.
        """
        raise ValueError(
            f"{self.name} has a joint vocabulary: it does not support --separate-vocabularies"
        )

    def identity(self) -> dict[str, Any]:
        """Return all settings that determine the results, as JSON; resuming requires the same."""
        plain = ("name", "steps", "batch", "length", "seed", "dtype", "accumulate")
        values = {name: getattr(self, name) for name in plain}
        if self.initial is not None:
            values["init"] = self.initial.fingerprint
        if self.embeddings is not None:
            values["embeddings"] = self.embeddings.fingerprint()
            values["freeze_embeddings"] = self.embeddings.frozen
        if self.samples:
            values["samples"] = self.samples
        if self.pack is not None:
            values["pack"] = self.pack
        if self.learning_rate is not None:
            values["learning_rate"] = self.learning_rate
        if self.mask_rate is not None:
            values["mask_rate"] = self.mask_rate
        return {"zoo": zoo.__version__, "config": vars(self.config)} | values


RecipeFactory = Callable[[], Recipe]


def with_fields(recipe: R, vocab_size: int | None = None, **fields: str | int | float | None) -> R:
    """Return the recipe with some fields replaced.

    Args:
      recipe: The recipe to change.
      vocab_size: The vocabulary size of its config. None: unchanged.
      fields: Plain fields of the recipe; those that are None are unchanged.

    Raises:
      ValueError: If a value is too small, or the length exceeds the maximum of the model.
    """
    if vocab_size is not None:
        recipe = replace(recipe, config=replace(recipe.config, vocab_size=vocab_size))
    changes: dict[str, Any] = {k: v for k, v in fields.items() if v is not None}
    if "steps" in changes:
        changes["epochs"] = None
    if "learning_rate" in changes:
        changes["schedule"] = schedules.with_peak(recipe.schedule, changes["learning_rate"])
    if changes.get("samples") and not recipe.can_sample:
        raise ValueError(
            f"{recipe.name} is not trained with a sampled softmax: leave out --samples"
        )
    if changes.get("pack") and not recipe.can_pack:
        raise ValueError(
            f"{recipe.name} is not trained on single documents, which could be packed: leave out "
            "--pack"
        )
    if changes.get("mask_rate") and not recipe.can_mask:
        raise ValueError(f"{recipe.name} predicts no masked tokens: leave out --mask-rate")
    recipe = replace(recipe, **changes)
    for name in ("steps", "batch", "length", "accumulate"):
        if getattr(recipe, name) < 1:
            raise ValueError(f"--{name} must be at least 1, not {getattr(recipe, name)}")
    if recipe.samples < 0:
        raise ValueError(f"--samples must be at least 0, not {recipe.samples}")
    if recipe.length > recipe.config.max_length:
        raise ValueError(
            f"--length {recipe.length} is too long: {recipe.name} supports at most "
            f"{recipe.config.max_length} tokens"
        )
    return recipe


def with_config(recipe: R, settings: Sequence[str]) -> R:
    """Return the recipe with fields of its config replaced, each given as NAME=VALUE.

    The width of a head follows the width and the number of heads, unless it is given as well, or
    did not follow them before.

    Raises:
      ValueError: As `changed`, or if no model can be built with the config.
    """
    config = changed(recipe.config, settings)
    given = {setting.partition("=")[0] for setting in settings}
    if given & {"width", "num_heads"} and "head_width" not in given:
        config = _with_head_width(recipe.config, config)
    if settings:
        # Builds the model, so that an invalid config fails before any text is read.
        abstract(registry.named(recipe.architecture).Model(config))
    return replace(recipe, config=config)


def _with_head_width(before: Any, config: Any) -> Any:
    """Return a config whose heads fill the width, if those of the config before did so."""
    if "head_width" not in vars(config) or before.head_width * before.num_heads != before.width:
        return config
    if config.num_heads < 1 or config.width % config.num_heads:
        raise ValueError(
            f"--config: num_heads={config.num_heads} does not divide width={config.width}: change "
            "one of them, or give head_width as well"
        )
    return replace(config, head_width=config.width // config.num_heads)


def flops_per_step(params: chex.ArrayTree, recipe: Recipe) -> float:
    """Return the FLOP of one step: 6 per kernel parameter and token, plus those of attention.

    Attention needs 12 L D per layer and token. Embeddings are not counted. The output layer is
    counted as if every position were predicted.
    """
    leaves = flatten(params).items()
    kernels = sum(math.prod(x.shape) for path, x in leaves if path.endswith("kernel"))
    c = recipe.config
    attention = c.num_layers * recipe.length * c.width if "num_heads" in vars(c) else 0
    per_token = 6 * (kernels + c.vocab_size * c.width) + 12 * attention
    return float(per_token * recipe.batch * recipe.length)
