"""Fine-tunes a pretrained model to a task, and measures what came of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from train.data.batches.epochs import epochs
from train.devices import placement
from train.finetuning import seeds, transfer, unfreezing
from train.finetuning.tasks.task import Task
from train.reporting.progress import Report
from zoo import registry
from zoo.checkpoints import model_folder
from zoo.inference.batching import check, scores
from zoo.params import flatten

REPORT_EVERY = 10


class Choices(NamedTuple):
    """How to fine-tune."""

    way: str = "all"  # a name of unfreezing.WAYS
    scratch: bool = False  # nothing is kept of what the folder holds but the sizes
    schedule: str = "linear"  # a name of unfreezing.SCHEDULES, begun anew in every stage
    rate: str | None = None  # or a range over the groups, "1e-6:1e-4"; None: `usual_rate`
    layer_decay: float = 1.0  # of the rates, from each group to the one before it
    decay: float = 0.01
    dropout: float | None = None  # None: that of the model
    auxiliary: float = 0.0  # the weight of GPT's loss of the next word
    epochs: float = 3.0
    batch: int = 32
    length: int = 128
    seed: int = 0
    seeds: int = 1
    together: int | None = None  # runs at once; None: as many as memory has room for


class Result(NamedTuple):
    """What the runs came to: by the name of the data, the figures of each run."""

    figures: dict[str, list[dict]]
    best: int  # the run that did best on "dev", and was kept
    remarks: list[str]


def finetune(folder, task: Task, data: dict, out, choices: Choices, labels=None) -> Result:
    """Fine-tunes the model of a folder and leaves the best run's.

    `data` has the examples of "train" and "dev", and of others to measure on, such as "test".
    Raises ValueError where data, folder and choices do not fit.
    """
    labels = tuple(labels) if labels else task.labels(data["train"])
    start = _start(folder, task, labels, choices)
    length = min(choices.length, start.model.config.max_length)
    made = {name: rows(task, start, data[name], length, name == "train") for name in data}
    rounds = _rounds(start, choices, length)
    learnt = [
        learner.params(run)
        for number, some in enumerate(rounds)
        for learner in [learn(start, task, made["train"], out, some, (number, len(rounds)))]
        for run in range(some.seeds)
    ]
    figures = {
        name: [measure(start, params, task, data[name], made[name]) for params in learnt]
        for name in data
        if name != "train"
    }
    kept = best(task, figures["dev"])
    _write(out, start, learnt[kept])
    Path(out, "results.json").write_text(
        json.dumps({"choices": choices._asdict(), "best": kept, "figures": figures}, indent=2)
    )
    return Result(figures, kept, _remarks(made, length, len(rounds)))


def _rounds(start, choices: Choices, length: int) -> list[Choices]:
    """The runs in as few parts as memory allows, which are trained one after the other."""
    room = choices.together or jax.device_count() * seeds.room(
        start.model, start.params, choices.batch, length
    )
    parts = np.array_split(
        range(choices.seed, choices.seed + choices.seeds), -(-choices.seeds // room)
    )
    return [choices._replace(seed=int(part[0]), seeds=len(part)) for part in parts]


def _start(folder, task, labels, choices) -> transfer.Start:
    start = transfer.start(folder, task.head, labels, key=jax.random.key(choices.seed))
    if start.tokenizer is None:
        raise ValueError(f"{folder} has no tokenizer to read a text with")
    if choices.auxiliary and not hasattr(start.model, "with_words"):
        raise ValueError(f"a {type(start.model).__name__} predicts no next word: no --auxiliary")
    if task.head == "text" and not any(start.tokenizer.encode("a").special_tokens_mask):
        start = transfer.marked(start, jax.random.key(0))
    if choices.scratch:
        if choices.way != "all":
            raise ValueError(f"--scratch leaves nothing worth freezing: no --way {choices.way}")
        start = start._replace(new=list(flatten(start.params)))
    if choices.dropout is not None:
        config = replace(start.model.config, dropout=choices.dropout)
        start = start._replace(model=type(start.model)(config))
    return start


def rows(task: Task, start, examples, length: int, training: bool) -> list:
    """The rows of every example, checked against the model."""
    labels = labels_of(start)
    made = [task.rows(start.tokenizer, each, labels, length, training) for each in examples]
    check([each.row for several in made for each in several], start.model)
    return made


def labels_of(start) -> tuple[str, ...] | None:
    """The names of a model's classes; None for one that writes."""
    return getattr(start.model.config, "labels", None)


