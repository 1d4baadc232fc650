"""From text to a model folder: the loop around the step."""

import json
import math
import signal
from pathlib import Path

import jax
import numpy as np

import zoo
from train import corpora, metrics, optimizers, parallel
from train.checkpoint import Checkpoints
from train.manifest import write_manifest
from train.recipe import Recipe, figures
from train.report import Report, Silence
from train.step import add_up
from zoo import checkpoint
from zoo import tokenizer as tokenizers
from zoo.huggingface import flatten


class NotFinite(ValueError):
    """The loss or the gradient is not a number, or not finite."""


def pretrain(
    recipe: Recipe,
    source,
    out,
    *,
    resume=False,
    tokenizer=None,
    way="mesh",
    mesh=(-1, 1, 1),
) -> dict:
    """Trains a recipe on a text and leaves a model folder: the held-out figures at the end.

    `source` is a train.data.text.Source. With `resume` the run in the folder goes on from its
    newest good step as if it had never stopped, or begins if there is none. Ctrl-C and SIGTERM save
    first. Raises ValueError where the folder holds another run, where text, tokenizer and model do
    not fit, or where the loss is not finite.
    """
    out = Path(out).absolute()
    checkpoints = Checkpoints(out)
    if checkpoints.latest() and not resume:
        raise ValueError(
            f"{out} holds a run at step {checkpoints.latest()[-1]}: "
            "give --resume to go on with it, or another --out"
        )
    tokenizer = corpora.tokenizer(recipe, source, out if resume else None, tokenizer)
    corpus = corpora.corpus(recipe, source, tokenizer)
    text, held_out = corpora.split(corpus)
    task = recipe.task(tokenizer, recipe.config, recipe.length)
    process = (jax.process_index(), jax.process_count())
    batches = task.train(text, recipe.length, recipe.batch, recipe.seed, process=process)
    asked = task.evaluate(held_out, recipe.length, recipe.batch, process=process)

    meta = recipe.fields() | {
        "data": source.fingerprint,
        "tokenizer": tokenizers.fingerprint(tokenizer),
    }
    meta = json.loads(json.dumps(meta))
    _check_same_run(out, checkpoints.meta(), meta)

    architecture = zoo.ARCHITECTURES[recipe.architecture]
    model = architecture.Model(recipe.config)
    schedule = recipe.schedule(recipe.steps)
    run = parallel.WAYS[way](
        model,
        task.objective,
        recipe.optimizer(schedule, decay_mask=optimizers.undecayed(recipe.undecayed)),
        schedule,
        architecture.AXES,
        batch=recipe.batch,
        seed=recipe.seed,
        dtype=recipe.dtype,
        accumulate=recipe.accumulate,
        mesh=mesh,
    )
    saved = run.abstract
    restored = checkpoints.restore(saved.params, saved._replace(params=()))
    if restored is None:
        checkpoint.write(out, recipe.architecture, recipe.config, tokenizer=tokenizer)
        write_manifest(out, recipe=recipe.name, **meta)
        state, first_step = run.init(), 0
    else:
        state = run.placed(restored.state._replace(params=restored.params))
        first_step = restored.step

    unigram = metrics.unigram_entropy(
        corpora.tokens(text), corpora.tokens(held_out), recipe.config.vocab_size
    )
    levels = {"uniform, ln V": math.log(recipe.config.vocab_size), "unigram": unigram}
    tokens_a_byte = len(corpora.tokens(held_out)) / corpora.num_bytes(held_out)
    report = (
        Report(
            out,
            recipe.steps,
            recipe.batch * recipe.length,
            flops(saved.params, recipe),
            first_step,
            levels,
        )
        if jax.process_index() == 0
        else Silence()
    )
    with report, _Signals() as signals:
        for line in restored.skipped if restored else []:
            report.line(line)
        if first_step == 0:
            for line in optimizers.table(saved.params, recipe.undecayed):
                report.line(line)
        else:
            report.line(f"going on from step {first_step}")
        report.line(
            f"{recipe.name}: {len(corpora.tokens(text)):,} tokens to train on, "
            f"{len(corpora.tokens(held_out)):,} held out; batch {recipe.batch} "
            f"({recipe.batch // process[1]} a process) of {recipe.length} on "
            f"{jax.device_count()} {jax.devices()[0].platform} device(s), {recipe.dtype}"
        )

        def evaluate(step):
            look = lambda params, batch, *rest: run.evaluate(params, run.put(batch), *rest)
            found = add_up(look, state.params, asked, run.carry())
            found = figures(found, task, tokens_a_byte)
            report.evaluation(step, found)
            return found

        def save(step, held_out_at):
            whole = run.saved(state)
            checkpoints.save(step, whole.params, whole._replace(params=()), meta, held_out_at)

        held_out_at, step, pending = None, first_step, []
        if first_step == 0:
            report.line(
                f"step 0: held-out loss {evaluate(0)['loss']:.3f}; "
                f"ln V is {levels['uniform, ln V']:.3f}, a unigram model has {unigram:.3f}"
            )
        try:
            for batch in batches.prefetched(first_step):
                if step == recipe.steps or signals.stop:
                    break
                state, found = run.step(state, run.put(batch))
                step += 1
                pending.append(found)
                is_due = step % recipe.evaluate_every == 0 or step == recipe.steps
                is_saved = step % recipe.save_every == 0 or is_due
                if step % recipe.report_every == 0 or is_saved:
                    latest = _fetch(pending, step, batches, out)
                    pending = []
                    if step % recipe.report_every == 0:
                        report.step(step, latest)
                    checkpoints.check()
                if is_due:
                    held_out_at = evaluate(step)
                if is_saved:
                    save(step, held_out_at if is_due else {})
            if signals.stop and step < recipe.steps:
                _fetch(pending, step, batches, out)
                save(step, {})
                report.line(f"stopped and saved at step {step}; --resume goes on from there")
        finally:
            checkpoints.close()
        if step < recipe.steps:
            return {}
        found = held_out_at or evaluate(step)
        whole = run.saved(state)
        checkpoint.write(out, recipe.architecture, recipe.config, whole.params, tokenizer)
        report.line(f"held out: {_line(found)}")
        at_unigram = f"perplexity {metrics.perplexity(unigram):.1f}"
        if task.predicts_all:
            at_unigram += f", {unigram * tokens_a_byte / math.log(2):.3f} bits a byte"
        report.line(f"a unigram model: {at_unigram}")
    return found


