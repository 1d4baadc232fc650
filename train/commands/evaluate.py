"""How good models are and how large: `zoo evaluate` and `zoo list`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from train.commands.pairs import pairs
from train.finetuning.settings import TaskName


@dataclass(frozen=True)
class Evaluate:
    """Measure a model by its pretraining objective, or by its task: what it says, writes, tags."""

    folder: Annotated[Path, tyro.conf.Positional]
    """A model folder, ours or Hugging Face's."""
    text: tuple[Path, ...] = ()
    """Text files. None: the held-out part of what is built in."""
    separator: str | None = None
    """What separates documents within a file."""
    source: Path | None = None
    """For a translator: a file with a text a line, or a .tsv or .jsonl with pairs; .gz too."""
    target: Path | None = None
    """The file whose lines belong to those of --source."""
    fields: tuple[str, str] | None = None
    """Which fields of a .jsonl are source and target. None: those of that name."""
    batch: int = 16
    """Sequences at a time."""
    length: int | None = None
    """Tokens in a sequence. None: 128, or the most that the model takes."""
    beams: int = 4
    """Of a translator's search; 1 takes the likeliest word each time."""
    penalty: float = 1.0
    """What the number of words counts in that search."""
    data: Path | None = None
    """For a fine-tuned model: a file with examples, as `zoo finetune` reads it."""
    task: TaskName | None = None
    """What it was fine-tuned to. None: what the class of the model and its labels imply."""
    columns: tuple[str, ...] = ()
    """Which columns of the data to read, such as text=sentence1 pair=sentence2 label=3."""
    confusion: Path | None = None
    """A picture to draw, such as out.png: which classes are taken for which."""
    out: Path | None = None
    """The file to write translations to, one a line, or predictions as JSON lines."""

    def run(self) -> None:
        """Prints loss, perplexity and accuracy; bits a byte of a causal model, BLEU and the like
        of a translator.
        """
        import zoo
        from train.data.sources import text
        from train.data.sources.source import Source
        from train.pretraining import evaluate
        from zoo import registry

        if self.data:
            return self._task(self.data)
        source: Source | None = None
        if self.source:
            source = pairs([self.source, *([self.target] if self.target else [])], self.fields)
        elif self.text:
            source = text.files(self.text, self.separator)
        metrics = evaluate.evaluate(self.folder, source, self.batch, self.length)
        for name, value in metrics.items():
            print(f"{name.replace('_', ' ')}: {value:.4f}")
        model = zoo.load(self.folder)
        texts = evaluate.pairs(registry.name_of(model[0]), source)
        if texts:
            self._translations(model, texts)

    def _task(self, data: Path) -> None:
        import json

        from train.finetuning import evaluate
        from train.reporting import plots

        evaluation = evaluate.evaluate_folder(
            self.folder, data, self.task, self.columns, self.batch
        )
        for line in evaluation.notes:
            print(line)
        for name, value in evaluation.metrics.items():
            print(f"{name.replace('_', ' ')}: {value:.4f}")
        if self.confusion:
            if len(evaluation.labels) < 2:
                raise ValueError("--confusion needs a model that predicts classes or tags")
            plots.confusion(
                *evaluation.classes(), evaluation.labels, self.confusion, self.folder.name
            )
            print(f"picture: {self.confusion}")
        if self.out:
            lines = [json.dumps(fields, ensure_ascii=False) for fields in evaluation.predictions]
            self.out.write_text("".join(f"{line}\n" for line in lines), "utf-8")
            print(f"predictions: {self.out}")

    def _translations(self, model, texts):
        import zoo
        from train.metrics import translation

        sources, references = texts[::2], texts[1::2]
        found = zoo.translate(model, sources, beams=self.beams, length_penalty=self.penalty)
        for name, value in translation.score(found, references).items():
            print(f"{name.replace('_', ' ')}: {value:.2f}")
        for least, most, count, bleu in translation.by_length(sources, found, references):
            print(f"sources of {least} to {most} words ({count}): bleu {bleu:.2f}")
        if self.out:
            self.out.write_text("".join(f"{line}\n" for line in found), "utf-8")
            print(f"translations: {self.out}")


@dataclass(frozen=True)
class List:
    """Show every model: architecture, size, parameters."""

    def run(self) -> None:
        """Prints a line a recipe."""
        import math

        import jax

        from train.recipes import RECIPES, recipe
        from zoo import registry
        from zoo.params import abstract

        for name in RECIPES:
            found = recipe(name)
            model = registry.named(found.architecture).Model(found.config)
            count = sum(math.prod(x.shape) for x in jax.tree.leaves(abstract(model)))
            print(
                f"{name:28} {count:>14,} parameters  {found.steps:>9,} steps of "
                f"{found.batch} x {found.length}"
            )