def measure(start, params, task: Task, examples, made) -> dict:
    """The figures of a model with these parameters on examples."""
    said = answers(start._replace(params=params), task, examples, made)
    return task.score(examples, said, labels_of(start))


def answers(start, task: Task, examples, made, batch: int = 32) -> list:
    """What a model says of each example, in their order, as many as there are."""
    model, params = start.model, start.params
    if task.say:
        return task.say(model, params, start.tokenizer, examples, batch)
    said = iter(scores(model, params, [each.row for several in made for each in several], batch))
    return [
        task.answer(example, several, [next(said) for _ in several], labels_of(start))
        for example, several in zip(examples, made, strict=True)
    ]


def chosen(task: Task, figures: dict) -> float:
    """The figure by which runs are compared."""
    return figures.get(task.chosen, figures.get("accuracy", 0.0))


def best(task: Task, runs: list[dict]) -> int:
    """The number of the run to keep: of those that have not collapsed, if there are any."""
    return max(range(len(runs)), key=lambda n: ("collapsed" not in runs[n], chosen(task, runs[n])))


def learn(start, task: Task, made, out, choices: Choices, part=(0, 1)) -> seeds.Learner:
    """Trains all runs at once, stage by stage; they are the first, second, ... of so many parts."""
    learner, order, arrays = _prepare(start, task, made, choices)
    groups = _groups(learner)
    rates = unfreezing.rates(
        choices.rate or usual_rate(start.model), len(groups), choices.layer_decay
    )
    rates_of = {p: rate for group, rate in zip(groups, rates, strict=True) for p in group}
    stages = unfreezing.WAYS[choices.way](len(groups), choices.epochs)
    ends = np.ceil(np.cumsum([stage.epochs for stage in stages]) * order.steps).astype(int)
    tokens = int(arrays["documents"].sum()) // order.steps * choices.seeds
    before = part[0] * int(ends[-1])
    with Report(out, part[1] * int(ends[-1]), tokens, first_step=before) as report:
        for stage, first, end in zip(stages, (0, *ends[:-1]), ends, strict=True):
            if end == first:
                continue
            trained = [path for group in groups[stage.first :] for path in group]
            learner = seeds.opened(learner, trained, choices.seeds)
            held = arrays
            if stage.first == len(groups) - 1 and not choices.auxiliary:
                held = arrays | _asked_once(learner, made, arrays)
            schedule = unfreezing.SCHEDULES[choices.schedule](int(end - first))
            optimizer = unfreezing.optimizer(schedule, rates_of, choices.decay)
            inputs = order, held, range(int(first), int(end)), choices.auxiliary
            for number, after, losses_S in updates(learner, task, optimizer, *inputs):
                learner = after
                if (number + 1) % REPORT_EVERY == 0 or number + 1 == end:
                    rate = float(schedule(number - first) * rates[-1])
                    said = {"loss": _finite(losses_S, number), "rate": rate}
                    report.step(before + number + 1, said)
    return learner


def _asked_once(learner, made, arrays) -> dict[str, np.ndarray]:
    """What a frozen trunk says of all rows, the same in every epoch, if the model has one."""
    if not hasattr(learner.model, "features"):
        return {}
    several, longest = [row for each in made for row in each], arrays["tokens"].shape[1]
    return {"features": seeds.features(learner, several, longest)}


