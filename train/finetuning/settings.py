"""The settings of fine-tuning: the data of a task, and how to train on them.

The commands embed both classes, so their docstrings are the help of `zoo finetune`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

# The kinds of task. Regression is classification with one label, a number to predict.
TaskName = Literal["classification", "regression", "tagging", "question-answering", "text-to-text"]


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The examples of a task, from files or from TensorFlow Datasets."""

    task: TaskName
    """What to predict: the class of a text or pair, a number for it, the tag of every word, the
    span that answers a question, or another text (with a T5 or a translator)."""
    train: Path | None = None
    """The file to train on: .tsv, .csv, .jsonl, CoNLL columns, .conllu, SQuAD's .json, or .gz."""
    dev: Path | None = None
    """The file that decides which run is best. None: a tenth of the training examples."""
    test: Path | None = None
    """Another file to evaluate on."""
    tfds: str | None = None
    """A prepared dataset of TensorFlow Datasets instead of files, such as glue/sst2."""
    columns: tuple[str, ...] = ()
    """Which columns to read, such as text=sentence1 pair=sentence2 label=3. A text without a pair
    is classified alone. None: columns with well-known names."""
    labels: tuple[str, ...] = ()
    """The classes in their order. None: those of the data, in alphabetical order."""
    limit: int | None = None
    """Train on this many examples only, evenly spread over the file."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to fine-tune."""

    unfreeze: Literal["all", "head", "head-first", "gradual"] = "all"
    """What to train: all weights; the head on a frozen trunk; the head and then all; one group of
    layers more in each stage, from the head down."""
    scratch: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Initialize all weights anew, to see what pretraining is worth."""
    schedule: Literal["linear", "slanted", "one-cycle", "constant"] = "linear"
    """The learning-rate schedule of every stage."""
    learning_rate: str | None = None
    """The highest learning rate, or a range from the first group of layers to the head such as
    1e-6:1e-4. None: 5e-5, or 3e-4 for a model narrower than 512."""
    layer_decay: float = 1.0
    """Factor between the learning rates of adjacent groups of layers, from the head down."""
    weight_decay: float = 0.01
    """Weight decay (biases and norms are excluded)."""
    dropout: float | None = None
    """Dropout rate. None: that of pretraining."""
    auxiliary: float = 0.0
    """Weight of the auxiliary loss of the next token, for a GPT."""
    epochs: float = 3.0
    """Passes over all training examples."""
    batch: int = 32
    """Rows per batch."""
    length: int = 128
    """Maximum tokens per row; longer texts are truncated, contexts and sentences are split."""
    seed: int = 0
    """Decides the new head, the order of the rows and dropout."""
    seeds: int = 1
    """How many runs to train, with the seeds from --seed on."""
    parallel_runs: int | None = None
    """How many of the runs to train at once. None: as many as fit in memory."""
