"""Saves a run while it goes on, and finds the newest step from which it can go on.

    checkpoints/<step>/params/   the parameters, which zoo.load reads without the rest
    checkpoints/<step>/state/    optimizer, carry, counters
    checkpoints/<step>/meta/     a fingerprint for every array, metrics, what the run says of itself

A step appears under its name when it is whole, so a run that is killed loses only what it did since
the last one. A step that is found damaged later is skipped, with a warning.
"""

import math
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax

from zoo.checkpoints.arrays import Damaged, Saving, describe, dtype_name, load, read_record, save
from zoo.checkpoints.model_folder import steps
from zoo.params import flatten


class Restored(NamedTuple):
    """A step to go on from, and a sentence for each newer one that was passed over."""

    step: int
    params: Any
    state: Any
    meta: dict
    skipped: list[str]


class Checkpoints:
    """The saved steps of one run: the latest `keep` and the one with the least metrics["loss"].

    A step that is no multiple of `every` is that of a run which was stopped, or the last of all. It
    goes with the next, so that what is kept does not tell whether a run was ever stopped.

    Orbax's preservation policies do not fit: its LatestN counts every step, those of a stopped run
    and damaged ones too, and belongs to a Checkpointer that knows nothing of our fingerprints.
    """

    def __init__(self, folder, keep: int = 2, every: int = 1):
        if keep < 1:
            raise ValueError(f"keep must be at least 1, not {keep}")
        self._run = Path(folder).absolute()
        self._folder = self._run / "checkpoints"
        self._keep, self._every = keep, every
        self._saving: tuple[int, Saving] | None = None  # the step now being saved
        self._newest: int | None = None  # the step this run stands on: the last restored or saved
        self._bad: set[int] = set()
        self._losses: dict[int, float] = {}

    def latest(self) -> list[int]:
        """The numbers of the saved steps, oldest first."""
        return steps(self._run)

    def save(self, step: int, params, state, meta: dict, metrics: dict) -> None:
        """Begins to save a step; on return, its arrays are copied and may be donated.

        `params` is a nested dict of arrays, `state` any pytree of them, `meta` the caller's JSON.
        Waits for the save before it, and raises OSError if that failed. Older steps go when this
        one is whole. The step that the run stands on is not saved again.
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
        """Raises OSError if the save in the background has failed; does not wait for it."""
        self._settle(wait_s=0)

    def close(self) -> None:
        """Waits for the save in the background; raises OSError if it failed."""
        self._settle()

    def restore(self, params, state) -> Restored | None:
        """The newest step of which every bit is right, or None where none was ever saved.

        `params` and `state` are pytrees of jax.ShapeDtypeStruct with shardings: what comes back has
        their structure and lies where they say. Raises ValueError, with each difference, for a step
        of another structure, and Damaged where no step is good.
        """
        self._settle()
        if jax.process_index() == 0:
            self._clear()
        targets = {"params": flatten(params), "state": flatten(state)}
        skipped: dict[int, str] = {}
        for step in reversed(self.latest()):
            folder = self._folder / str(step)
            try:
                record = read_record(folder)
                _check_structure(folder, record, targets)
                arrays = {
                    name: load(folder / name, record[name], target)
                    for name, target in targets.items()
                }
            except Damaged as error:
                skipped[step] = f"step {step} is damaged and passed over: {error}"
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
            raise Damaged(f"{self._folder} has no good step: " + "; ".join(skipped.values()))
        return None

    def average(self, params, count: int):
        """The mean of the parameters of the newest `count` saved steps, or of as many as there are.

        `params` is as in `restore`. Raises Damaged where one of them cannot be read back.
        """
        self._settle()
        target, steps = flatten(params), self._regular(self.latest())[-count:]
        mean = dict.fromkeys(target, 0.0)
        for step in steps:
            folder = self._folder / str(step)
            found = load(folder / "params", read_record(folder)["params"], target)
            mean = {path: mean[path] + found[path] / len(steps) for path in target}
        return _like(params, mean)

    def meta(self) -> dict | None:
        """What the run said of itself in the newest step of which that can be read, or None."""
        for step in reversed(self.latest()):
            try:
                return read_record(self._folder / str(step))["meta"]
            except Damaged:
                continue
        return None

    def _settle(self, wait_s: float | None = None) -> None:
        """Ends the save in the background: raises its failure, or lets older steps go."""
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
        """Removes all but the latest and the best; also what lies ahead, of a future given up."""
        good = [s for s in self.latest() if s <= newest and s not in self._bad]
        best = min(reversed(good), key=self._loss_of)  # the newest of equals, or where none has one
        for step in self.latest():
            if step not in (best, *self._regular(good)[-self._keep :]):
                # Under another name first: half a step must never look like one.
                gone = self._folder / f"{step}.removed"
                (self._folder / str(step)).rename(gone)
                shutil.rmtree(gone)

    def _regular(self, steps: list[int]) -> list[int]:
        """Those of the steps that count, the newest among them."""
        return [step for step in steps if step % self._every == 0 or step == steps[-1]]

    def _clear(self) -> None:
        """Removes what a killed process left half written or half removed."""
        for pattern in ("*.orbax-checkpoint-tmp*", "*.removed"):
            for path in self._folder.glob(pattern):
                shutil.rmtree(path)

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
    """Compares what was saved with what is wanted; raises ValueError that lists the differences."""
    differences = []
    for name, target in targets.items():
        wanted = {path: f"{dtype_name(x)}{list(x.shape)}" for path, x in target.items()}
        saved = {path: f"{x['dtype']}{x['shape']}" for path, x in record[name].items()}
        for path in sorted(wanted.keys() | saved.keys()):
            if path not in wanted:
                differences.append(f"{name}/{path} is saved but not wanted")
            elif path not in saved:
                differences.append(f"{name}/{path} is wanted but not saved")
            elif saved[path] != wanted[path]:
                differences.append(f"{name}/{path} is saved as {saved[path]}, not {wanted[path]}")
    if differences:
        if len(differences) > 20:
            differences[20:] = [f"and {len(differences) - 20} more"]
        raise ValueError(f"{folder} is of another model or optimizer: " + "; ".join(differences))
