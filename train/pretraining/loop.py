"""From text to a model folder: the loop around the step."""

import json
import math
import signal
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from tokenizers import Tokenizer

from train.checkpoint import Checkpoints
from train.data.batches.batches import Batches
from train.data.corpus.corpus import num_bytes
from train.devices import placement
from train.metrics import language_model
from train.optimization import weight_decay
from train.pretraining import corpus
from train.recipes.recipe import Recipe, Task, figures, flops
from train.reporting.manifest import write_manifest
from train.reporting.progress import Report, Silence
from train.step import State, add_up
from zoo import registry, tokenizers
from zoo.checkpoints import model_folder
from zoo.params import flatten, unflatten


class NotFinite(ValueError):
    """The loss or the gradient is not a number, or not finite."""


class Run(NamedTuple):
    """All that a run needs, made and checked before anything is trained."""

    out: Path
    recipe: Recipe
    task: Task
    tokenizer: Tokenizer
    devices: placement.Placement
    train: Batches
    held_out: Batches
    meta: dict  # what a checkpoint says of its run: it goes on only where this agrees
    levels: dict[str, float]  # losses to compare with
    tokens_a_byte: float
    tokens: tuple[int, int]  # to predict in training, held out
    remarks: list[str]  # on the text, for whoever trains


def pretrain(recipe: Recipe, source, out, *, resume=False, **choices) -> dict:
    """Trains a recipe on a text and leaves a model folder: the held-out figures at the end.

    `source` is a train.data.text.Source; `choices` are those of `prepare`. With `resume` the run in
    the folder goes on from its newest good step as if it had never stopped, or begins if there is
    none. Ctrl-C and SIGTERM save first; then there are no figures. Raises ValueError where the
    folder holds another run, where text, tokenizer and model do not fit, or where the loss is not
    finite.
    """
    run = prepare(recipe, source, out, resume=resume, **choices)
    checkpoints = Checkpoints(run.out, max(2, recipe.average), recipe.save_every)
    state, first_step, news = begin(run, checkpoints)
    with _report(run, first_step) as report, _Signals() as signals:
        for line in news + _introduction(run):
            report.line(line)
        if first_step == 0:
            loss = measure(run, state, 0, report)["loss"]
            levels = "; ".join(f"{name}: {level:.3f}" for name, level in run.levels.items())
            report.line(f"before the first step the held-out loss is {loss:.3f}; {levels}")
        try:
            state, step, found = train(run, state, first_step, checkpoints, report, signals)
        finally:
            checkpoints.close()
        if step < recipe.steps:
            report.line(f"stopped and saved at step {step}; --resume goes on from there")
            return {}
        if recipe.average > 1:
            mean = checkpoints.average(run.devices.abstract.params, recipe.average)
            state = run.devices.placed(run.devices.saved(state)._replace(params=mean))
            found = None
        found = found or measure(run, state, step, report)
        params = run.devices.saved(state).params
        model_folder.write(run.out, recipe.architecture, recipe.config, params, run.tokenizer)
        report.line(f"held out: {_line(found)}")
        unigram = {"loss": run.levels["unigram"]}
        report.line(f"a unigram model: {_line(figures(unigram, run.task, run.tokens_a_byte))}")
    return found


