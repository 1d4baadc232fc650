"""`zoo evaluate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from train import unused
from train.commands.command import print_skipped, unescaped
from train.finetuning.settings import TaskName
from train.ranges import AnyFloat, NaturalFloat, Positive, PositiveFloat, Share

# What is evaluated on -> the options that it uses.
MINIMAL_PAIRS = ("minimal_pairs", "limit", "batch")
DATA = (
    *("data", "task", "columns", "skip_invalid", "batch", "stride", "average_with"),
    *("confusion_matrix", "out", "overwrite"),
)
NGRAMS = ("text", "separator", "show", "interpolate")
KINDS = {
    "text": (
        *("text", "separator", "batch", "length", "stride", "cache_window", "cache_theta"),
        *("cache_weight", "dynamic_learning_rate", "dynamic_decay", "dynamic_text"),
    ),
    "pairs": (
        *("source", "target", "fields", "skip_invalid", "batch", "length", "beams"),
        *("length_penalty", "out", "overwrite"),
    ),
    "sound": ("sound", "batch", "length"),
}


@dataclass(frozen=True)
class Evaluate:
    """Evaluate a model on text, labelled examples, analogies or pairs of words."""

    example: ClassVar[str] = "zoo evaluate runs/gpt2-tiny --text book.txt"

    folder: Annotated[str | Path, tyro.conf.Positional]
    """The model folder, ours or Hugging Face's, or a name on the Hub, or an ARPA file."""
    text: tuple[Path, ...] = ()
    """Text files (UTF-8, or .gz). Default: the held-out part of the built-in corpus."""
    separator: str | None = None
    """The string between documents within a file, such as "\\n\\n". Default: one per file."""
    source: Path | None = None
    """For translation: a file with one text per line, or a .tsv or .jsonl file of pairs."""
    target: Path | None = None
    """For translation: the file whose lines translate those of --source."""
    fields: Annotated[tuple[str, str] | None, tyro.conf.arg(metavar="SOURCE TARGET")] = None
    """The two fields of a .jsonl file to use. Default: source target."""
    sound: tuple[Path, ...] = ()
    """For a model of sound: .wav files with 16-bit PCM samples."""
    batch: Positive | None = None
    """Sequences per batch. Default: 16, or 1 with a cache or dynamic evaluation."""
    length: Positive | None = None
    """Tokens per sequence. Default: 128, or the model's maximum if less or with --stride, or 5 with
    dynamic evaluation."""
    stride: Positive | None = None
    """Read long texts in overlapping windows that begin so many tokens apart. With --text, for
    causal models: each window is scored on its last tokens, which have a long context."""
    cache_window: Positive | None = None
    """For a recurrent language model: also predict from a cache of so many of its last outputs
    (Grave et al. 2016). Each sequence of a batch has its own, which new documents do not empty."""
    cache_theta: NaturalFloat | None = None
    """How sharply the cache prefers similar outputs. Default: 0.3."""
    cache_weight: Share | None = None
    """The weight of the cache in the prediction. Default: 0.1."""
    dynamic_learning_rate: PositiveFloat | None = None
    """For a recurrent language model: dynamic evaluation (Krause et al. 2017), which trains it on
    each sequence after predicting it, by gradient descent with this learning rate."""
    dynamic_decay: Share | None = None
    """For dynamic evaluation: how far a step moves the parameters back to the trained ones, from 0
    to 1. Default: 0."""
    dynamic_text: tuple[Path, ...] = ()
    """For dynamic evaluation: text files, usually those of training, whose gradients scale the
    rates of every parameter (the RMS form). Default: the same rates for all."""
    beams: Positive = 4
    """For translation: number of beams. 1: greedy search."""
    length_penalty: AnyFloat = 1.0
    """For translation: above 1 favors longer translations, below 1 shorter ones."""
    show: Literal["counts"] | None = None
    """For an n-gram model: print which n-grams of the text were never seen, for every order."""
    interpolate: Annotated[str | Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """For an n-gram model: also print the perplexity of its mean with this causal language model,
    which has the same tokenizer, for every weight of the latter."""
    minimal_pairs: Path | None = None
    """For a language model: sentences in pairs, a good and a bad one, such as BLiMP; print how
    often the good one is more probable. A table with the columns good and bad, or JSON lines."""
    limit: Positive | None = None
    """For --minimal-pairs: the number of pairs to read of each paradigm. Default: all."""
    data: Path | None = None
    """For a fine-tuned model: a file of examples, as `zoo finetune` reads them. For word vectors:
    analogies, such as questions-words.txt, or pairs of words with scores, such as
    EN-WS-353-ALL.txt."""
    task: TaskName | None = None
    """The task of a fine-tuned model. Default: inferred from the model."""
    columns: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[NAME=COLUMN ...]")] = ()
    """The columns of --data to read, such as text=sentence1 pair=sentence2 label=3."""
    skip_invalid: bool = False
    """Skip rows of --data and pairs that are invalid, and print how many."""
    average_with: Annotated[str | Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """For a classifier: predict from the mean of its probabilities and those of this one, such as
    a model that reads backward."""
    confusion_matrix: Path | None = None
    """Draw the confusion matrix of a fine-tuned classifier or tagger to this file."""
    out: Path | None = None
    """Write the translations here, one per line, or the predictions as JSON lines."""
    overwrite: bool = False
    """Replace these files if they exist."""

    def run(self) -> None:
        """Print the metrics: loss, perplexity, bits per byte, BLEU, accuracy and others."""
        from train.commands import vectors
        from train.data.sources import parallel_text, sound, text
        from train.data.sources.source import Source
        from train.pretraining import evaluate
        from train.reporting import pictures
        from zoo import registry
        from zoo.checkpoints import existing
        from zoo.checkpoints.load import saved_class
        from zoo.contracts import WordVectorModel
        from zoo.models.fasttext import FastTextClassifier
        from zoo.models.ngram import NGram

        for file in filter(None, (self.confusion_matrix, self.out)):
            existing.check_file(file, overwrite=self.overwrite)
        if self.confusion_matrix:
            pictures.check_name(self.confusion_matrix)
        cls = saved_class(self.folder)
        if issubclass(cls, WordVectorModel) and not self.data:
            raise ValueError(
                f"{self.folder} is not a language model: give --data, with analogies, similarities "
                "of words, or the examples of a classifier"
            )
        if self.average_with and not self.data:
            raise ValueError("--average-with is for classifiers: give --data, their examples")
        adaptation = self._adaptation()
        if adaptation and (self.data or cls is NGram):
            raise ValueError(
                f"{adaptation.flag} is for the --text of a recurrent language model: leave it out"
            )
        if self.limit is not None and not self.minimal_pairs:
            raise ValueError("--limit is for --minimal-pairs: leave it out")
        if self.minimal_pairs:
            unused.refuse_others(self, MINIMAL_PAIRS, "has no effect with --minimal-pairs")
            return self._minimal_pairs(self.minimal_pairs)
        if self.data:
            unused.refuse_others(self, DATA, "has no effect with --data")
            if issubclass(cls, WordVectorModel) and not issubclass(cls, FastTextClassifier):
                unused.refuse_others(self, ["data"], "is for fine-tuned models")
                return vectors.evaluate(self.folder, self.data)
            return self._task(self.data)
        if cls is NGram:
            unused.refuse_others(self, NGRAMS, "has no effect on an n-gram model")
        elif self.show or self.interpolate:
            flag = "--show counts" if self.show else "--interpolate"
            raise ValueError(f"{flag} is for n-gram models, which {self.folder} is not")
        elif kind := evaluate.source_kind(cls):
            why = f"is not for a {cls.__name__}, which is evaluated on {kind}"
            unused.refuse_others(self, KINDS[kind], why)
            if not (self.text or self.dynamic_text):
                unused.refuse(self, ["separator"], "is for text files")
            if not self.source:
                unused.refuse(self, ["target", "fields", "skip_invalid"], "needs --source")
        source: Source | None = None
        if self.source:
            files = [file for file in (self.source, self.target) if file]
            skipped: list[str] | None = [] if self.skip_invalid else None
            source = parallel_text.files(files, self.fields, skipped)
            print_skipped(skipped)
        elif self.text:
            source = text.files(self.text, unescaped(self.separator))
        elif self.sound:
            source = sound.files(self.sound)
        if cls is NGram:
            return self._counted(source)
        metrics = evaluate.evaluate(
            self.folder, source, self.batch, self.length, self.stride, adaptation
        )
        for name, value in metrics.items():
            print(f"{name.replace('_', ' ')}: {value:.4f}")
        texts = evaluate.pairs(registry.name_of(cls), source)
        if texts:
            self._translations(texts[::2], texts[1::2])

    def _adaptation(self):
        from train.data.sources import text
        from train.devices import malloc
        from train.pretraining.dynamic_evaluation import DynamicEvaluation, ScaledDynamicEvaluation
        from train.pretraining.neural_cache import NeuralCache

        settings = {"theta": self.cache_theta, "weight": self.cache_weight}
        cache = {name: value for name, value in settings.items() if value is not None}
        rates = {} if self.dynamic_decay is None else {"decay": self.dynamic_decay}
        if self.cache_window is None and cache:
            raise ValueError(f"--cache-{next(iter(cache))} is for a cache: give --cache-window")
        if self.dynamic_learning_rate is None:
            if self.dynamic_text or rates:
                flag = "--dynamic-text" if self.dynamic_text else "--dynamic-decay"
                raise ValueError(f"{flag} is for dynamic evaluation: give --dynamic-learning-rate")
            return None if self.cache_window is None else NeuralCache(self.cache_window, **cache)
        if self.cache_window is not None:
            raise ValueError("--cache-window and --dynamic-learning-rate cannot be combined")
        malloc.keep_freed_memory()
        rates["learning_rate"] = self.dynamic_learning_rate
        if not self.dynamic_text:
            return DynamicEvaluation(**rates)
        source = text.files(self.dynamic_text, unescaped(self.separator))
        return ScaledDynamicEvaluation(source=source, **rates)

    def _minimal_pairs(self, path: Path) -> None:
        import zoo
        from train.data.examples.minimal_pairs import read_minimal_pairs
        from train.metrics import minimal_pairs

        pairs = read_minimal_pairs(path, self.limit)
        sentences = [sentence for pair in pairs for sentence in (pair.good, pair.bad)]
        scores = zoo.score(zoo.load(self.folder), sentences, batch_size=self.batch or 128)
        totals = [score.total for score in scores]
        for name, value in minimal_pairs.accuracy(pairs, totals[::2], totals[1::2]).items():
            print(f"{value:.4f} {name}")

    def _counted(self, source) -> None:
        from train.counting import evaluate, interpolation

        evaluation = evaluate.evaluate_folder(self.folder, source)
        for name, value in evaluation.metrics.items():
            print(f"{name.replace('_', ' ')}: {value:.4f}")
        if self.show:
            print("\n".join(evaluate.table(evaluation.orders)))
        if self.interpolate:
            mixed = interpolation.perplexities(self.folder, self.interpolate, source)
            for weight, perplexity in mixed.items():
                print(f"weight {weight:.1f} of {self.interpolate}: perplexity {perplexity:.1f}")

    def _task(self, data: Path) -> None:
        import json

        from train.finetuning import evaluate
        from train.reporting import plots

        evaluation = evaluate.evaluate_folder(
            self.folder,
            data,
            self.task,
            self.columns,
            self.batch or 16,
            self.stride,
            self.average_with,
            skip_invalid=self.skip_invalid,
        )
        for line in evaluation.notes:
            print(line)
        for name, value in evaluation.metrics.items():
            print(f"{name.replace('_', ' ')}: {value:.4f}")
        if self.confusion_matrix:
            gold, predicted = evaluation.classes()
            if len(evaluation.labels) < 2 or not gold:
                raise ValueError("--confusion-matrix needs a model that predicts classes or tags")
            plots.confusion(
                gold, predicted, evaluation.labels, self.confusion_matrix, Path(self.folder).name
            )
            print(f"picture: {self.confusion_matrix}")
        if self.out:
            lines = [json.dumps(fields, ensure_ascii=False) for fields in evaluation.predictions]
            self.out.write_text("".join(f"{line}\n" for line in lines), "utf-8")
            print(f"predictions: {self.out}")

    def _translations(self, sources: list[str], references: list[str]) -> None:
        import zoo
        from train.metrics import translation

        outputs = zoo.translate(
            zoo.load(self.folder),
            sources,
            beams=self.beams,
            length_penalty=self.length_penalty,
        )
        for name, value in translation.score(outputs, references).items():
            print(f"{name.replace('_', ' ')}: {value:.2f}")
        for shortest, longest, count, bleu in translation.by_length(sources, outputs, references):
            print(f"sources of {shortest} to {longest} words ({count}): bleu {bleu:.2f}")
        if self.out:
            self.out.write_text("".join(f"{line}\n" for line in outputs), "utf-8")
            print(f"translations: {self.out}")
