"""What a run shows and leaves behind: a bar, log.jsonl, TensorBoard events, the curves.

A line of the log is a JSON object, {"kind": "train" or "held_out", "step": 20, "loss": 5.1, ...},
where step counts the steps made. It is written as it happens. A resumed run first strikes out
what it will do again, so the finished log is that of an uninterrupted run, except for `TIMES`.
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
PLAIN_SECONDS = 10.0  # between two lines of progress where there is no terminal to draw a bar in


class Report:
    """The account of one run, as a context manager around its loop.

    It never reads a device: the caller hands it floats already fetched, every few steps.

    Args:
      folder: the run's; log.jsonl, events/ and curves.png go there.
      total_steps: steps the run has in all.
      tokens_per_step: tokens of one step, over all devices.
      flops_per_step: FLOP of one step, over all devices, or None if unknown.
      first_step: steps made before this start: 0, or the step resumed from. The log keeps what it
        says of that step and of those before, so a step is best evaluated before it is saved.
      baselines: losses to compare with, by name, such as {"uniform, ln V": 9.01, "unigram": 6.2}.
      loss: The metric that the curves show, which is the one that the baselines are values of.
      unit: The unit of the losses.
      metric: The held-out metric that the curves show too, such as "accuracy"; "": none.
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
    ):
        self.folder = Path(folder)
        self.total_steps = total_steps
        self.tokens_per_step = tokens_per_step
        self.first_step = first_step
        self.baselines = dict(baselines or {})
        self.loss, self.unit, self.metric = loss, unit, metric
        self.folder.mkdir(parents=True, exist_ok=True)
        peak = accelerators.peak(jax.devices())
        self._share_per_step = flops_per_step / peak if flops_per_step and peak else None
        self._console = Console(highlight=False)
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
        # (step, seconds) of the first and of the latest report.
        self._start: tuple[int, float] | None = None
        self._last: tuple[int, float] | None = None
        self._plain_at = -math.inf

    def __enter__(self):
        self._log = _begin_log(self.folder, self.first_step)
        self._events = SummaryWriter(
            str(self.folder / "events"),
            purge_step=self.first_step + 1 if self.first_step else 0,
            filename_suffix=f".{self.first_step}",  # two starts within a second are two files
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
        """Print a line, above the bar if there is one."""
        self._console.print(text, markup=False, emoji=False, soft_wrap=True)

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Report one training step; see `steps`."""
        self.steps([(step, metrics)])

    def steps(self, steps: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Report training steps: "loss", "learning_rate" and any other metrics of each.

        The metrics of several steps may arrive at once; all of them get the speed since the report
        before.
        """
        if not steps:
            return
        step, latest = steps[-1]
        speeds = self._speeds(step)
        for number, metrics in steps:
            self._record("train", number, {**metrics, **speeds})
        status = _status({**latest, **speeds}, self._seconds_left(step))
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
        os.fsync(self._log.fileno())  # the step may be saved now, and then the log must have it
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
        """Return tokens per second and share of the peak, unless XLA has compiled since."""
        now = time.monotonic()
        since, self._last = self._last, (step, now)
        if since is None:
            self._start = self._last
        if since is None or step <= since[0] or now <= since[1]:
            return {}
        steps_per_second = (step - since[0]) / (now - since[1])
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
    """Return the events of a run's log.jsonl, oldest first; a line torn by a crash is left out."""
    path = Path(folder) / "log.jsonl"
    if not path.exists():
        return []
    events = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            events.append(json.loads(line))
    return events


def _begin_log(folder, first_step):
    """Open the log for more, without what this start will report again. From step 0 that is all."""
    kept = [event for event in read_log(folder) if 0 < first_step >= event["step"]]
    rewritten = folder / "log.jsonl.new"
    rewritten.write_text("".join(json.dumps(event) + "\n" for event in kept), encoding="utf-8")
    rewritten.replace(folder / "log.jsonl")
    return open(folder / "log.jsonl", "a", encoding="utf-8")


def _status(metrics, seconds_left):
    parts = [f"loss {metrics['loss']:.3f}", f"learning rate {metrics['learning_rate']:.1e}"]
    if "tokens_per_second" in metrics:
        parts.append(f"{metrics['tokens_per_second']:,.0f} tokens/s")
    if "share_of_peak" in metrics:
        parts.append(f"{metrics['share_of_peak']:.0%} of peak")
    if seconds_left is not None:
        hours, seconds = divmod(round(seconds_left), 3600)
        clock = f"{hours}:{seconds // 60:02}:{seconds % 60:02}"
        parts.append(f"{clock.removeprefix('0:')} left")
    return "  ".join(parts)
