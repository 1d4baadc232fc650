"""The tiny run under every placement on devices; as a program, all of them in one process.

python -m tests.eight_devices FOLDER    saves a run's steps there, and writes FOLDER/results.json
"""

import itertools
import json
import logging
import re
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from tests import tiny_run
from train import recipes
from train.checkpoint import Checkpoints
from train.devices.mesh import MeshPlacement
from train.devices.parallelism import PARALLELISM
from train.planning.run_shapes import run_shapes
from train.pretraining import corpus
from train.pretraining.run import make_training
from train.recipes import word2vec
from train.recipes.recipe import with_fields
from train.step import State, add_up, make_begin

MESHES = {"8x1x1": (8, 1, 1), "1x8x1": (1, 8, 1), "2x2x2": (2, 2, 2)}
STEPS = 5
# The name of the step in the compiler's log; under pmap it has no name of its own.
NAMES = {"mesh": "step", "pmap": "_fun"}


class Compilations(logging.Handler):
    """A log handler that counts how often a function is compiled, by name."""

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


def training_and_batches(recipe):
    """Return what is trained, the batches to train on, and the held-out batches."""
    source, tokenizer = tiny_run.source(), tiny_run.tokenizer()
    text, held_out = corpus.corpus(recipe, source, tokenizer).split()
    recipe = recipe.for_text(tokenizer, text)
    training = make_training(recipe, recipe.objective(tokenizer))
    batches = recipe.batches(tokenizer)
    train = batches.train(text, recipe.batch, recipe.seed)
    return training, train, batches.evaluate(held_out, recipe.batch)


def run_unplaced(recipe):
    """Return losses of the first steps and held-out metrics, on one device without a placement."""
    training, batches, held_out = training_and_batches(recipe)
    begin = make_begin(training.model, training.objective, training.optimizer, recipe.batch)
    init = lambda: begin(training.init(), 0)
    make_step, make_evaluate = training.makers("cpu")
    step = jax.jit(
        make_step(
            training.model,
            training.objective,
            training.optimizer,
            training.schedule,
            seed=recipe.seed,
            dtype=recipe.dtype,
            accumulate=recipe.accumulate,
        )
    )
    state, losses = jax.jit(init)(), []
    for number in range(STEPS):
        state, metrics = step(state, batches(number))
        losses.append(float(metrics["loss"]))
    evaluate = jax.jit(make_evaluate(training.model, training.objective, dtype=recipe.dtype))
    metrics = add_up(training.objective, evaluate, state.params, held_out, ())
    return {"losses": losses, "held_out": metrics}


def run_placed(recipe, parallelism, mesh=(-1, 1, 1), *, save=None, restore=None, start=0):
    """Do the same with a placement; save after three steps, or resume from such a folder."""
    training, batches, held_out = training_and_batches(recipe)
    run = PARALLELISM[parallelism](training, mesh)
    if restore is None:
        state = run.init()
    else:
        abstract_state = run.abstract
        checkpoint = Checkpoints(restore).restore(
            lambda _: (abstract_state.params, abstract_state._replace(params=()))
        )
        state = run.from_saved(checkpoint.state._replace(params=checkpoint.params))
    losses = []
    with Compilations() as compilations:
        for number in range(start, STEPS):
            if save is not None and number == 3:
                full_state, checkpoints = run.to_saved(state), Checkpoints(save)
                checkpoints.save(3, full_state.params, full_state._replace(params=()), {}, {})
                checkpoints.close()
            state, metrics = run.step(state, run.put(batches(number)))
            losses.append(float(metrics["loss"]))
    evaluate = lambda params, batch, *rest: run.evaluate(params, run.put(batch), *rest)
    carry = run.initial_carry()
    metrics = add_up(training.objective, evaluate, state.params, held_out, carry)
    compiled = compilations.of(NAMES[parallelism])
    return {"losses": losses, "held_out": metrics, "compiled": compiled}