def try_rates(folder, task: Task, examples, choices: Choices, ends, steps: int, labels=None):
    """The losses of updates whose rates grow by equal factors from one end to the other.

    Smith 2017, https://arxiv.org/abs/1506.01186, section 3.3, as fast.ai has it: it stops where the
    loss has grown to four times the least. Returns (rates, losses).
    """
    start = _start(folder, task, tuple(labels or ()) or task.labels(examples), choices)
    length = min(choices.length, start.model.config.max_length)
    made = rows(task, start, examples, length, True)
    learner, order, arrays = _prepare(start, task, made, choices)
    paths = [*learner.own, *learner.shared]
    learner = seeds.opened(learner, paths, 1)
    low, high = ends
    schedule = lambda step: low * (high / low) ** (step / (steps - 1))
    optimizer = unfreezing.optimizer(schedule, dict.fromkeys(paths, 1.0), choices.decay)
    losses = []
    for _, _, losses_S in updates(learner, task, optimizer, order, arrays, range(steps), 0.0):
        losses.append(float(losses_S[0]))
        if not losses[-1] < 4 * min(losses):
            break
    return [float(schedule(step)) for step in range(len(losses))], losses


def _prepare(start, task, made, choices):
    seeds = range(choices.seed, choices.seed + choices.seeds)
    several = [row for each in made for row in each]
    lengths = [max(len(each.row.tokens), _told(each.target)) for each in several]
    order = epochs(lengths, start.model.config.max_length, choices.batch, seeds)
    arrays = seeds.table(task, several, max(order.rungs))
    return seeds.begin(start.model, start.params, start.new, seeds), order, arrays


def _told(target) -> int:
    """How many tokens a target has that is told token by token."""
    return len(target) if isinstance(target, list) else 0


def _groups(learner) -> list[list[str]]:
    patterns = registry.named(registry.name_of(learner.model)).GROUPS
    return unfreezing.groups([*learner.own, *learner.shared], patterns)


def updates(learner, task, optimizer, order, arrays, steps, auxiliary):
    """The number of each update, the learner after it, and the loss of every run."""
    step = seeds.make_step(learner.model, task, optimizer, auxiliary)
    runs, rows, whole = placement.over_runs(len(order.seeds), order.batch)
    own, shared = jax.device_put(learner.own, runs), jax.device_put(learner.shared, whole)
    opt_state = jax.device_put(jax.vmap(optimizer.init)(own), runs)
    seeds_S = jax.device_put(np.array(order.seeds), runs)
    for number in steps:
        batch = jax.device_put(seeds.take(arrays, *order(number)), rows)
        own, opt_state, losses_S = step(own, opt_state, batch, seeds_S, shared, number)
        learner = learner._replace(own=own, shared=shared)
        yield number, learner, losses_S


def usual_rate(model) -> str:
    """What papers fine-tune at (Devlin et al. 2018), and miniatures (Turc et al. 2019)."""
    return "5e-5" if model.config.width >= 512 else "3e-4"


def _finite(losses_S, number: int) -> float:
    if not np.isfinite(losses_S).all():
        raise ValueError(f"the loss of update {number + 1} is not finite: take a lower --rate")
    return float(np.mean(losses_S))


def lines(result: Result, task: Task) -> list[str]:
    """What to print: every run's figures, their mean and spread, and which is the best."""
    found = []
    for name, runs in result.figures.items():
        for number, figures in enumerate(runs):
            said = ", ".join(f"{k.replace('_', ' ')} {v:.4f}" for k, v in figures.items())
            end = "  (best)" if number == result.best and len(runs) > 1 else ""
            found.append(f"{name}, run {number}: {said}{end}")
        if len(runs) > 1:
            values = [chosen(task, figures) for figures in runs]
            found.append(
                f"{name}, {len(runs)} runs: {np.mean(values):.4f} +- {np.std(values, ddof=1):.4f}, "
                f"{min(values):.4f} to {max(values):.4f}"
            )
        fallen = [number for number, figures in enumerate(runs) if "collapsed" in figures]
        if fallen:
            found.append(f"{name}: run {', '.join(map(str, fallen))} says one class of everything")
    return found


def _write(out, start, params) -> None:
    name, cls = registry.name_of(start.model), type(start.model).__name__
    model_folder.write(out, name, start.model.config, params, start.tokenizer, cls)


def _remarks(made, length, rounds) -> list[str]:
    cut = sum(each.row.left_out > 0 for some in made.values() for s in some for each in s)
    found = [f"{cut} texts are longer than {length} tokens: their ends are not read"] if cut else []
    return [*found, *([f"the runs were trained in {rounds} parts"] if rounds > 1 else [])]
