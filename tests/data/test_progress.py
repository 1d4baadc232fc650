"""Long work on a text shows bytes, speed and time left; short work shows nothing."""

import io

import pytest
from rich.console import Console

from train.data import progress
from train.data.progress import Progress


class Clock:
    """A clock that stands still until a test advances it."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def work(monkeypatch, clock, seconds: int, *, terminal=False, total=100_000_000, done=0) -> str:
    """What is shown of work that does a megabyte per second."""
    output = io.StringIO()
    console = lambda **options: Console(
        file=output, force_terminal=terminal, width=100, color_system=None, **options
    )
    monkeypatch.setattr(progress, "Console", console)
    with Progress("corpus", total, done) as shown:
        for _ in range(seconds):
            clock.now += 1
            shown.add(1_000_000)
    return output.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_a_second_of_work_is_silent(monkeypatch, clock, terminal):
    assert work(monkeypatch, clock, 1, terminal=terminal) == ""


def test_without_a_terminal_there_is_a_line_every_ten_seconds(monkeypatch, clock):
    assert work(monkeypatch, clock, 25).splitlines() == [
        "corpus  2.0 MB of 100 MB  1.0 MB/s  01:38 left",
        "corpus  12.0 MB of 100 MB  1.0 MB/s  01:28 left",
        "corpus  22.0 MB of 100 MB  1.0 MB/s  01:18 left",
        "corpus  25.0 MB of 100 MB  1.0 MB/s  01:15 left",
    ]


def test_on_a_terminal_there_is_a_bar(monkeypatch, clock):
    shown = work(monkeypatch, clock, 25, terminal=True)
    assert "corpus ━━━" in shown
    assert "25.0 MB of 100 MB  1.0 MB/s  01:15 left" in shown


def test_work_of_an_earlier_run_counts_for_no_speed(monkeypatch, clock):
    shown = work(monkeypatch, clock, 2, done=90_000_000).splitlines()
    assert shown[0] == "corpus  92.0 MB of 100 MB  1.0 MB/s  00:08 left"


def test_of_unknown_size_there_is_no_time_left(monkeypatch, clock):
    assert work(monkeypatch, clock, 2, total=None).splitlines()[0] == "corpus  2.0 MB  1.0 MB/s"


def test_the_other_processes_of_a_run_are_silent(monkeypatch, clock):
    monkeypatch.setattr(progress.jax, "process_index", lambda: 1)
    assert work(monkeypatch, clock, 25) == ""


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (99_940, "99.9 kB"),
        (99_960, "100 kB"),
        (999_400, "999 kB"),
        (999_600, "1.0 MB"),
        (3_000_000_000, "3.0 GB"),
        (5e16, "50000 TB"),
    ],
)
def test_a_size_has_two_or_three_digits(count, expected):
    assert progress.size(count) == expected
