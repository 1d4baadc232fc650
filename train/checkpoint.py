"""Checkpoints of a run: saved in the background, restored from the newest intact step.

    checkpoints/<step>/params/   the parameters, which zoo.load can read without the rest
    checkpoints/<step>/state/    optimizer state, carry, counters
    checkpoints/<step>/meta/     a fingerprint of every array, metrics, metadata of the run

A step appears under its name only when it is complete, so a run that is killed loses only the work
since the last checkpoint. A step that turns out to be damaged is skipped with a warning.
"""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import chex
import jax

from zoo.checkpoints.arrays import (
    Damaged,
    Saving,
    check_path,
    describe,
    dtype_name,
    load,
    read_record,
    save,
)
from zoo.checkpoints.model_folder import steps
from zoo.params import flatten


class Restored(NamedTuple):
    """A restored step, and a warning for each newer step that was skipped."""

    step: int
    params: Any
    state: Any
    meta: dict
    skipped: list[str]


class Checkpoints:
    """The saved steps of one run: the latest `keep`, and the one with the lowest metrics["loss"].

    Step 0, or one that is not a multiple of `every`, was saved when the run was stopped, or is the
    last one. It is deleted after the next save, so an interrupted run keeps the same steps as any
    other.

    Orbax's preservation policies do not fit: LatestN also counts damaged steps and those of stopped
    runs, and it belongs to a Checkpointer that does not check our fingerprints.
    """

    def __init__(self, folder, keep: int = 2, every: int = 1):
        if keep < 1:
            raise ValueError(f"keep must be at least 1, not {keep}")
        self._run = Path(folder).absolute()
        check_path(self._run)  # before anything is trained
        self._folder = self._run / "checkpoints"
        self._keep, self._every = keep, every
        self._saving: tuple[int, Saving] | None = None  # the step that is being saved
        self._newest: int | None = None  # the last step that was restored or saved
        self._bad: set[int] = set()
        self._losses: dict[int, float] = {}

    def latest(self) -> list[int]:
        """Return the numbers of the saved steps, oldest first."""
        return steps(self._run)

    def save(self, step: int, params, state, meta: dict, metrics: dict) -> None:
        """Start saving a step in the background; its arrays are copied before this returns.

        Waits for the previous save first. Older steps are deleted when this one is complete. The
        step that was restored or saved last is not saved again.

        Args:
          step: The number of the step.
          params: A nested dict of arrays.
          state: Any pytree of arrays.
          meta: Metadata of the run, as JSON.
          metrics: The held-out metrics, if known.

        Raises:
          OSError: If the previous save failed.
        """
        self._settle()
        if step == self._newest:
            return
        record = {
            "step": step,
            "params": describe(params),
            "state": describe(state),
            "metrics": {name: float(value) for name, value in metrics.items()},
            "meta": meta,
        }
        if jax.process_index() == 0:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._clear()
        saving = save(self._folder / str(step), {"params": params, "state": state}, record)
        self._saving = (step, saving)
        self._losses[step] = _loss(record)

    def check(self) -> None:
        """Raise OSError if the background save has failed; do not wait for it."""
        self._settle(wait_s=0)

    def close(self) -> None:
        """Wait for the background save; raise OSError if it failed."""
        self._settle()

    def restore(
        self, targets: Callable[[int], tuple[chex.ArrayTree, chex.ArrayTree]]
    ) -> Restored | None:
        """Return the newest intact step, or None if no step was saved.

        Args:
          targets: Returns params and state that are expected at a step: pytrees of
            jax.ShapeDtypeStruct with shardings, whose structure the result has.

        Raises:
          ValueError: If the step has another structure; the message lists the differences.
          Damaged: If all saved steps are damaged.
        """
        self._settle()
        if jax.process_index() == 0:
            self._clear()
        skipped: dict[int, str] = {}
        for step in reversed(self.latest()):
            folder = self._folder / str(step)
            params, state = targets(step)
            expected = {"params": flatten(params), "state": flatten(state)}
            try:
                record = read_record(folder)
                _check_structure(folder, record, expected)
                arrays = {
                    name: load(folder / name, record[name], target)
                    for name, target in expected.items()
                }
            except Damaged as error:
                skipped[step] = f"step {step} is damaged and skipped: {error}"
                continue
            self._newest, self._bad = step, set(skipped)
            return Restored(
                step,
                _like(params, arrays["params"]),
                _like(state, arrays["state"]),
                record["meta"],
                list(skipped.values()),
            )
        if skipped:
            raise Damaged(f"{self._folder} has no intact step: " + "; ".join(skipped.values()))
        return None

    def average(self, params, count: int):
        """Return the mean of the parameters of the newest `count` saved steps, or of all if fewer.

        Args:
          params: A pytree of jax.ShapeDtypeStruct with shardings.
          count: The number of steps.

        Raises:
          Damaged: If one of the steps cannot be read.
        """
        self._settle()
        target, steps = flatten(params), self._regular(self.latest())[-count:]
        mean = dict.fromkeys(target, 0.0)
        for step in steps:
            folder = self._folder / str(step)
            saved = load(folder / "params", read_record(folder)["params"], target)
            mean = {path: mean[path] + saved[path] / len(steps) for path in target}
        return _like(params, mean)

    def meta(self) -> dict | None:
        """Return the metadata of the run from the newest step with readable metadata, or None."""
        for step in reversed(self.latest()):
            try:
                return read_record(self._folder / str(step))["meta"]
            except Damaged:
                continue
        return None

    def _settle(self, wait_s: float | None = None) -> None:
        """Finish the background save: raise OSError if it failed, otherwise delete older steps."""
        if self._saving is None:
            return
        (step, saving), self._saving = self._saving, None
        if not saving.finish(wait_s):
            self._saving = (step, saving)
            return
        self._newest = step
        self._bad.discard(step)
        if jax.process_index() == 0:
            self._let_go(step)

    def _let_go(self, newest: int) -> None:
        """Delete all steps except the latest and the best, and steps newer than `newest`.

        Newer steps exist if the run was restored from an older one.
        """
        good = [s for s in self.latest() if s <= newest and s not in self._bad]
        best = min(reversed(good), key=self._loss_of)  # ties: the newest
        for step in self.latest():
            if step not in (best, *self._regular(good)[-self._keep :]):
                # Renamed first: a partly deleted step must never look like a complete one.
                removed = self._folder / f"{step}.removed"
                (self._folder / str(step)).rename(removed)
                shutil.rmtree(removed)

    def _regular(self, steps: list[int]) -> list[int]:
        """Return the steps that are positive multiples of `every`, and the newest one."""
        is_regular = lambda step: step > 0 and step % self._every == 0
        return [step for step in steps if is_regular(step) or step == steps[-1]]

    def _clear(self) -> None:
        """Remove what a killed process or a failed save left partly written or partly deleted.

        After a failed save, Orbax's other threads may still write for a moment: what cannot be
        removed because of them is removed before the next save.
        """
        for pattern in ("*.orbax-checkpoint-tmp*", "*.removed"):
            for path in self._folder.glob(pattern):
                shutil.rmtree(path, ignore_errors=True)

    def _loss_of(self, step: int) -> float:
        if step not in self._losses:
            try:
                self._losses[step] = _loss(read_record(self._folder / str(step)))
            except Damaged:
                self._losses[step] = math.inf
        return self._losses[step]


def _like(tree, arrays):
    return jax.tree.unflatten(jax.tree.structure(tree), [arrays[path] for path in flatten(tree)])


def _loss(record) -> float:
    loss = record["metrics"].get("loss", math.inf)
    return math.inf if math.isnan(loss) else loss


def _check_structure(folder, record, targets) -> None:
    """Raise ValueError with all differences between the saved and the expected arrays."""
    differences = []
    for name, target in targets.items():
        expected = {path: f"{dtype_name(x)}{list(x.shape)}" for path, x in target.items()}
        saved = {path: f"{x['dtype']}{x['shape']}" for path, x in record[name].items()}
        for path in sorted(expected.keys() | saved.keys()):
            if path not in expected:
                differences.append(f"{name}/{path} is saved but not expected")
            elif path not in saved:
                differences.append(f"{name}/{path} is expected but not saved")
            elif saved[path] != expected[path]:
                differences.append(f"{name}/{path} is saved as {saved[path]}, not {expected[path]}")
    if differences:
        if len(differences) > 20:
            differences[20:] = [f"and {len(differences) - 20} more"]
        raise ValueError(f"{folder} has another model or optimizer: " + "; ".join(differences))
