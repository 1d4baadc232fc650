"""`zoo prompt`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from train import unused
from train.ranges import Natural, Positive


@dataclass(frozen=True)
class Prompt:
    """Evaluate a causal language model in context: zero-, one- and few-shot."""

    example: ClassVar[str] = (
        "zoo prompt models/gpt2 --train train.tsv --data test.tsv --shots 0 1 4 16"
    )

    folder: Annotated[str | Path, tyro.conf.Positional]
    """The folder of a causal language model, ours or Hugging Face's, or a name on the Hub."""
    data: Path
    """The examples to predict, as `zoo finetune` reads them."""
    train: Path
    """The examples to draw the shots from."""
    task: Literal["sentence", "pair"] = "sentence"
    """What has a label: a text or a pair of texts."""
    shots: tuple[Natural, ...] = (0, 1, 4, 16)
    """The numbers of labelled examples in the prompt."""
    seeds: Positive = 1
    """How often to draw the shots; the mean is printed."""
    labels: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[LABEL=WORD ...]")] = ()
    """The words for the labels in the prompt, such as 0=negative 1=positive. Default: the labels
    themselves."""
    template: str | None = None
    """How an example is written, such as "Review: {text}\\nIt was {label}". Default: "Text: {text}"
    and "Label: {label}" on two lines."""
    columns: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[NAME=COLUMN ...]")] = ()
    """The columns of the files, such as text=sentence1 pair=sentence2 label=3."""
    limit: Positive | None = None
    """The number of test examples to predict. Default: all."""
    batch: Positive = 32
    """Prompts per batch."""

    def run(self) -> None:
        """Print the accuracy for each number of shots, plain and calibrated."""
        import numpy as np

        import zoo
        from train.commands.command import unescaped
        from train.data.examples.tables import parse_columns, read_texts
        from train.pretraining import in_context

        if not any(self.shots):
            unused.refuse(self, ["seeds"], "has no effect without shots")
        columns = parse_columns(self.columns)
        train, test = [read_texts(path, columns).examples for path in (self.train, self.data)]
        if (train[0].pair is None) != (self.task == "sentence"):
            raise ValueError(
                f"--task {self.task} does not fit {self.train}: with one text per row use "
                "--task sentence, with two --task pair, or name the columns with --columns"
            )
        test = test[: self.limit]
        words = in_context.label_words(self.labels, train)
        if unseen := [example.label for example in test if example.label not in words]:
            raise ValueError(f"the label {unseen[0]!r} of {self.data} is not in {self.train}")
        loaded = zoo.load(self.folder)
        counts = [sum(example.label == label for example in test) for label in words]
        print(f"{len(test)} examples, most frequent label {max(counts) / len(test):.4f}")
        for shots in self.shots:
            runs = [
                in_context.evaluate(
                    loaded,
                    train,
                    test,
                    words,
                    shots=shots,
                    seed=seed,
                    template=unescaped(self.template),
                    batch_size=self.batch,
                )
                for seed in range(self.seeds if shots else 1)
            ]
            for name in runs[0]:
                values = [run[name] for run in runs]
                spread = f" +- {np.std(values):.4f}" if len(values) > 1 else ""
                print(f"{shots} shots, {name}: accuracy {np.mean(values):.4f}{spread}")
