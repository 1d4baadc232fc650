"""From a text to the model folder of an n-gram model: tokenize, count, estimate, evaluate."""

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from train.counting import counts, estimators, evaluate, tables, text
from train.counting.evaluate import Evaluation
from train.data.sources.source import Source
from train.loop import check_new
from train.recipes.ngram import NGramRecipe
from train.reporting.manifest import write_manifest
from zoo import tokenizers
from zoo.checkpoints import existing, model_folder
from zoo.checkpoints.load import load
from zoo.checkpoints.lock import locked
from zoo.models.ngram import Config

FILES = ".counting-"  # the beginning of the name of a folder for temporary files


def pretrain(
    recipe: NGramRecipe,
    source: Source,
    out: str | Path,
    *,
    dev: Source | None = None,
    tokenizer: str | Path | None = None,
    overwrite: bool = False,
    report: Callable[[str], None] = print,
) -> Evaluation:
    """Count a text, write a model folder, and return its evaluation on held-out text.

    Args:
      recipe: The recipe.
      source: The text.
      out: The folder to write.
      dev: The text to evaluate on. None: the last part of the text.
      tokenizer: A folder with a tokenizer. None: the vocabulary of the text.
      overwrite: Whether a model or a run in `out` may be replaced.
      report: What is called with every line of progress.

    Raises:
      ValueError: If the text or the settings do not fit.
      FileExistsError: If the folder holds a model or a run that must not be replaced.
      BlockingIOError: If another process writes the folder.
    """
    out = Path(out).absolute()
    with locked(out):
        check_new(out, overwrite=overwrite, reads=[tokenizer])
        return _pretrain(recipe, source, out, dev, tokenizer, report)


def _pretrain(
    recipe: NGramRecipe,
    source: Source,
    out: Path,
    dev: Source | None,
    tokenizer: str | Path | None,
    report: Callable[[str], None],
) -> Evaluation:
    estimator = estimators.estimator(recipe.estimator)
    check(recipe)
    unit = text.tokenizer(recipe, source, tokenizer)
    end = tokenizers.end_of_document(unit)
    corpus = text.corpus(source, unit, end)
    train, held_out = (corpus, text.corpus(dev, unit, end)) if dev else corpus.split()
    if train.num_tokens - 1 < recipe.order:
        raise ValueError(
            f"the text has {train.num_tokens - 1} tokens to train on, with the one that ends it, "
            f"fewer than the order {recipe.order}: give more text, or a lower --order"
        )
    report(f"data     {train.num_tokens:,} tokens to train on, {held_out.num_tokens:,} held out")
    report(f"output   {out}")
    for leftover in out.glob(f"{FILES}*"):  # of a run that was killed
        shutil.rmtree(leftover)
    vocab_size = unit.get_vocab_size()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=FILES, dir=out) as folder:
        tokens = train.tokens[train.start : train.stop]
        levels = counts.count(tokens, recipe.order, vocab_size, end, Path(folder))
        kept = tables.kept(levels, recipe.prune)
        estimates = estimator.estimate(levels, kept)
        params = tables.tables(levels, estimates, kept)
    seconds = time.monotonic() - started
    config = Config(
        vocab_size=vocab_size,
        order=recipe.order,
        ngrams=tuple(len(table["p"]) for table in params.values()),
        end=end,
        units=recipe.units,
        estimator=recipe.estimator,
    )
    model_folder.write(out, "ngram", config, params, unit, "NGram", existing.ALL_FILES)
    identity = {"data": source.fingerprint, "tokenizer": tokenizers.fingerprint(unit)}
    write_manifest(out, recipe=recipe.name, **recipe.identity(), **identity)
    for note in estimates.notes:
        report(f"note     {note}")
    report(f"model    {sum(config.ngrams):,} n-grams, counted and estimated in {seconds:.1f} s")
    evaluation = evaluate.evaluate(load(out), held_out)
    times = {"seconds": round(seconds, 3), "time": round(time.time(), 3)}
    event = {"kind": "held_out", "step": 0, **evaluation.metrics, **times}
    (out / "log.jsonl").write_text(json.dumps(event) + "\n", "utf-8")
    report(f"held out: {_line(evaluation.metrics)}")
    return evaluation


def check(recipe: NGramRecipe) -> None:
    """Raise ValueError for settings that do not fit."""
    if recipe.order < 1:
        raise ValueError(f"--order must be at least 1, not {recipe.order}")
    if recipe.min_count < 1:
        raise ValueError(f"--min-count must be at least 1, not {recipe.min_count}")
    tables.check_prune(recipe.prune, recipe.order)


def _line(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in metrics.items())
