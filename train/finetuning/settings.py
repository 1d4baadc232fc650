"""The settings of fine-tuning: the data of a task, and how to train on them.

The commands embed both classes, so their docstrings are the help of `zoo finetune`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from train import ranges, unused
from train.ranges import Axis, Natural, NaturalFloat, Positive, PositiveFloat, Rate, Share

# The kinds of task. Regression is classification with one label, a number to predict.
TaskName = Literal[
    "classification",
    "multi-label",
    "regression",
    "tagging",
    "crf-tagging",
    "question-answering",
    "multiple-choice",
    "text-to-text",
]


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
    skip_invalid: bool = False
    """Skip rows with a wrong number of columns and rows with an empty text, and print how many."""
    labels: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[LABEL ...]")] = ()
    """Class names in order. Default: those of the data, sorted alphabetically."""
    limit: Positive | None = None
    """Train on this many examples, evenly spaced over the file. Default: all."""
    group: Annotated[str | None, tyro.conf.arg(metavar="COLUMN")] = None
    """Without --dev: the column whose equal values stay together, in training or development."""
    split_seed: Natural = 0
    """Without --dev: random seed of the draw of a tenth, which is stratified by label."""


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """How to learn from a fine-tuned teacher."""

    teacher: Annotated[str | Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """The model folder of a teacher, fine-tuned for the task, or a name on the Hub. Default: learn
    from labels alone."""
    teacher_weight: Share = 0.5
    """Weight of the teacher's loss; the labels have the rest. 1: the labels are not used."""
    distillation_loss: Literal["cross-entropy", "squared-error"] = "cross-entropy"
    """Compare distributions, or logits."""
    temperature: PositiveFloat = 2.0
    """Temperature of both distributions."""
    unlabelled: Path | None = None
    """Further texts for the teacher: one per line, pairs with a tab in between."""

    def check(self) -> None:
        """Raise ValueError with the first setting that is wrong, by its flag."""
        ranges.check(self)
        if self.unlabelled and not self.teacher:
            raise ValueError("--unlabelled needs --teacher, which labels the texts")
        if not self.teacher:
            unused.refuse_others(self, [], "needs --teacher")
        if self.distillation_loss == "squared-error":
            unused.refuse(
                self, ["temperature"], "has no effect on --distillation-loss squared-error"
            )


