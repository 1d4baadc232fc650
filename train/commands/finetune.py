"""`zoo finetune` and `zoo find-learning-rate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from train import unused
from train.finetuning.settings import BagOfWords, DataSettings, Distillation, Settings
from train.ranges import Natural, Positive, PositiveFloat


@dataclass(frozen=True)
class Finetune:
    """Fine-tune a pretrained model on a task, and write a model folder."""

    example: ClassVar[str] = (
        "zoo finetune runs/bert-tiny --task classification --train train.tsv --dev dev.tsv"
    )

    folder: Annotated[str | Path, tyro.conf.Positional]
    """The folder of the pretrained model, ours or Hugging Face's, or a name on the Hub, such as
    google-bert/bert-base-uncased; or fasttext: random rows."""
    data: Annotated[DataSettings, tyro.conf.OmitArgPrefixes]
    """The task and its examples."""
    training: Annotated[Settings, tyro.conf.OmitArgPrefixes]
    """How to train."""
    distillation: Annotated[Distillation, tyro.conf.OmitArgPrefixes]
    """How to learn from a fine-tuned teacher."""
    bag_of_words: Annotated[BagOfWords, tyro.conf.OmitArgPrefixes]
    """The classifier of fastText."""
    out: Path | None = None
    """The folder to write. Default: runs/FOLDER-TASK."""
    resume: bool = False
    """Continue the runs in that folder from their last checkpoint."""
    overwrite: bool = False
    """Replace the model or the run in that folder."""

    def run(self) -> None:
        """Print the metrics of every run, and where the best model is."""
        from train.devices import malloc
        from train.loop import check_new
        from zoo.checkpoints.lock import locked

        malloc.keep_freed_memory()
        out = self.out or Path("runs") / f"{Path(self.folder).name}-{self.data.task}"
        with locked(out):
            check_new(out, resume=self.resume, overwrite=self.overwrite, reads=[self.folder])
            self._train(out)

    def _train(self, out: Path) -> None:
        import jax

        from train.finetuning import data, evaluate, finetune
        from train.finetuning.tasks.registry import TASKS
        from train.finetuning.tuning import Stopped

        task, training = TASKS[self.data.task], self.training
        examples, notes = data.load(self.data)
        counts = ", ".join(f"{name} {len(some):,}" for name, some in examples.items())
        print(
            f"model    {self.folder}\n"
            f"task     {self.data.task}\n"
            f"data     examples: {counts}\n"
            f"epochs   {training.epochs:g} in batches of {training.batch}, runs: {training.seeds}\n"
            f"devices  {jax.device_count()} {jax.devices()[0].device_kind}\n"
            f"output   {out.absolute()}",
            flush=True,
        )
        labels = self.data.labels
        try:
            metrics, more = finetune.finetune(
                self.folder,
                task,
                examples,
                out,
                training,
                labels,
                distillation=self.distillation,
                bag_of_words=self.bag_of_words,
                resume=self.resume,
                overwrite=self.overwrite,
            )
        except Stopped as stopped:
            print(stopped)
            return
        for line in (*notes, *more, *evaluate.summary(task, metrics)):
            print(line)
        print(f"model folder: {out}")


@dataclass(frozen=True)
class FindLearningRate:
    """Find a good learning rate for fine-tuning, by a learning-rate range test."""

    example: ClassVar[str] = (
        "zoo find-learning-rate runs/bert-tiny --task classification --train train.tsv"
    )

    folder: Annotated[str | Path, tyro.conf.Positional]
    """The folder of the pretrained model, ours or Hugging Face's, or a name on the Hub."""
    data: Annotated[DataSettings, tyro.conf.OmitArgPrefixes]
    """The task and its examples."""
    out: Path = Path("learning-rates.png")
    """Draw the loss by learning rate to this file."""
    overwrite: bool = False
    """Replace that file if it exists."""
    low: PositiveFloat = 1e-6
    """The lowest learning rate to test."""
    high: PositiveFloat = 1.0
    """The highest learning rate to test."""
    steps: Positive = 100
    """Number of steps from the lowest to the highest."""
    batch: Positive = 32
    """Examples per batch."""
    length: Positive = 128
    """Maximum tokens per example."""
    seed: Natural = 0
    """Random seed of the new head, the data order and dropout."""

    def run(self) -> None:
        """Print the learning rate at which the loss falls fastest, a good peak for training."""
        from train.finetuning import data, learning_rate_finder
        from train.finetuning.tasks.registry import TASKS
        from train.reporting import pictures
        from zoo.checkpoints import existing

        existing.check_file(self.out, overwrite=self.overwrite)
        pictures.check_name(self.out)
        unused.refuse(self.data, ["test"], "has no effect on this search")
        if not (self.low < self.high and self.steps > 1):
            raise ValueError("--low must be less than --high, and --steps at least 2")
        examples, _ = data.load(self.data)
        settings = Settings(batch=self.batch, length=self.length, seed=self.seed)
        tested = learning_rate_finder.range_test(
            self.folder,
            TASKS[self.data.task],
            examples["train"],
            settings,
            self.low,
            self.high,
            self.steps,
            self.data.labels,
        )
        best = learning_rate_finder.steepest(*tested)
        learning_rate_finder.draw(*tested, best, self.out, Path(self.folder).name)
        print(
            f"the loss falls fastest at {best:.1e}: try --learning-rate {best:.1e}\n"
            f"picture: {self.out}"
        )
