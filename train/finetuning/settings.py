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
    """What the model learns to predict."""
    train: Path | None = None
    """Training file: .tsv, .csv, .jsonl, CoNLL columns, .conllu or SQuAD .json; also as .gz."""
    dev: Path | None = None
    """Development file, which selects the best run. Default: a tenth of the training examples."""
    test: Path | None = None
    """Test file: evaluated once, after training."""
    tfds: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Instead of files, a prepared dataset of TensorFlow Datasets, such as glue/sst2."""
    columns: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[NAME=COLUMN ...]")] = ()
    """Columns to read, such as text=sentence1 pair=sentence2 label=3. Default: by common names."""
    labels: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[LABEL ...]")] = ()
    """Class names in order. Default: those of the data, sorted alphabetically."""
    limit: int | None = None
    """Train on this many examples, evenly spaced over the file. Default: all."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to fine-tune."""

    unfreeze: Literal["all", "head", "head-first", "gradual"] = "all"
    """Train all layers, the head, first the head and then all, or one more group per stage."""
    scratch: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Initialize all weights randomly, to measure what pretraining contributes."""
    schedule: Literal["linear", "slanted", "one-cycle", "constant"] = "linear"
    """Learning-rate schedule of each stage."""
    learning_rate: Annotated[str | None, tyro.conf.arg(metavar="RATE|LOW:HIGH")] = None
    """Peak, or a range such as 1e-6:1e-4 from input to head. Default: 5e-5 (width < 512: 3e-4)."""
    layer_decay: float = 1.0
    """Factor between the learning rates of adjacent layer groups, from the head down."""
    weight_decay: float = 0.01
    """Weight decay (biases and norms are excluded)."""
    dropout: float | None = None
    """Dropout rate. Default: as in pretraining."""
    auxiliary: float = 0.0
    """Weight of an auxiliary language-modeling loss, for GPT."""
    epochs: float = 3.0
    """Number of passes over the training examples."""
    batch: int = 32
    """Examples per batch."""
    length: int = 128
    """Maximum tokens per example. Longer texts are truncated; contexts and sentences are split."""
    seed: int = 0
    """Random seed of the new head, the data order and dropout."""
    seeds: int = 1
    """Number of runs, with seeds from --seed on; the best is kept."""
    parallel_runs: int | None = None
    """Number of runs to train at once. Default: as many as fit in memory."""
