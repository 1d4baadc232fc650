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
from train.data.batches.epochs import epochs
from train.devices.malloc import keep_freed_memory
from train.finetuning import loop, seeds, unfreezing
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
    total, weight = TASK.loss(logits_BC, jnp.array(classes[: work.rows]), first.documents)

    schedule = schedules.constant(1.0)
    paths = list(flatten(params))
    groups = unfreezing.groups(paths, bert.GROUPS)
    trained = [path for group in groups[-work.trained :] for path in group]
    rates = dict.fromkeys(paths, shared.LEARNING_RATE)
    optimizer = unfreezing.optimizer(schedule, rates, shared.WEIGHT_DECAY)
    parts = [range(work.runs)] if variant != "alone" else [[run] for run in range(work.runs)]
    feeds = []
    for runs in parts:
        replicas = seeds.unfreeze(seeds.replicate(loaded, [], runs), trained, len(runs))
        order = epochs(lengths, work.max_length, work.rows, runs)
        inputs = loop.Inputs(seeds.stack(labelled_rows, max(order.buckets)), order)
        endless = range(1_000_000)
        feeds.append(loop.updates(model, replicas, TASK, optimizer, inputs, endless))

    def run(turns: int) -> None:
        for _ in range(turns * (order.steps if work.texts else 1)):
            losses = [next(feed)[2] for feed in feeds]
        jax.block_until_ready(losses)

    facts = {
        "loss": float(total / weight),
        "parameters": sum(map(np.size, jax.tree.leaves(params))),
    }
    return facts | {"versions": {"zoo": zoo.__version__, "jax": jax.__version__}}, run


if __name__ == "__main__":
    serve(build)
