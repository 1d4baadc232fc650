"""Training of the classifier of fastText (Joulin et al. 2017), from random rows or from a folder.

As in the released program, the tables change after every text, and the learning rate falls linearly
to 0; here it does so from batch to batch, and texts are reshuffled in every epoch.
"""

import contextlib
import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import zoo
from train.checkpoint import Checkpoints
from train.data.batches.bags import Bags
from train.data.examples.tables import TextExample
from train.devices.parallelism import PARALLELISM
from train.devices.placement import StepPlacement, Training
from train.finetuning import fasttext_start
from train.finetuning.evaluate import evaluate, quality
from train.finetuning.settings import BagOfWords, Distillation, Settings
from train.finetuning.tasks.bag_of_words import LabelOfBag
from train.finetuning.tasks.classification import Classification
from train.finetuning.tasks.task import Task, encode
from train.finetuning.tuning import FETCH_EVERY, Stopped, flags
from train.loop import (
    Metrics,
    Progress,
    Signals,
    Stage,
    check_finite,
    check_new,
    check_same_run,
    clear,
    first_best,
    is_over,
    restore,
)
from train.loop import train as train_stage
from train.objectives.bag_of_words import OUTPUTS, LabelPrediction
from train.optimization import rows, schedules
from train.reporting.manifest import write_manifest
from train.reporting.progress import Report, Silence
from train.step import State
from zoo import tokenizers
from zoo.checkpoints import arrays, model_folder
from zoo.checkpoints.load import Loaded
from zoo.inference import bag_of_words
from zoo.models.fasttext import AXES
from zoo.params import flatten

TASK = LabelOfBag()
LEARNING_RATE = "0.1"
NOISE_POWER = 0.5  # of the counts of labels, in the distribution of negative samples
WITHOUT_EFFECT = (  # on this classifier
    "unfreeze",
    "scratch",
    "reinit",
    "stack",
    "letters",
    "add_tokens",
    "optimizer",
    "config",
    "schedule",
    "layer_decay",
    "weight_decay",
    "dropout",
    "auxiliary",
    "accumulate",
    "length",
    "stride",
    "pack",
    "both_orders",
    "class_weights",
    "label_smoothing",
    "parallel_runs",
)


def check(
    task: Task, settings: Settings, words: BagOfWords, distillation: Distillation | None
) -> None:
    """Raise ValueError for a task or a setting that the classifier does not have."""
    words.check()
    if not isinstance(task, Classification):
        raise ValueError("a fastText classifier predicts one label: use --task classification")
    given = [
        name for name in WITHOUT_EFFECT if getattr(settings, name) != getattr(Settings(), name)
    ]
    if distillation is not None and distillation.teacher is not None:
        given.append("teacher")
    if given:
        raise ValueError(
            f"--{given[0].replace('_', '-')} has no effect on a fastText classifier: leave it out"
        )
    _learning_rate(settings)


def check_unused(words: BagOfWords) -> None:
    """Raise ValueError for a setting of this classifier that is given for another model."""
    for name, value in asdict(words).items():
        if value != getattr(BagOfWords(), name):
            raise ValueError(
                f"--{name.replace('_', '-')} is for a fastText classifier: leave it out, or start "
                "from fasttext"
            )