def prepare(
    recipe: Recipe,
    source,
    out,
    *,
    dev=None,
    resume=False,
    tokenizer=None,
    way="mesh",
    mesh=(-1, 1, 1),
) -> Run:
    """Makes and checks everything: text, batches, model, devices.

    `dev` is a source to measure on, by default the last part of the other; `tokenizer` a folder to
    take it from, `way` a key of placement.WAYS, `mesh` its devices.
    """
    out = Path(out).absolute()
    saved = model_folder.steps(out)
    if saved and not resume:
        raise ValueError(
            f"{out} holds a run at step {saved[-1]}: "
            "give --resume to go on with it, or another --out"
        )
    tokenizer = corpus.tokenizer(recipe, source, out if resume else None, tokenizer)
    text = corpus.corpus(recipe, source, tokenizer)
    remarks = recipe.reading.remarks(source, text, tokenizer, recipe.length)
    if dev is None:
        text, held_out = recipe.reading.split(text)
    else:
        held_out = corpus.corpus(recipe, dev, tokenizer)
        remarks += recipe.reading.remarks(dev, held_out, tokenizer, recipe.length)
    predicted = [recipe.reading.predicted(part, tokenizer) for part in (text, held_out)]
    task = recipe.task(tokenizer, recipe.config, recipe.length)
    architecture = registry.named(recipe.architecture)
    schedule = recipe.schedule(recipe.steps)
    process = (jax.process_index(), jax.process_count())
    vocab_size = recipe.config.vocab_size
    meta = recipe.fields() | {
        "data": source.fingerprint if dev is None else f"{source.fingerprint} {dev.fingerprint}",
        "tokenizer": tokenizers.fingerprint(tokenizer),
    }
    return Run(
        out=out,
        recipe=recipe,
        task=task,
        tokenizer=tokenizer,
        devices=placement.WAYS[way](
            architecture.Model(recipe.config),
            task.objective,
            recipe.optimizer(schedule, decay_mask=weight_decay.undecayed(recipe.undecayed)),
            schedule,
            architecture.AXES,
            batch=recipe.batch,
            seed=recipe.seed,
            dtype=recipe.dtype,
            accumulate=recipe.accumulate,
            mesh=mesh,
        ),
        train=task.train(text, recipe.length, recipe.batch, recipe.seed, process=process),
        held_out=task.evaluate(held_out, recipe.length, recipe.batch, process=process),
        meta=json.loads(json.dumps(meta)),
        levels={
            "uniform, ln V": math.log(vocab_size),
            "unigram": task.level(language_model.unigram_entropy(*predicted, vocab_size)),
        },
        tokens_a_byte=len(predicted[1]) / num_bytes(held_out),
        tokens=tuple(map(len, predicted)),
        remarks=remarks,
    )


def begin(run: Run, checkpoints: Checkpoints) -> tuple[State, int, list[str]]:
    """The state to go on from, its step, and what to tell of it."""
    _check_same_run(run.out, checkpoints.meta(), run.meta)
    target = run.devices.abstract
    restored = checkpoints.restore(target.params, target._replace(params=()))
    if restored is None:
        recipe = run.recipe
        model_folder.write(run.out, recipe.architecture, recipe.config, tokenizer=run.tokenizer)
        if jax.process_index() == 0:
            write_manifest(run.out, recipe=recipe.name, **run.meta)
        state = _started(run, run.devices.init())
        return state, 0, weight_decay.table(target.params, recipe.undecayed)
    state = run.devices.placed(restored.state._replace(params=restored.params))
    return state, restored.step, [*restored.skipped, f"going on from step {restored.step}"]


def _started(run: Run, state: State) -> State:
    """The state with those parameters that the recipe does not draw."""
    given = run.recipe.start(flatten(run.devices.abstract.params))
    if not given:
        return state
    whole = run.devices.saved(state)
    put = lambda path, leaf: (
        jax.device_put(given[path], leaf.sharding, may_alias=False) if path in given else leaf
    )
    params = unflatten({path: put(path, leaf) for path, leaf in flatten(whole.params).items()})
    return run.devices.placed(whole._replace(params=params))