def flops(params, recipe: Recipe) -> float:
    """FLOP of one update: 6 a kernel parameter and token, and attention's 12 L D a layer and token.

    Embeddings are not counted; a tied head is, as if every position were predicted.
    """
    leaves = flatten(params).items()
    kernels = sum(math.prod(x.shape) for path, x in leaves if path.endswith("kernel"))
    c = recipe.config
    a_token = 6 * (kernels + c.vocab_size * c.width) + 12 * c.num_layers * recipe.length * c.width
    return float(a_token * recipe.batch * recipe.length)


def _fetch(pending, step, batches, out) -> dict:
    """Reads the metrics of the last steps; the first that is not finite ends the run."""
    for back, found in enumerate(fetched := jax.device_get(pending)):
        if not (math.isfinite(found["loss"]) and math.isfinite(found["gradient_norm"])):
            bad = step - len(pending) + back
            file = out / f"not_finite_batch_{bad}.npz"
            np.savez(file, **batches(bad))
            raise NotFinite(
                f"update {bad + 1} has loss {found['loss']} and gradient norm "
                f"{found['gradient_norm']}: stopped, nothing saved since step {_last(out)}; the batch is in {file.name}; "
                "a smaller rate, a longer warm-up or float32 may help"
            )
    return {name: float(value) for name, value in fetched[-1].items()} if fetched else {}


def _last(out):
    return (checkpoint.steps(out) or [0])[-1]


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
    """Ctrl-C, SIGTERM and SIGUSR1 ask the loop to save and stop; the second Ctrl-C stops at
    once."""

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