def train(
    folder: str | Path,
    data: Mapping[str, Sequence[TextExample]],
    labels: Sequence[str],
    out: Path,
    settings: Settings,
    words: BagOfWords,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> list[Loaded]:
    """Train a classifier for every seed, one after another, and return them.

    The arguments and errors are those of `train.finetuning.finetune.finetune`.
    """
    seeds = range(settings.seed, settings.seed + settings.seeds)
    runs: list[Loaded] = []
    for seed in seeds:
        part = out if len(seeds) == 1 else out / f"seed_{seed}"
        run = prepare(folder, data, labels, part, replace(settings, seed=seed, seeds=1), words)
        if overwrite and not runs:
            clear(out)
        runs.append(train_run(run, resume=resume))
    return runs


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """A run.

    Attributes:
      loaded: The classifier before training.
      texts: The training texts.
      dev: The examples to evaluate on.
      out: The folder of checkpoints, log and curves.
      settings: How to train.
      words: The settings of the classifier.
    """

    loaded: Loaded
    texts: Bags
    dev: Sequence[TextExample]
    out: Path
    settings: Settings
    words: BagOfWords

    def stage(self) -> Stage:
        """Return the only stage of the run."""
        s, each_epoch = self.settings, self.texts.order.steps
        steps = math.ceil(s.epochs * each_epoch)
        schedule = schedules.linear(_learning_rate(s), 0, steps)
        counts_C = np.asarray(self.loaded.params["label_counts"])
        training = Training(
            model=self.loaded.model,
            init=lambda: self.loaded.params,
            objective=LabelPrediction(OUTPUTS[self.words.loss](counts_C)),
            optimizer=rows.sgd(schedule),
            schedule=schedule,
            axes=AXES,
            batch_size=s.batch,
            seed=s.seed,
            dtype=s.dtype,
            accumulate=1,
        )
        placement = PARALLELISM[s.parallel](training, s.mesh)
        return Stage(
            out=self.out,
            placement=placement,
            batches=self.texts,
            last=steps,
            steps=steps,
            report_every=1,
            fetch_every=FETCH_EVERY,
            evaluate_every=s.evaluate_every or each_epoch,
            save_every=s.save_every or each_epoch,
            identity=self.identity(),
            evaluate=partial(self._evaluate, placement),
            quality=partial(quality, TASK) if s.keep == "best" else None,
            patience=s.patience,
        )

    def identity(self) -> dict[str, Any]:
        """Return what determines the results of the run, as JSON."""
        assert self.loaded.tokenizer is not None, "checked before"
        sums, texts = arrays.fingerprint(self.loaded.params), hashlib.sha256()
        for array in (*self.texts.texts, self.texts.labels):
            texts.update(array.tobytes())
        identity = {
            "zoo": zoo.__version__,
            "model": hashlib.sha256(json.dumps(sums).encode()).hexdigest(),
            "tokenizer": tokenizers.fingerprint(self.loaded.tokenizer),
            "texts": texts.hexdigest(),
            "dev": hashlib.sha256(repr([*self.dev]).encode()).hexdigest(),
            **flags(self.settings),
            **flags(self.words),
        }
        return json.loads(json.dumps(identity, default=str))

    def _evaluate(
        self, placement: StepPlacement, state: State, step: int, report: Report | Silence
    ) -> list[Metrics]:
        """Report and return the metrics on the dev data."""
        loaded = self.loaded._replace(params=placement.to_saved(state).params)
        metrics = evaluate(TASK, loaded, self.dev, encode(TASK, loaded, self.dev, 0)).metrics
        report.evaluation(step, metrics)
        return [metrics]


def prepare(
    folder: str | Path,
    data: Mapping[str, Sequence[TextExample]],
    labels: Sequence[str],
    out: Path,
    settings: Settings,
    words: BagOfWords,
) -> Run:
    """Create and check everything that a run needs."""
    texts = [example.text for example in data["train"]]
    given = [str(example.label) for example in data["train"]]
    counts = dict.fromkeys(labels, 0) | Counter(given)
    if sum(count > 0 for count in counts.values()) < 2:
        raise ValueError(
            f"all examples have the label {given[0]}, so there is nothing to learn: add others"
        )
    loaded = fasttext_start.start(folder, texts, counts, words, settings.seed)
    for examples in data.values():
        encode(TASK, loaded, examples, 0)  # checks labels and second texts
    number = {name: n for n, name in enumerate(loaded.model.config.labels)}
    bags = Bags(
        texts=bag_of_words.encode(loaded, texts),
        labels=np.array([number[name] for name in given], np.int32),
        batch=settings.batch,
        seed=settings.seed,
        negatives=words.negatives if words.loss == "negative-sampling" else 0,
        noise=np.asarray(loaded.params["label_counts"]) ** NOISE_POWER,
    )
    return Run(loaded=loaded, texts=bags, dev=data["dev"], out=out, settings=settings, words=words)


def train_run(run: Run, *, resume: bool = False) -> Loaded:
    """Train a classifier, and return the best or the last one.

    Raises:
      ValueError: If the folder holds another run.
      NotFinite: If a loss or a parameter is not finite.
      Stopped: If a signal stopped the training, after a checkpoint was saved.
    """
    check_new(run.out, resume=resume)
    stage, model = run.stage(), run.loaded.model
    checkpoints = Checkpoints(run.out, 1, stage.save_every)
    check_same_run(run.out, checkpoints.meta(), stage.identity)
    restored = restore(checkpoints, lambda step: stage)
    if restored is None:
        state = stage.placement.begin(run.loaded.params)
        progress, messages = Progress(state, first_best(stage, state), 0), list[str]()
        write_manifest(run.out, **stage.identity)
        cls = type(model).__name__
        model_folder.write(
            run.out, "fasttext", model.config, tokenizer=run.loaded.tokenizer, cls=cls
        )
    else:
        progress, messages = restored
        messages.append(f"resuming from step {progress.step}")
    size = sum(x.size for x in flatten(run.loaded.params).values())
    messages.insert(0, f"training {size:,} parameters for {stage.steps:,} steps")
    per_text = len(run.texts.texts.rows) // len(run.texts.labels)
    report = Report(
        run.out,
        stage.steps,
        per_text * run.settings.batch,
        first_step=progress.step,
        unit="mean of a batch",
        metric=TASK.metric,
    )
    with report, Signals() as signals, contextlib.closing(checkpoints):
        for line in messages:
            report.line(line)
        progress = train_stage(stage, progress, checkpoints, report, signals)
        if progress.step < stage.steps and not is_over(stage, progress.best, progress.step):
            raise Stopped(f"stopped and saved at step {progress.step}; continue with --resume")
        saved = stage.placement.to_saved(progress.state).params
        params = saved if progress.best is None else progress.best.params
        check_finite(params, checkpoints)
    return run.loaded._replace(params=params)


def _learning_rate(settings: Settings) -> float:
    """Return the learning rate before it falls."""
    text = settings.learning_rate or LEARNING_RATE
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ValueError(
            f"--learning-rate must be one positive number for a fastText classifier, not {text}"
        )
    return value
