"""Fine-tuning of a pretrained model on a task, in one or more runs; the best run is kept."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import chex
import jax
import numpy as np
from flax import linen as nn

from train.devices import placement
from train.finetuning import distillation as distill
from train.finetuning import (
    fasttext,
    fasttext_start,
    inputs,
    packed_batches,
    transfer,
    tuning,
    unfreezing,
)
from train.finetuning.evaluate import Metrics, best_run, evaluate
from train.finetuning.settings import BagOfWords, Distillation, Settings
from train.finetuning.tasks.task import Distillable, Task, encode, rows_of
from train.finetuning.weighting import configured
from train.loop import check_new, clear
from train.recipes.config_values import changed
from zoo import registry
from zoo.checkpoints import model_folder
from zoo.checkpoints.load import Loaded
from zoo.checkpoints.lock import locked
from zoo.contracts import ClassifierWithLanguageModel
from zoo.direction import is_backward
from zoo.layers.taggers import RecurrentTagger
from zoo.models.word2vec import Word2VecClassifier
from zoo.params import flatten


def finetune(
    folder: str | Path,
    task: Task,
    data: Mapping[str, Sequence],
    out: str | Path,
    settings: Settings,
    labels: Sequence[str] = (),
    *,
    distillation: Distillation | None = None,
    bag_of_words: BagOfWords | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> tuple[dict[str, list[Metrics]], list[str]]:
    """Fine-tune the model of a folder and write the model of the best run.

    Args:
      folder: The pretrained model, or "fasttext" for a classifier from random rows.
      task: The task.
      data: The examples of "train" and "dev", and of other sets to evaluate on, such as "test".
      out: The folder to write, with results.json.
      settings: The training settings.
      labels: The names of the classes; if empty, those of the data.
      distillation: How to learn from a teacher, if it names one.
      bag_of_words: The settings of the classifier of fastText.
      resume: Whether to resume the runs in `out` from their newest intact steps, with the same
        results as uninterrupted runs.
      overwrite: Whether a model or a run in `out` may be replaced, when training starts.

    Returns:
      The metrics of every run by name of the data, and notes for the user.

    Raises:
      ValueError: If the data, the folder and the settings do not fit together, or if a loss or a
        trained parameter is not finite.
      FileExistsError: If `out` holds a model or a run that must not be replaced.
      BlockingIOError: If another process writes `out`.
      Stopped: If a signal stopped the training, after a checkpoint was saved.
    """
    distillation, bag_of_words = distillation or Distillation(), bag_of_words or BagOfWords()
    settings.check()
    distillation.check()
    out = Path(out).absolute()
    with locked(out):
        reads = [folder, distillation.teacher, settings.stack]
        check_new(out, resume=resume, overwrite=overwrite, reads=reads)
        start = (folder, task, data, out, settings, labels, distillation, bag_of_words)
        return _finetune(*start, resume=resume, overwrite=overwrite)


def _finetune(
    folder: str | Path,
    task: Task,
    data: Mapping[str, Sequence],
    out: Path,
    settings: Settings,
    labels: Sequence[str],
    distillation: Distillation,
    bag_of_words: BagOfWords,
    *,
    resume: bool,
    overwrite: bool,
) -> tuple[dict[str, list[Metrics]], list[str]]:
    names = task.labels(data["train"], labels)
    if fasttext_start.is_start(folder):
        fasttext.check(task, settings, bag_of_words, distillation)
        trained = fasttext.train(
            *(folder, data, names, out, settings, bag_of_words),
            resume=resume,
            overwrite=overwrite,
        )
        no_rows = {name: [()] * len(examples) for name, examples in data.items()}
        return _keep_best(fasttext.TASK, trained, data, no_rows, out, settings), []
    fasttext.check_unused(bag_of_words)
    task = configured(task, data["train"], names, settings)
    loaded, new_paths = load(folder, task, names, settings)
    has_teacher = distillation.teacher is not None
    packed_batches.check(loaded.model, task, settings, has_teacher=has_teacher)
    notes: list[str] = []
    if settings.add_tokens is not None:
        loaded, notes = transfer.add_words(loaded, settings.add_tokens)
    length = min(settings.length, loaded.model.config.max_length)
    teacher = None
    if distillation.teacher is not None:
        if is_backward(loaded.model.config):
            raise ValueError("a backward model learns from labels only: leave out --teacher")
        teacher = distill.load_teacher(distillation.teacher, task)
        data = {**data, "train": distill.examples(task, teacher, data["train"], distillation)}
    rows = {name: encode(task, loaded, examples, length) for name, examples in data.items()}
    outputs: list[np.ndarray] = []
    if teacher is not None and isinstance(task, Distillable):
        outputs = distill.teacher_outputs(task, teacher, loaded, data["train"], rows["train"])
    parts = split_runs(loaded, settings, length)
    params: list[chex.ArrayTree] = []
    for part in parts:
        part_out = out if len(parts) == 1 else out / f"seed_{part.seed}"
        runs = tuning.prepare(
            loaded,
            new_paths,
            task,
            data["dev"],
            rows,
            part_out,
            part,
            distillation if outputs else None,
            outputs,
        )
        if overwrite and not params:
            clear(out)
        params += tuning.train_runs(runs, resume=resume)
    trained = [loaded._replace(params=of_run) for of_run in params]
    metrics = _keep_best(task, trained, data, rows, out, settings)
    return metrics, [*notes, *_notes(rows, length, len(parts))]


def _keep_best(
    task: Task,
    runs: Sequence[Loaded],
    data: Mapping[str, Sequence],
    rows: Mapping[str, Sequence],
    out: Path,
    settings: Settings,
) -> dict[str, list[Metrics]]:
    """Write the best run, and return the metrics of all runs by name of the data."""
    metrics: dict[str, list[Metrics]] = {name: [] for name in data if name != "train"}
    runs_loaded = []
    for run in runs:
        metrics["dev"].append(evaluate(task, run, data["dev"], rows["dev"]).metrics)
        run = _with_threshold(run, metrics["dev"][-1].get("null_threshold"))
        runs_loaded.append(run)
        for name in metrics.keys() - {"dev"}:
            metrics[name].append(evaluate(task, run, data[name], rows[name]).metrics)
    best = best_run(task, metrics["dev"])
    model, params, tokenizer = runs_loaded[best]
    name, cls = registry.name_of(model), type(model).__name__
    kind = inputs.kind(data["train"])
    model_folder.write(out, name, model.config, params, tokenizer, cls, trained_on=kind)
    results = {"settings": asdict(settings), "best": best, "metrics": metrics}
    Path(out, "results.json").write_text(json.dumps(results, indent=2))
    return metrics


def load(
    folder: str | Path, task: Task, labels: Sequence[str] | None, settings: Settings
) -> tuple[Loaded, list[str]]:
    """Return the model to fine-tune, and the paths of its new parameters."""
    key = jax.random.key(settings.seed)
    loaded, new_paths = transfer.load_for_task(
        folder, task.head, labels, key=key, letters=settings.letters
    )
    if settings.stack is not None:
        loaded, new_paths = transfer.stack_vectors(loaded, settings.stack, key)
    if loaded.tokenizer is None:
        raise ValueError(f"{folder} has no tokenizer, which fine-tuning needs")
    if is_backward(loaded.model.config) and task.head == "question-answering":
        raise ValueError("a backward model does not answer questions: use one that reads forward")
    if settings.auxiliary and not isinstance(loaded.model, ClassifierWithLanguageModel):
        raise ValueError(
            f"a {type(loaded.model).__name__} predicts no next token: leave out --auxiliary"
        )
    special = any(loaded.tokenizer.encode("a").special_tokens_mask)
    is_bag = isinstance(loaded.model, Word2VecClassifier)  # its mean needs no marks
    if task.head in transfer.OF_TEXTS and not special and not is_bag:
        loaded = transfer.mark_texts(loaded, jax.random.key(0))
    if settings.scratch:
        if settings.unfreeze not in (None, "all"):
            raise ValueError(f"--scratch needs --unfreeze all, not {settings.unfreeze}")
        new_paths = list(flatten(loaded.params))
    # Again, because what is trained by default depends on the model.
    replace(settings, unfreeze=tuning.unfreezing_strategy(loaded.model, settings)).check()
    paths = list(flatten(loaded.params))
    again = unfreezing.top_layers(paths, registry.of(loaded.model).GROUPS, settings.reinit)
    new_paths = list(dict.fromkeys([*new_paths, *again]))
    for setting in settings.config:
        if not setting.partition("=")[0].endswith("dropout"):
            raise ValueError(
                f"--config {setting}: fine-tuning changes dropout rates only, because the weights "
                "depend on the other fields"
            )
    if settings.config:
        config = changed(loaded.model.config, settings.config)
        loaded = loaded._replace(model=type(loaded.model)(config))
    if settings.dropout is not None:
        field = "tagger_dropout" if isinstance(loaded.model, RecurrentTagger) else "dropout"
        config = replace(loaded.model.config, **{field: settings.dropout})
        loaded = loaded._replace(model=type(loaded.model)(config))
    return _with_threshold(loaded, None), new_paths


def _with_threshold(loaded: Loaded, threshold: float | None) -> Loaded:
    """Return the model with the threshold of "no answer" that was chosen on the dev data."""
    config = loaded.model.config
    if getattr(config, "null_threshold", None) == threshold:
        return loaded
    return loaded._replace(model=type(loaded.model)(replace(config, null_threshold=threshold)))


def split_runs(loaded: Loaded, settings: Settings, length: int) -> list[Settings]:
    """Return the runs in as few parts as memory allows; parts are trained in sequence."""
    at_once = settings.parallel_runs or jax.device_count() * max_runs(
        loaded.model, loaded.params, settings.batch, length
    )
    runs = range(settings.seed, settings.seed + settings.seeds)
    parts = np.array_split(runs, -(-settings.seeds // at_once))
    return [replace(settings, seed=int(part[0]), seeds=len(part)) for part in parts]


def max_runs(model: nn.Module, params: chex.ArrayTree, rows: int, length: int) -> int:
    """Return how many runs fit into the memory of a device, at least 1.

    A run stores its parameters, the best of them so far, their gradient and two moments, all in
    float32. The activations for the backward pass take 2 (34 D + 5 H L) bytes per layer and token
    (Korthikanti et al. 2022, equation 1, https://arxiv.org/abs/2205.05198).
    """
    c = model.config
    per_token = c.num_layers * 2 * (34 * c.width + 5 * getattr(c, "num_heads", 0) * length)
    run = 20 * sum(x.size for x in jax.tree.leaves(params)) + rows * length * per_token
    return max(1, int(placement.memory() // run))


def _notes(rows: Mapping[str, Sequence], length: int, parts: int) -> list[str]:
    flat = (row for data in rows.values() for example in data for row in rows_of(example))
    truncated = sum(row.truncated > 0 for row in flat)
    notes = [f"{truncated} texts are longer than {length} tokens and are truncated"]
    notes = notes if truncated else []
    return [*notes, *([f"the runs were trained in {parts} parts"] if parts > 1 else [])]
