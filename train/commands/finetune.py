"""`zoo finetune` and `zoo find-learning-rate`: from a pretrained model to a task."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from train.finetuning.settings import DataSettings, Settings


@dataclass(frozen=True)
class Finetune:
    """Fine-tune a pretrained model to a task and leave a model folder."""

    folder: Annotated[Path, tyro.conf.Positional]
    """The pretrained model: a folder of ours or Hugging Face's."""
    data: Annotated[DataSettings, tyro.conf.OmitArgPrefixes]
    """The examples of the task."""
    settings: Annotated[Settings, tyro.conf.OmitArgPrefixes]
    """How to train."""
    out: Path | None = None
    """The folder to write. None: runs/FOLDER-TASK."""

    def run(self) -> None:
        """Fine-tune; print the metrics of every run, and where the best is."""
        from train.devices import malloc
        from train.finetuning import data, evaluate, loop
        from train.finetuning.tasks.registry import TASKS

        malloc.keep_freed_memory()
        task = TASKS[self.data.task]
        examples, notes = data.load(self.data)
        out = self.out or Path("runs") / f"{self.folder.name}-{self.data.task}"
        metrics, more = loop.finetune(
            self.folder, task, examples, out, self.settings, self.data.labels
        )
        for line in (*notes, *more, *evaluate.summary(task, metrics)):
            print(line)
        print(f"model folder: {out}")


@dataclass(frozen=True)
class FindLearningRate:
    """Try ever higher learning rates on a task, and draw where the loss falls fastest."""

    folder: Annotated[Path, tyro.conf.Positional]
    """The pretrained model: a folder of ours or Hugging Face's."""
    data: Annotated[DataSettings, tyro.conf.OmitArgPrefixes]
    """The examples of the task."""
    out: Path = Path("learning-rates.png")
    """The picture to draw."""
    low: float = 1e-6
    """The first learning rate."""
    high: float = 1.0
    """The last learning rate."""
    steps: int = 100
    """Steps between the two."""
    batch: int = 32
    """Rows per batch."""
    length: int = 128
    """Maximum tokens per row."""
    seed: int = 0
    """Decides the new head, the order of the rows and dropout."""

    def run(self) -> None:
        """Print the learning rate where the loss falls fastest, a good highest one."""
        from train.finetuning import data, learning_rate_finder
        from train.finetuning.tasks.registry import TASKS

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
        learning_rate_finder.draw(*tested, best, self.out, self.folder.name)
        print(
            f"the loss falls fastest at {best:.1e}: try --learning-rate {best:.1e}\n"
            f"picture: {self.out}"
        )