def train(run: Run, state: State, step: int, checkpoints, report, signals):
    """The loop, to the end or a signal: (state, step, the held-out figures there or None)."""
    recipe, found, pending = run.recipe, None, []
    for batch in run.train.prefetched(step):
        if step == recipe.steps or signals.stop:
            break
        state, latest = run.devices.step(state, run.devices.put(batch))
        step, found = step + 1, None
        pending.append(latest)
        is_last = step == recipe.steps
        is_measured = step % recipe.evaluate_every == 0 or is_last
        is_saved = step % recipe.save_every == 0 or is_last
        # Metrics stay on the device until now, so the device never waits for the host.
        if step % recipe.report_every == 0 or is_measured or is_saved:
            latest = _fetch(run, pending, step, checkpoints)
            pending = []
            checkpoints.check()
            if step % recipe.report_every == 0:
                report.step(step, latest)
        if is_measured:
            found = measure(run, state, step, report)
        if is_saved:
            _save(run, state, step, checkpoints, found)
    if signals.stop and step < recipe.steps:
        _fetch(run, pending, step, checkpoints)
        _save(run, state, step, checkpoints, found)
    return state, step, found


def measure(run: Run, state: State, step: int, report) -> dict:
    """The held-out figures at a step, reported."""
    look = lambda params, batch, *rest: run.devices.evaluate(params, run.devices.put(batch), *rest)
    found = add_up(run.task.objective, look, state.params, run.held_out, run.devices.carry())
    found = figures(found, run.task, run.tokens_a_byte)
    report.evaluation(step, found)
    return found


def _save(run: Run, state: State, step: int, checkpoints, found) -> None:
    whole = run.devices.saved(state)
    checkpoints.save(step, whole.params, whole._replace(params=()), run.meta, found or {})


def _fetch(run: Run, pending: list, step: int, checkpoints) -> dict:
    """Reads the metrics of the last steps; the first that is not finite ends the run."""
    latest = {}
    for back, latest in enumerate(jax.device_get(pending)):
        if not (math.isfinite(latest["loss"]) and math.isfinite(latest["gradient_norm"])):
            number = step - len(pending) + back
            file = run.out / f"not_finite_batch_{number}.npz"
            np.savez(file, **run.train(number))
            checkpoints.close()
            raise NotFinite(
                f"update {number + 1} has loss {latest['loss']} and gradient norm "
                f"{latest['gradient_norm']}: stopped, and nothing saved since step "
                f"{(checkpoints.latest() or [0])[-1]}; its batch is in {file.name}; "
                "a smaller rate, a longer warm-up or float32 may help"
            )
    return {name: float(value) for name, value in latest.items()}


def _report(run: Run, first_step: int):
    if jax.process_index() > 0:
        return Silence()
    recipe, params = run.recipe, run.devices.abstract.params
    tokens = recipe.batch * recipe.length
    return Report(run.out, recipe.steps, tokens, flops(params, recipe), first_step, run.levels)


def _introduction(run: Run) -> list[str]:
    recipe, devices = run.recipe, jax.devices()
    return [
        *run.remarks,
        f"{recipe.name}: {run.tokens[0]:,} tokens to train on, {run.tokens[1]:,} held out",
        f"batch {recipe.batch} ({recipe.batch // jax.process_count()} a process) of length "
        f"{recipe.length} on {len(devices)} {devices[0].platform} devices, {recipe.dtype}",
    ]


def _check_same_run(out, before, now) -> None:
    if before is None:
        return
    differences = [
        f"{name} was {before.get(name)!r}, is {now.get(name)!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if differences:
        raise ValueError(f"{out} belongs to another run: " + "; ".join(differences))


def _line(figures) -> str:
    names = {"loss": "loss", "perplexity": "perplexity", "bits_per_byte": "bits a byte"}
    return ", ".join(
        f"{names.get(name, name.replace('_', ' '))} {value:.4g}" for name, value in figures.items()
    )


class _Signals:
    """Ctrl-C, SIGTERM and SIGUSR1 ask to save and stop; the second Ctrl-C stops at once."""

    def __enter__(self):
        self.stop = False
        wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
        self._before = {number: signal.signal(number, self._ask) for number in wanted}
        return self

    def __exit__(self, *error):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number, frame):
        self.stop = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