def word_vectors():
    """Return a recipe whose step changes rows of tables."""
    recipe = word2vec.recipe("word2vec-tiny", schedule=word2vec.falling(0.05))
    config = replace(recipe.config, width=16)
    return replace(recipe, config=config, batch=8, length=64, epochs=2, sample=1e-1, block_size=8)


def layout(state: State) -> dict:
    """Return path -> (its shape, the shape of its part on one device)."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): (
            list(leaf.shape),
            list(leaf.sharding.shard_shape(leaf.shape)),
        )
        for path, leaf in jax.tree.leaves_with_path(state)
    }


def initial_state(recipe, mesh) -> dict:
    """Return the layout of the initial state, and how many bytes its program returns per device."""
    training, _, _ = training_and_batches(recipe)
    run = MeshPlacement(training, mesh)
    leaf_shapes = layout(run.init())
    memory = run._init.lower().compile().memory_analysis()
    total_bytes = sum(int(np.prod(shape)) for shape, _ in leaf_shapes.values()) * 4
    return {
        "layout": leaf_shapes,
        "bytes_out": memory.output_size_in_bytes,
        "bytes_total": total_bytes,
    }


def whole_batches(name, mesh) -> list[str]:
    """Return the shapes of a compiled step that have all rows of the batch, and many positions."""
    rows = 24  # no other axis has this size, or a multiple
    chosen = with_fields(recipes.recipe(name), batch=rows, length=48)
    sizes = {"num_layers": 1, "num_decoder_layers": 1, "mlp_width": 2048, "vocab_size": 1000}
    sizes = {field: size for field, size in sizes.items() if field in vars(chosen.config)}
    shapes = run_shapes(replace(chosen, config=replace(chosen.config, **sizes)))
    program = MeshPlacement(shapes.training, mesh).lower(shapes.batch()).compile()
    found = re.findall(rf"f32\[{rows},\d+,\d+[,\d]*\]", program.as_text())
    return sorted({shape for shape in found if not shape.startswith(f"f32[{rows},1,")})


def main(folder: Path) -> None:
    placements = {name: ("mesh", mesh) for name, mesh in MESHES.items()} | {
        "pmap": ("pmap", (-1, 1, 1))
    }
    without_dropout, with_dropout = tiny_run.recipe(dropout=0.0), tiny_run.recipe(dropout=0.1)
    accumulated = tiny_run.recipe(dropout=0.0, accumulate=2, batch=16)
    results = {
        "one device": run_unplaced(without_dropout),
        "one device, dropout": run_unplaced(with_dropout),
        "one device, accumulated": run_unplaced(accumulated),
        "created": initial_state(without_dropout, (2, 2, 2)),
        "whole batches": {
            name: whole_batches(name, MESHES["1x8x1"])
            for name in ("gpt2-tiny", "bert-tiny", "t5-tiny")
        },
        "restored": {},
    }
    for name, placement in placements.items():
        results[name] = run_placed(without_dropout, *placement, save=folder / name)
    results["one device, word vectors"] = run_unplaced(word_vectors())
    for name, mesh in MESHES.items():
        results[f"{name}, word vectors"] = run_placed(word_vectors(), "mesh", mesh)
    results["2x2x2, dropout"] = run_placed(with_dropout, *placements["2x2x2"])
    results["8x1x1, dropout"] = run_placed(with_dropout, *placements["8x1x1"])
    results["2x2x2, accumulated"] = run_placed(accumulated, *placements["2x2x2"])
    results["pmap, accumulated"] = run_placed(accumulated, *placements["pmap"])
    for (before, _), (after, placement) in itertools.pairwise(
        [*placements.items(), *list(placements.items())[:1]]
    ):
        result = run_placed(without_dropout, *placement, restore=folder / before, start=3)
        results["restored"][f"{before} to {after}"] = result
    (folder / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
