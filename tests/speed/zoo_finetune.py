"""Zoo, fine-tuning: the trainer's own step and order; all runs are one program.

The variant "alone" trains the same runs one after another.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import zoo
from tests.speed import work as shared
from tests.speed.competitor import Run, serve
from tests.speed.work import Work, labelled
from train.devices.malloc import keep_freed_memory
from train.devices.placement import Training
from train.devices.runs import RunsPlacement
from train.finetuning import unfreezing
from train.finetuning.batches import labelled_batches
from train.finetuning.objective import TaskObjective
from train.finetuning.tasks.registry import TASKS
from train.finetuning.tasks.task import LabelledRow
from train.optimization import schedules
from zoo.inference.batching import Row, pad
from zoo.models import bert
from zoo.params import flatten

TASK = TASKS["classification"]


def build(work: Work, folder: Path, variant: str) -> tuple[dict, Run]:
    keep_freed_memory()  # as `zoo finetune` does
    loaded = zoo.load(folder)
    model, params, _ = loaded
    tokens, lengths, classes = labelled(work)
    rows = [Row(list(map(int, t[:n])), [0] * int(n)) for t, n in zip(tokens, lengths, strict=True)]
    labelled_rows = [LabelledRow(row, int(label)) for row, label in zip(rows, classes, strict=True)]

    first = pad(rows[: work.rows], work.rows, int(lengths[: work.rows].max()))
    logits_BC = model.apply({"params": params}, *first)
    targets_B = jnp.array(classes[: work.rows])
    loss = TASK.loss(logits_BC, {"targets": targets_B}, jnp.ones(work.rows)).loss / work.rows

    schedule = schedules.constant(1.0)
    flat = flatten(params)
    groups = unfreezing.groups(list(flat), bert.GROUPS)
    paths = [path for group in groups[-work.trained :] for path in group]
    rates = dict.fromkeys(paths, shared.LEARNING_RATE)
    frozen = {path: x for path, x in flat.items() if path not in rates}
    parts = [range(work.runs)] if variant != "alone" else [[run] for run in range(work.runs)]
    feeds = []
    for runs in parts:
        stacked = {path: jnp.stack([flat[path]] * len(runs)) for path in paths}
        training = Training(
            model=model,
            init=lambda stacked=stacked: stacked,
            objective=TaskObjective(TASK, 0.0, frozen),
            optimizer=unfreezing.optimizer(schedule, rates, shared.WEIGHT_DECAY),
            schedule=schedule,
            axes=bert.AXES,
            batch_size=work.rows,
            seed=0,
            dtype="float32",
            accumulate=1,
        )
        placement = RunsPlacement(training, runs)
        batches = labelled_batches(labelled_rows, work.max_length, work.rows, runs)
        feeds.append(steps(placement, placement.begin(stacked), batches))

    def run(turns: int) -> None:
        for _ in range(turns * (batches.order.steps if work.texts else 1)):
            losses = [next(feed) for feed in feeds]
        jax.block_until_ready(losses)

    facts = {
        "loss": float(loss),
        "parameters": sum(map(np.size, jax.tree.leaves(params))),
    }
    return facts | {"versions": {"zoo": zoo.__version__, "jax": jax.__version__}}, run


def steps(placement, state, batches):
    """Yield the loss of every run at every step, without end."""
    for batch in batches.prefetched(0):
        if batch["tokens"].ndim == 2:  # a single run
            batch = {name: x[None] for name, x in batch.items()}
        state, metrics = placement.step(state, placement.put(batch))
        yield metrics["loss"]


if __name__ == "__main__":
    serve(build)
