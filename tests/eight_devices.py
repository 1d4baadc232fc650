"""The tiny run under every way of using devices; as a program, all of them in one process.

python -m tests.eight_devices FOLDER    saves a run's steps there, and writes FOLDER/found.json
"""

import itertools
import json
import logging
import sys
from pathlib import Path

import jax
import numpy as np

from tests import tiny_run
from train.checkpoint import Checkpoints
from train.devices.mesh import MeshPlacement
from train.devices.parallelism import PARALLELISM
from train.pretraining import corpus
from train.pretraining.run import make_training
from train.step import State, add_up, make_begin, make_evaluate, make_step

MESHES = {"8x1x1": (8, 1, 1), "1x8x1": (1, 8, 1), "2x2x2": (2, 2, 2)}
STEPS = 5
# What the compiler calls the step; under pmap it has no name of its own.
NAMES = {"mesh": "step", "pmap": "_fun"}


class Compilations(logging.Handler):
    """Counts how often a function of some name is compiled."""

    def __init__(self):
        super().__init__()
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())

    def of(self, name) -> int:
        return sum(m.startswith(f"Compiling jit({name}) with") for m in self.messages)

    def __enter__(self):
        self._log = jax.log_compiles()
        self._log.__enter__()
        logging.getLogger("jax").addHandler(self)
        logging.getLogger("jax").propagate = False
        return self

    def __exit__(self, *error):
        logging.getLogger("jax").propagate = True
        logging.getLogger("jax").removeHandler(self)
        self._log.__exit__(*error)


def parts(recipe):
    """What is trained, the batches to train on, and the batches held out."""
    source, words = tiny_run.source(), tiny_run.tokenizer()
    text, held_out = corpus.corpus(recipe, source, words).split()
    training = make_training(recipe, recipe.objective(words))
    batches = recipe.batches(words)
    train = batches.train(text, recipe.batch, recipe.seed)
    return training, train, batches.evaluate(held_out, recipe.batch)


def alone(recipe):
    """The losses of the first steps on one device without any placement, and the held-out loss."""
    t, batches, held_out = parts(recipe)
    begin = make_begin(t.model, t.objective, t.optimizer, recipe.batch)
    init = lambda: begin(t.init(), 0)
    step = jax.jit(
        make_step(
            t.model,
            t.objective,
            t.optimizer,
            t.schedule,
            seed=recipe.seed,
            dtype=recipe.dtype,
            accumulate=recipe.accumulate,
        )
    )
    state, losses = jax.jit(init)(), []
    for number in range(STEPS):
        state, metrics = step(state, batches(number))
        losses.append(float(metrics["loss"]))
    evaluate = jax.jit(make_evaluate(t.model, t.objective, dtype=recipe.dtype))
    metrics = add_up(t.objective, evaluate, state.params, held_out, ())
    return {"losses": losses, "held_out": metrics}


def placed(recipe, parallelism, mesh=(-1, 1, 1), *, save=None, restore=None, start=0):
    """The same on devices; saved into a folder after three steps, or begun from such a folder."""
    training, batches, held_out = parts(recipe)
    run = PARALLELISM[parallelism](training, mesh)
    if restore is None:
        state = run.init()
    else:
        wanted = run.abstract
        found = Checkpoints(restore).restore(lambda _: (wanted.params, wanted._replace(params=())))
        state = run.from_saved(found.state._replace(params=found.params))
    losses = []
    with Compilations() as compilations:
        for number in range(start, STEPS):
            if save is not None and number == 3:
                whole, checkpoints = run.to_saved(state), Checkpoints(save)
                checkpoints.save(3, whole.params, whole._replace(params=()), {}, {})
                checkpoints.close()
            state, metrics = run.step(state, run.put(batches(number)))
            losses.append(float(metrics["loss"]))
    evaluate = lambda params, batch, *rest: run.evaluate(params, run.put(batch), *rest)
    carry = run.initial_carry()
    metrics = add_up(training.objective, evaluate, state.params, held_out, carry)
    compiled = compilations.of(NAMES[parallelism])
    return {"losses": losses, "held_out": metrics, "compiled": compiled}


def layout(state: State) -> dict:
    """path -> (its shape, the shape that lies on one device)."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): (
            list(leaf.shape),
            list(leaf.sharding.shard_shape(leaf.shape)),
        )
        for path, leaf in jax.tree.leaves_with_path(state)
    }


def created(recipe, mesh) -> dict:
    """How the first state lies, and whether its program ever holds a whole table on a device."""
    training, _, _ = parts(recipe)
    run = MeshPlacement(training, mesh)
    found = layout(run.init())
    memory = run._init.lower().compile().memory_analysis()
    whole = sum(int(np.prod(shape)) for shape, _ in found.values()) * 4
    return {"layout": found, "bytes_out": memory.output_size_in_bytes, "bytes_whole": whole}


def main(folder: Path) -> None:
    placements = {name: ("mesh", mesh) for name, mesh in MESHES.items()} | {
        "pmap": ("pmap", (-1, 1, 1))
    }
    still, noisy = tiny_run.recipe(dropout=0.0), tiny_run.recipe(dropout=0.1)
    parted = tiny_run.recipe(dropout=0.0, accumulate=2, batch=16)
    found = {
        "alone": alone(still),
        "alone, dropout": alone(noisy),
        "alone, parts": alone(parted),
        "created": created(still, (2, 2, 2)),
        "restored": {},
    }
    for name, placement in placements.items():
        found[name] = placed(still, *placement, save=folder / name)
    found["2x2x2, dropout"] = placed(noisy, *placements["2x2x2"])
    found["8x1x1, dropout"] = placed(noisy, *placements["8x1x1"])
    found["2x2x2, parts"] = placed(parted, *placements["2x2x2"])
    found["pmap, parts"] = placed(parted, *placements["pmap"])
    for (before, _), (after, placement) in itertools.pairwise(
        [*placements.items(), *list(placements.items())[:1]]
    ):
        again = placed(still, *placement, restore=folder / before, start=3)
        found["restored"][f"{before} to {after}"] = again
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