@dataclass(frozen=True, kw_only=True)
class BagOfWords:
    """The classifier of fastText, which starts from random rows or from those of a folder.

    The settings without a default are those of the folder, if it has them.
    """

    loss: Literal["softmax", "negative-sampling", "hierarchical-softmax", "one-vs-all"] = "softmax"
    """How the mean of a text predicts its label. Negative sampling and one-vs-all give every label
    a probability by itself; a hierarchical softmax is for thousands of labels."""
    negatives: Positive = 5
    """For negative sampling: the number of other labels per text."""
    word_ngrams: Positive = 1
    """Rows for n-grams of up to so many words, which tell the order of words."""
    width: Positive | None = None
    """Width of the rows. Default: 100."""
    min_n: Natural | None = None
    """Fewest characters of the n-grams of characters. Default: 0."""
    max_n: Natural | None = None
    """Most characters of them. Default: 0, which is no n-grams."""
    buckets: Natural | None = None
    """Number of rows that n-grams share. Default: 200,000, or 0 without n-grams."""
    min_count: Positive | None = None
    """How often a word must occur to have a row. Default: 1."""

    def check(self) -> None:
        """Raise ValueError with the first setting that is out of range, by its flag."""
        ranges.check(self)
        if self.loss != "negative-sampling":
            unused.refuse(self, ["negatives"], "needs --loss negative-sampling")
        if self.min_n and self.max_n is not None and self.max_n < self.min_n:
            raise ValueError(f"--max-n {self.max_n} is less than --min-n {self.min_n}")
        if self.min_n and self.max_n is None:
            raise ValueError("--min-n needs --max-n, the most characters of an n-gram")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to fine-tune."""

    unfreeze: Literal["all", "head", "head-first", "gradual"] | None = None
    """Train all layers, the head, first the head and then all, or one more group per stage.
    Default: all; the head of taggers on ELMo, Flair and word vectors."""
    scratch: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Initialize all weights randomly, to measure what pretraining contributes."""
    reinit: Natural = 0
    """Also initialize the top layers randomly, this many, besides the head."""
    stack: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """For taggers on ELMo and Flair: static word vectors beside those of the model; also a file, or
    a name on the Hub."""
    letters: Natural = 0
    """For taggers on word vectors: so many features of the letters of a word beside its vector
    (Ma and Hovy 2016, who have 30)."""
    add_tokens: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Add the words of this file to the vocabulary, one per line, each as one token."""
    optimizer: Literal["adamw", "adafactor"] = "adamw"
    """T5's authors use adafactor with --schedule constant; its learning rate is relative to the
    size of the weights."""
    schedule: Literal["linear", "slanted", "one-cycle", "constant"] = "linear"
    """Learning-rate schedule of each stage."""
    learning_rate: Annotated[str | None, tyro.conf.arg(metavar="RATE|LOW:HIGH")] = None
    """Peak, or a range such as 1e-6:1e-4 from input to head. Default: 5e-5 (width < 512: 3e-4;
    taggers on frozen vectors, adafactor: 1e-3; fastText: 0.1)."""
    layer_decay: PositiveFloat = 1.0
    """Factor between the learning rates of adjacent layer groups, from the head down."""
    weight_decay: NaturalFloat = 0.01
    """Weight decay (biases and norms are excluded)."""
    dropout: Rate | None = None
    """Dropout rate. Default: as in pretraining; 0.5 for taggers on frozen vectors."""
    config: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[NAME=VALUE ...]")] = ()
    """Changes to the other dropout rates of the model's config, such as weight_dropout=0.5."""
    auxiliary: NaturalFloat = 0.0
    """Weight of an auxiliary language-modeling loss, for GPT."""
    epochs: PositiveFloat = 3.0
    """Number of passes over the training examples."""
    batch: Positive = 32
    """Examples per batch, over all devices."""
    accumulate: Positive = 1
    """Micro-batches per step: more of them need less memory."""
    length: Positive = 128
    """Maximum tokens per example. Longer texts are truncated; contexts and sentences are split."""
    stride: Positive | None = None
    """Read long texts in windows that begin so many tokens apart, and average their logits; for
    questions, search all windows of a context. Default: truncate texts; 128 for contexts."""
    pack: Annotated[Positive | None, tyro.conf.arg(metavar="COUNT")] = None
    """For short texts and Transformers: rows of --length tokens with up to so many texts, which do
    not attend to each other. Default: a row for each text."""
    both_orders: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Read each pair in both orders and add what the model reads, so that neither text is first;
    for GPT and tasks of similarity."""
    class_weights: Annotated[str | None, tyro.conf.arg(metavar="balanced|FILE")] = None
    """Weight of the loss of each class: inverse to its examples, or from a file of labels and
    weights, JSON or with tabs. Default: equal weights."""
    label_smoothing: Rate = 0.0
    """The fraction of each target that is spread evenly over the classes."""
    seed: Natural = 0
    """Random seed of the new head, the data order and dropout."""
    seeds: Positive = 1
    """Number of runs, with seeds from --seed on; the best is kept."""
    parallel_runs: Positive | None = None
    """Number of runs to train at once. Default: as many as fit in memory."""
    keep: Literal["best", "last"] = "best"
    """Keep the model of the best evaluation on the development data, or the last one."""
    patience: Positive | None = None
    """Stop after this many evaluations without a better one. Default: never."""
    evaluate_every: Positive | None = None
    """Steps between evaluations on the development data. Default: an epoch."""
    save_every: Positive | None = None
    """Steps between checkpoints. Default: an epoch."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type to compute in; parameters stay float32."""
    parallel: Literal["mesh", "pmap"] = "mesh"
    """How devices share the work of a single run: as a mesh, or as replicas (pmap)."""
    mesh: Annotated[tuple[Axis, Axis, Axis], tyro.conf.arg(metavar="DATA FSDP TENSOR")] = (-1, 1, 1)
    """Number of devices along each axis of the mesh; -1: all that remain."""

    def check(self) -> None:
        """Raise ValueError with the first setting that is out of range, by its flag."""
        ranges.check(self)
        if self.reinit and self.scratch:
            raise ValueError("--scratch initializes all layers randomly: leave out --reinit")
        if self.reinit and self.unfreeze not in (None, "all"):
            raise ValueError(
                f"--reinit needs --unfreeze all, not {self.unfreeze}, which freezes the new layers"
            )
        if self.pack and self.unfreeze not in (None, "all"):
            raise ValueError(
                f"--pack needs --unfreeze all, not {self.unfreeze}, which computes the features of "
                "each text once"
            )
        if self.patience and self.keep == "last":
            raise ValueError("--patience looks for the best model: use it with --keep best")
        if self.optimizer == "adafactor":
            unused.refuse(self, ["weight_decay"], "has no effect with --optimizer adafactor")
        if self.unfreeze == "head":
            unused.refuse(self, ["layer_decay"], "has no effect with --unfreeze head")
        if self.seeds == 1:
            unused.refuse(self, ["parallel_runs"], "needs more --seeds than one")
        if self.parallel == "pmap" and self.mesh[1:] == (1, 1):
            unused.refuse(self, ["mesh"], "has no effect with --parallel pmap")
        if self.seeds > 1 and (self.parallel != "mesh" or self.mesh != (-1, 1, 1)):
            raise ValueError(
                "--seeds shares the devices among runs: leave out --parallel and --mesh"
            )
