"""The settings of fine-tuning: data and training.

The commands embed both classes, so their docstrings are the help text of `zoo finetune`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

# The names of the tasks. Regression is classification with a single label, the predicted number.
TaskName = Literal["classification", "regression", "tagging", "question-answering", "text-to-text"]


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The examples of a task, from files or from TensorFlow Datasets."""

    task: TaskName
    """What to predict: the class of a text or pair, a number, a label for every word, the span that
    answers a question, or another text (T5 and translators)."""
    train: Path | None = None
    """The training file: .tsv, .csv, .jsonl, CoNLL columns, .conllu, SQuAD .json; plain or .gz."""
    dev: Path | None = None
    """The file that selects the best run. None: a tenth of the training examples."""
    test: Path | None = None
    """Another file to evaluate on."""
    tfds: str | None = None
    """A dataset of TensorFlow Datasets instead of files, such as glue/sst2."""
    columns: tuple[str, ...] = ()
    """The columns to read, such as text=sentence1 pair=sentence2 label=3. Without a pair, single
    texts are classified. None: columns with well-known names."""
    labels: tuple[str, ...] = ()
    """The names of the classes, in order. None: those of the data, in alphabetical order."""
    limit: int | None = None
    """Train on this many examples only, evenly spaced over the file."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The training settings of fine-tuning."""

    unfreeze: Literal["all", "head", "head-first", "gradual"] = "all"
    """The parameters to train: all; the head on a frozen trunk; first the head, then all; or
    gradually one more group of layers per stage, from the head down."""
    scratch: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Train from random initialization, to measure the benefit of pretraining."""
    schedule: Literal["linear", "slanted", "one-cycle", "constant"] = "linear"
    """The learning-rate schedule of every stage."""
    learning_rate: str | None = None
    """The peak learning rate, or a range from the first group of layers to the head, such as
    1e-6:1e-4. None: 5e-5, or 3e-4 for models with a width below 512."""
    layer_decay: float = 1.0
    """Factor between the learning rates of adjacent layer groups, from the head down."""
    weight_decay: float = 0.01
    """Weight decay (biases and norms are excluded)."""
    dropout: float | None = None
    """Dropout rate. None: the rate of the pretrained model."""
    auxiliary: float = 0.0
    """Weight of the auxiliary next-token loss (GPT only)."""
    epochs: float = 3.0
    """Number of passes over the training examples."""
    batch: int = 32
    """Rows per batch."""
    length: int = 128
    """Maximum tokens per row; longer texts are truncated, contexts and sentences are split."""
    seed: int = 0
    """Seed of the initial head, the order of the rows and dropout."""
    seeds: int = 1
    """Number of runs to train, with consecutive seeds from --seed on."""
    parallel_runs: int | None = None
    """Number of runs to train in parallel. None: as many as fit into memory."""
