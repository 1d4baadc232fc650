"""Progress through the bytes of a text: a bar on a terminal, else a line every ten seconds."""

import time
from typing import Self

import jax
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

QUIET_SECONDS = 2.0  # what takes less is not shown
PLAIN_SECONDS = 10.0  # between two lines where there is no terminal to draw a bar in
UNITS = ("bytes", "kB", "MB", "GB", "TB")


class Progress:
    """A context manager around work on a text; only the first process of a run shows it.

    Args:
      label: What the work makes, such as "corpus".
      total: Bytes of the whole text, or None if unknown: then the time left is not shown.
      done: Bytes that an earlier, interrupted run has finished; they count for no speed.
    """

    def __init__(self, label: str, total: int | None, done: int = 0):
        self.label, self.total, self.done, self._first = label, total, done, done
        # Not where a command prints its results.
        # In a notebook too, lines go to stderr, which can be redirected.
        self._console = Console(stderr=True, highlight=False, force_jupyter=False)
        self._bar = Bar(
            TextColumn(label),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[status]}"),
            console=self._console,
            refresh_per_second=4,
            expand=True,
        )
        self._task = self._bar.add_task("", total=total, completed=done, status="")
        self._shown_at: float | None = None  # when the last line was printed, or the bar updated

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        return self

    def __exit__(self, *error: object) -> None:
        if self._shown_at is not None:
            self._show()
            if self._console.is_terminal:
                self._bar.stop()

    def add(self, count: int) -> None:
        """Count some more bytes as done, and show them if it is time to."""
        self.done += count
        now = time.monotonic()
        if self._shown_at is None:
            is_due = now - self._start >= QUIET_SECONDS and jax.process_index() == 0
        else:
            is_due = self._console.is_terminal or now - self._shown_at >= PLAIN_SECONDS
        if is_due:
            self._show()

    def _show(self) -> None:
        status = describe(self.done, self.total, self._first, time.monotonic() - self._start)
        if self._console.is_terminal:
            if self._shown_at is None:
                self._bar.start()
            self._bar.update(self._task, completed=self.done, status=status)
        else:
            self._console.print(f"{self.label}  {status}", markup=False, soft_wrap=True)
        self._shown_at = time.monotonic()


def describe(done: int, total: int | None, first: int, seconds: float) -> str:
    """Return bytes, speed and time left in words.

    Args:
      done: Bytes that are done.
      total: Bytes of the whole text, or None if unknown.
      first: Bytes that were done at the start.
      seconds: Seconds since the start.
    """
    speed = (done - first) / seconds if seconds else 0.0
    parts = [size(done) if total is None else f"{size(done)} of {size(total)}"]
    parts.append(f"{size(speed)}/s")
    if total is not None and speed and done < total:
        hours, rest = divmod(round((total - done) / speed), 3600)
        clock = f"{hours}:{rest // 60:02}:{rest % 60:02}"
        parts.append(f"{clock.removeprefix('0:')} left")
    return "  ".join(parts)


def size(count: float) -> str:
    """Return a number of bytes in the unit that needs the fewest digits, such as "3.1 MB"."""
    power = 0
    while count >= 999.5 and power < len(UNITS) - 1:
        count, power = count / 1000, power + 1
    digits = 0 if power == 0 or count >= 99.95 else 1
    return f"{count:.{digits}f} {UNITS[power]}"
