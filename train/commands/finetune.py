"""`zoo finetune` and `zoo find-rate`: from a pretrained model to a task."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

Tasks = Literal["sentence", "pair", "similarity", "tag", "question", "rewrite"]


@dataclass(frozen=True)
class Data:
    """The examples of a task, from files or from TensorFlow Datasets."""

    task: Tasks
    """What to learn: classes of a sentence or a pair, similarity, tags of words, answers; or to
    write another text for each, with a T5 or a translator."""
    train: Path | None = None
    """The file to learn from: .tsv, .csv, .jsonl, CoNLL columns, .conllu, SQuAD's .json, or .gz."""
    dev: Path | None = None
    """The file that tells which run is best. None: a tenth of the other."""
    test: Path | None = None
    """Another file to measure on."""
    tfds: str | None = None
    """A prepared dataset of TensorFlow Datasets in place of files, such as glue/sst2."""
    columns: tuple[str, ...] = ()
    """Which columns to read, such as text=sentence1 pair=sentence2 label=3."""
    labels: tuple[str, ...] = ()
    """The classes in their order. None: those of the data, by the alphabet."""
    limit: int | None = None
    """Learn from so many examples only, evenly spread over the file."""

    def examples(self):
        """The task and its examples by name, and what is to be said of them."""
        from train.finetuning.tasks import task

        task, columns = task.named(self.task), task.columns(self.columns)
        if (self.train is None) == (self.tfds is None):
            raise ValueError("give either --train with a file or --tfds with a name")
        if self.tfds:
            found = task.prepared(task, self.tfds, columns)
        else:
            files = {"train": self.train, "dev": self.dev, "test": self.test}
            found = {name: task.read(path, columns) for name, path in files.items() if path}
        remarks = [remark for some in found.values() for remark in some.remarks]
        return task, task.split({n: x.examples for n, x in found.items()}, self.limit), remarks


@dataclass(frozen=True)
class Finetune(Data):
    """Fine-tune a pretrained model to a task and leave a model folder."""

    folder: Annotated[Path, tyro.conf.Positional] = tyro.MISSING
    """The pretrained model: a folder of ours or Hugging Face's."""
    out: Path | None = None
    """The folder to leave. None: runs/FOLDER-TASK."""
    way: Literal["all", "features", "head-first", "gradual"] = "all"
    """All weights at once; the head on a frozen trunk; the head first; one group more at a time."""
    scratch: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Draw all weights anew, to see what pretraining is worth."""
    schedule: Literal["linear", "slanted", "one-cycle", "constant"] = "linear"
    """How the rate goes in every stage of the way."""
    rate: str | None = None
    """The highest rate, or a range from the first group to the last such as 1e-6:1e-4. None: 5e-5,
    or 3e-4 for a model narrower than 512."""
    layer_decay: float = 1.0
    """What a group's rate is of that of the group behind it."""
    decay: float = 0.01
    """Weight decay, of neither biases nor norms."""
    dropout: float | None = None
    """What training leaves out of the activations. None: as much as in pretraining."""
    auxiliary: float = 0.0
    """The weight of the loss of the next word, for a GPT."""
    epochs: float = 3.0
    """How often to see all examples."""
    batch: int = 32
    """Rows at a time."""
    length: int = 128
    """Tokens of a row at most; longer texts lose their end, contexts and sentences are cut up."""
    seed: int = 0
    """Decides the new head, the order and dropout."""
    seeds: int = 1
    """How many runs to train, from --seed on, each with a head, order and dropout of its own."""
    together: int | None = None
    """How many of them at once. None: as many as memory has room for."""

    def run(self):
        """Fine-tunes; prints what every run came to, and where the best is."""
        from train.devices import malloc
        from train.finetuning import loop

        malloc.keep_freed_memory()
        task, data, remarks = self.examples()
        out = self.out or Path("runs") / f"{self.folder.name}-{self.task}"
        names = loop.Choices._fields
        choices = loop.Choices(**{name: getattr(self, name) for name in names})
        result = loop.finetune(self.folder, task, data, out, choices, self.labels)
        for line in (*remarks, *result.remarks, *loop.lines(result, task)):
            print(line)
        print(f"model folder: {out}")


@dataclass(frozen=True)
class FindRate(Data):
    """Try ever higher rates on a task, and draw where the loss falls fastest."""

    folder: Annotated[Path, tyro.conf.Positional] = tyro.MISSING
    """The pretrained model: a folder of ours or Hugging Face's."""
    out: Path = Path("rates.png")
    """The picture to draw."""
    low: float = 1e-6
    """The first rate."""
    high: float = 1.0
    """The last rate."""
    steps: int = 100
    """Updates between the two."""
    batch: int = 32
    """Rows at a time."""
    length: int = 128
    """Tokens of a row at most."""
    seed: int = 0
    """Decides the new head, the order and dropout."""

    def run(self):
        """Prints the rate where the loss falls fastest, a good highest one for training."""
        from train.finetuning import learning_rate_finder, loop

        task, data, _ = self.examples()
        choices = loop.Choices(batch=self.batch, length=self.length, seed=self.seed)
        tried = loop.try_rates(
            self.folder,
            task,
            data["train"],
            choices,
            (self.low, self.high),
            self.steps,
            self.labels,
        )
        best = learning_rate_finder.steepest(*tried)
        learning_rate_finder.draw(*tried, best, self.out)
        print(f"the loss falls fastest at {best:.1e}: try --rate {best:.1e}\npicture: {self.out}")
