"""Reports of a run: a progress bar, log.jsonl, TensorBoard events and learning curves.

A line of the log is a JSON object, {"kind": "train" or "held_out", "step": 20, "loss": 5.1, ...},
where "step" is the number of completed steps. Lines are written immediately. A resumed run first
deletes the lines of the steps that it will repeat, so the final log equals that of an uninterrupted
run, except for the fields in `TIMES`.
"""

import contextlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from tensorboardX import SummaryWriter

from train.devices import accelerators
from train.reporting import curves

T = TypeVar("T")
TIMES = ("time", "tokens_per_second", "share_of_peak")
PLAIN_SECONDS = 10.0  # between lines of progress, which replace the bar outside of a terminal


class Report:
    """The reports of one run, as a context manager around the training loop.

    All metrics are Python floats, so a report never waits for a device.

    Args:
      folder: The folder of the run, for log.jsonl, events/ and curves.png.
      total_steps: Total number of steps of the run.
      tokens_per_step: Tokens per step, over all devices.
      flops_per_step: FLOP per step, over all devices, or None if unknown.
      first_step: Number of steps completed before this start: 0, or the step to resume from. Lines
        of the log up to this step are kept, so evaluate a step before saving its checkpoint.
      baselines: Losses to compare with, by name, such as {"uniform, ln V": 9.01, "unigram": 6.2}.
      loss: The metric of the curves and of the baselines.
      unit: The unit of the losses.
      metric: The held-out metric that the curves show too, such as "accuracy"; "": none.
      counted: What `tokens_per_step` counts.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        total_steps: int,
        tokens_per_step: int,
        flops_per_step: float | None = None,
        first_step: int = 0,
        baselines: Mapping[str, float] | None = None,
        loss: str = "loss",
        unit: str = "nats per token",
        metric: str = "",
        counted: str = "tokens",
    ):
        self.folder = Path(folder)
        self.total_steps = total_steps
        self.tokens_per_step = tokens_per_step
        self.first_step = first_step
        self.baselines = dict(baselines or {})
        self.loss, self.unit, self.metric, self.counted = loss, unit, metric, counted
        self.folder.mkdir(parents=True, exist_ok=True)
        peak = accelerators.peak(jax.devices())
        self._share_per_step = flops_per_step / peak if flops_per_step and peak else None
        # In a notebook too, lines go to stdout, which can be redirected.
        self._console = Console(highlight=False, force_jupyter=False)
        self._progress = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[status]}"),
            console=self._console,
            disable=not self._console.is_terminal,
            refresh_per_second=4,
            expand=True,
        )
        self._task = self._progress.add_task("", total=total_steps, completed=first_step, status="")
        # (step, seconds) of the first and of the last report.
        self._start: tuple[int, float] | None = None
        self._last: tuple[int, float] | None = None
        self._plain_at = -math.inf

    def __enter__(self):
        self._log = _open_log(self.folder, self.first_step)
        self._events = SummaryWriter(
            str(self.folder / "events"),
            purge_step=self.first_step + 1 if self.first_step else 0,
            filename_suffix=f".{self.first_step}",  # unique within a second
            flush_secs=10,
        )
        self._progress.start()
        return self

    def __exit__(self, *error):
        self._progress.stop()
        self._events.close()
        self._log.close()
        events, name = read_log(self.folder), self.folder.resolve().name
        picture = self.folder / "curves.png"
        curves.draw(events, self.baselines, picture, name, self.loss, self.unit, self.metric)

    def line(self, text: str):
        """Print a line of text, above the progress bar if it is shown."""
        self._console.print(text, markup=False, emoji=False, soft_wrap=True)

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Report one training step; see `steps`."""
        self.steps([(step, metrics)])

    def steps(self, steps: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Report training steps: "loss", "learning_rate" and any other metrics of each.

        Steps that are reported at once share one speed, measured since the previous report.
        """
        if not steps:
            return
        step, latest = steps[-1]
        speeds = self._speeds(step)
        for number, metrics in steps:
            self._record("train", number, {**metrics, **speeds})
        status = _status({**latest, **speeds}, self._seconds_left(step), self.counted)
        self._progress.update(self._task, completed=step, status=status)
        if self._is_due() or step == self.total_steps:
            self._plain_line(f"step {step:,} of {self.total_steps:,}  {status}")

    def evaluating(self, batches: Sequence[T]) -> Iterator[T]:
        """Yield the batches of an evaluation, and show how many of them are done."""
        self._plain_at = time.monotonic()
        for done, batch in enumerate(batches):
            status = f"evaluating: {done:,} of {len(batches):,} batches"
            self._progress.update(self._task, status=status)
            if self._is_due():
                self._plain_line(status)
            yield batch

    def evaluation(self, step: int, metrics: Mapping[str, float], what: str = "") -> None:
        """Report the held-out metrics at a step; the time of the evaluation counts in no speed.

        Args:
          step: The step.
          metrics: The metrics.
          what: What was evaluated, such as "on 3,200 of 90,000 tokens".
        """
        self._record("held_out", step, metrics)
        # A checkpoint of this step may follow; it must not get ahead of the log.
        os.fsync(self._log.fileno())
        shown = "  ".join(
            f"{name.replace('_', ' ')} {value:.4g}" for name, value in metrics.items()
        )
        self.line(f"step {step:,} held out:  {shown}" + (f"  ({what})" if what else ""))
        if self._last is not None:
            self._last = step, time.monotonic()

    def _is_due(self):
        return time.monotonic() - self._plain_at >= PLAIN_SECONDS

    def _plain_line(self, text):
        """Print a line where there is no terminal to draw a bar in."""
        if self._progress.disable:
            self._plain_at = time.monotonic()
            self.line(text)

    def _speeds(self, step):
        """Return tokens per second and the share of peak FLOP/s since the last report, if any."""
        now = time.monotonic()
        previous, self._last = self._last, (step, now)
        if previous is None:
            self._start = self._last
        if previous is None or step <= previous[0] or now <= previous[1]:
            return {}
        steps_per_second = (step - previous[0]) / (now - previous[1])
        speeds = {"tokens_per_second": steps_per_second * self.tokens_per_step}
        if self._share_per_step is not None:
            speeds["share_of_peak"] = steps_per_second * self._share_per_step
        return speeds

    def _seconds_left(self, step):
        start_step, start = self._start or (step, 0.0)
        if not start_step < step < self.total_steps:
            return None
        return (time.monotonic() - start) / (step - start_step) * (self.total_steps - step)

    def _record(self, kind, step, metrics):
        finite = {k: float(v) if math.isfinite(v) else None for k, v in metrics.items()}
        event = {"kind": kind, "step": step, **finite, "time": round(time.time(), 3)}
        self._log.write(json.dumps(event) + "\n")
        self._log.flush()
        for name, value in metrics.items():
            self._events.add_scalar(f"{kind}/{name}", value, step)


class Silence:
    """Takes the place of a Report in all processes of a run except the first; it does nothing."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def line(self, text: str) -> None:
        pass

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        pass

    def steps(self, steps: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        pass

    def evaluating(self, batches: Sequence[T]) -> Iterator[T]:
        return iter(batches)

    def evaluation(self, step: int, metrics: Mapping[str, float], what: str = "") -> None:
        pass


def read_log(folder: str | os.PathLike) -> list[dict]:
    """Return the events of a run's log.jsonl, oldest first; truncated lines are skipped."""
    path = Path(folder) / "log.jsonl"
    if not path.exists():
        return []
    events = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            events.append(json.loads(line))
    return events


def _open_log(folder, first_step):
    """Open the log for appending, without the events after `first_step`; empty if it is 0."""
    kept = [event for event in read_log(folder) if 0 < first_step >= event["step"]]
    draft = folder / "log.jsonl.new"
    draft.write_text("".join(json.dumps(event) + "\n" for event in kept), encoding="utf-8")
    draft.replace(folder / "log.jsonl")
    return open(folder / "log.jsonl", "a", encoding="utf-8")


def _status(metrics, seconds_left, counted="tokens"):
    parts = [f"loss {metrics['loss']:.3f}", f"lr {metrics['learning_rate']:.1e}"]
    if "tokens_per_second" in metrics:
        parts.append(f"{metrics['tokens_per_second']:,.0f} {counted}/s")
    if "share_of_peak" in metrics:
        parts.append(f"{metrics['share_of_peak']:.0%} of peak")
    if seconds_left is not None:
        hours, seconds = divmod(round(seconds_left), 3600)
        clock = f"{hours}:{seconds // 60:02}:{seconds % 60:02}"
        parts.append(f"{clock.removeprefix('0:')} left")
    return "  ".join(parts)
