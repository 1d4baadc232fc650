"""Zoo, one training step: the trainer's own, on its mesh, with donated state and no read-back."""

import itertools
from pathlib import Path

import jax
import numpy as np

import zoo
from tests.speed import work as shared
from tests.speed.competitor import Run, serve
from tests.speed.work import Work
from train.devices.malloc import keep_freed_memory
from train.devices.mesh import MeshPlacement
from train.devices.placement import Training
from train.objectives.causal import Causal
from train.objectives.masked import MaskedLanguageModeling
from train.optimization import optimizers, schedules
from train.step import cast, corrupt
from zoo import registry


def objective(work: Work):
    """What is learned; ids below the first word are special tokens."""
    if work.model == "gpt2":
        return Causal(end_of_document=0)
    rate = work.predictions / work.max_length
    return MaskedLanguageModeling(work.vocab_size, shared.MASK, (0,), work.predictions, rate)


def examples(work: Work, batch: dict) -> dict[str, np.ndarray]:
    """A batch before the objective's corruption."""
    mask = np.ones(batch["tokens"].shape, bool)
    if work.model == "gpt2":
        # A window has one token more than is read: nobody predicts that one.
        return {name: np.pad(x, ((0, 0), (0, 1))) for name, x in (*batch.items(), ("mask", mask))}
    words = batch["tokens"].copy()
    np.put_along_axis(words, batch["positions"], batch["targets"], axis=1)
    documents = 1 + np.arange(work.max_length) * work.packed // work.max_length
    documents = np.broadcast_to(documents, words.shape).astype(np.int32)
    return {"tokens": words, "mask": mask, "documents": documents}


def first_loss(work: Work, model, params, batch: dict) -> float:
    """The loss before training, of the positions that the other competitors predict."""
    goal = objective(work)
    seen = corrupt(goal, jax.random.key(0), examples(work, batch))
    if work.model == "bert":
        seen |= {"tokens": batch["tokens"], "targets": batch["targets"]}
        seen["predictions"] = batch["positions"]
    params = cast(params, work.dtype)
    terms, _ = goal.loss(model, params, seen, (), jax.random.key(0), train=False)
    name = {"gpt2": "token", "bert": "masked"}[work.model]
    return float(terms[name].loss / seen["weights"][name].sum())


def build(work: Work, folder: Path, variant: str) -> tuple[dict, Run]:
    keep_freed_memory()  # as `zoo pretrain` does
    model, params, _ = zoo.load(folder)
    data = shared.batches(work)
    # Its operations are compiled one by one, which takes a GPU a minute.
    loss = None if variant == "unchecked" else first_loss(work, model, params, data[0])
    run = stepped(work, model, params, objective(work), [examples(work, x) for x in data])
    facts = {"loss": loss, "parameters": sum(x.size for x in jax.tree.leaves(params))}
    return facts | {"versions": {"zoo": zoo.__version__, "jax": jax.__version__}}, run


def stepped(work: Work, model, params, goal, data: list[dict]) -> Run:
    """Steps over examples by the trainer's own step."""
    schedule = schedules.constant(shared.LEARNING_RATE)
    training = Training(
        model=model,
        init=lambda: params,
        objective=goal,
        optimizer=optimizers.adamw(
            schedule, *shared.BETAS, shared.EPSILON, shared.WEIGHT_DECAY, clip=None
        ),
        schedule=schedule,
        axes=registry.named(work.model).AXES,
        batch_size=work.rows,
        seed=0,
        dtype=work.dtype,
        accumulate=1,
    )
    place = MeshPlacement(training)
    state = place.begin(params)
    feed = itertools.cycle([place.put(batch) for batch in data])

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state, _metrics = place.step(state, next(feed))
        jax.block_until_ready(state)

    return run


if __name__ == "__main__":
    serve(build)
