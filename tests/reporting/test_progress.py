"""What a run shows and leaves behind, read back with other programs than those that wrote it."""

import io
import json
import math
import re
import shlex
import struct
import subprocess
import sys
import time
import types

import jax
import numpy as np
import pytest
from rich.console import Console

from train.devices import accelerators
from train.reporting import curves, manifest, progress
from train.reporting.progress import Report, Silence, read_log

BASELINES = {"uniform, ln V": math.log(8192), "unigram": 6.6}


def _run(folder, first=0, last=40, total=40):
    """A run reports every second step and evaluates every tenth."""
    with Report(folder, total, 128, first_step=first, baselines=BASELINES) as this:
        if not first:
            this.evaluation(0, {"loss": 9.0, "perplexity": math.exp(9.0)})
        for step in range(first + 1, last + 1):
            if step % 2 == 0:
                this.step(step, {"loss": 9 / step, "learning_rate": 1e-3 * step, "norm": 1.0})
            if step % 10 == 0:
                this.evaluation(step, {"loss": 10 / step, "perplexity": math.exp(10 / step)})


def _timeless(folder):
    return [
        {name: value for name, value in event.items() if name not in progress.TIMES}
        for event in map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    ]


def test_the_log_has_one_json_object_an_event(tmp_path):
    _run(tmp_path)
    events = _timeless(tmp_path)
    assert len(events) == 1 + 20 + 4
    assert events[0] == {"kind": "held_out", "step": 0, "loss": 9.0, "perplexity": math.exp(9.0)}
    assert events[1] == {
        "kind": "train",
        "step": 2,
        "loss": 4.5,
        "learning_rate": 0.002,
        "norm": 1.0,
    }
    assert [e["step"] for e in events if e["kind"] == "held_out"] == [0, 10, 20, 30, 40]


def test_the_log_is_on_disk_while_the_run_goes_on(tmp_path):
    with Report(tmp_path, 10, 128) as this:
        this.step(1, {"loss": 5.0, "learning_rate": 1e-3})
        assert _timeless(tmp_path) == [
            {"kind": "train", "step": 1, "loss": 5.0, "learning_rate": 1e-3}
        ]


@pytest.mark.parametrize("resumed_from", [20, 25])
def test_a_resumed_log_is_that_of_an_uninterrupted_run(tmp_path, resumed_from):
    _run(tmp_path / "whole")
    _run(tmp_path / "resumed", last=33)
    with open(tmp_path / "resumed" / "log.jsonl", "a") as log:
        log.write('{"kind": "train", "step": 2')  # torn: as it stands it is of a step to keep
    _run(tmp_path / "resumed", first=resumed_from)
    assert _timeless(tmp_path / "resumed") == _timeless(tmp_path / "whole")


def test_a_run_that_starts_again_at_step_0_starts_a_new_log(tmp_path):
    _run(tmp_path, last=15)
    _run(tmp_path)
    assert [event["step"] for event in _timeless(tmp_path)].count(0) == 1


def test_what_is_not_finite_is_null_and_still_drawn(tmp_path):
    with Report(tmp_path, 2, 128) as this:
        this.step(1, {"loss": math.nan, "learning_rate": 1e-3})
        this.step(2, {"loss": math.inf, "learning_rate": 1e-3})
    assert [event["loss"] for event in read_log(tmp_path)] == [None, None]
    assert (tmp_path / "curves.png").exists()


def _scalars(folder):
    """{tag: [(step, value)]} of the events, each read from its TFRecord with nothing but struct."""
    from tensorboardX.proto.event_pb2 import Event

    scalars, paths = {}, sorted((folder / "events").iterdir(), key=lambda p: int(p.suffix[1:]))
    for data in (path.read_bytes() for path in paths):
        at = 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += 12 + length + 4
            if event.session_log.status:  # a restart: reports of this step and later are void
                scalars = {t: [x for x in xs if x[0] < event.step] for t, xs in scalars.items()}
            for value in event.summary.value:
                scalars.setdefault(value.tag, []).append((event.step, value.simple_value))
    return scalars


def test_tensorboard_events_say_what_the_log_says_also_after_a_resume(tmp_path):
    _run(tmp_path, last=33)
    _run(tmp_path, first=20)
    scalars = _scalars(tmp_path)
    expected = [(step, np.float32(9 / step)) for step in range(2, 41, 2)]
    assert scalars["train/loss"] == expected
    assert [step for step, _ in scalars["held_out/perplexity"]] == [0, 10, 20, 30, 40]


def test_tensorboard_itself_reads_the_events(tmp_path):
    pytest.importorskip("tensorboard")
    _run(tmp_path, last=33)
    _run(tmp_path, first=20)
    code = (
        "from tensorboard.backend.event_processing.event_accumulator import EventAccumulator\n"
        f"events = EventAccumulator({str(tmp_path / 'events')!r}).Reload()\n"
        "print([event.step for event in events.Scalars('train/loss')])\n"
    )  # in a process of its own, for TensorBoard warns as it is imported
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(list(range(2, 41, 2)))


def _png_size(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24]), len(data)


def test_the_picture_of_the_curves_is_a_small_png(tmp_path):
    _run(tmp_path)
    size, num_bytes = _png_size(tmp_path / "curves.png")
    assert size == (960, 720)
    assert 10_000 < num_bytes < 200_000


def test_a_run_without_events_still_has_its_picture(tmp_path):
    with Report(tmp_path, 10, 128):
        pass
    assert _png_size(tmp_path / "curves.png")[0] == (960, 720)


def _drawn(events, **options):
    """The axes of the curves of some events, kept from matplotlib as they are saved."""
    kept = []
    save = lambda figure, path, **options: kept.append(figure)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", save)
        curves.draw(events, BASELINES, "unused.png", **options)
    return kept[0]


def test_curves_show_the_loss_that_the_baselines_are_values_of():
    events = [
        {"kind": kind, "step": step, "loss": 9.0, "masked_loss": 7.0, "learning_rate": 1e-3}
        for step in (1, 2)
        for kind in ("train", "held_out")
    ]
    figure = _drawn(events, name="bert-tiny", loss="masked_loss")
    axes = figure.axes[0]
    assert axes.get_ylabel() == "masked loss (nats per token)"
    assert figure.get_suptitle() == "bert-tiny: masked loss in training and on held-out text"
    assert all(set(line.get_ydata()) == {7.0} for line in axes.lines[:2])


def test_a_single_point_has_a_marker():
    figure = _drawn([{"kind": "train", "step": 2, "loss": 9.0, "learning_rate": 1e-3}], unit="")
    loss, rate = (axes.lines[0] for axes in figure.axes)
    assert loss.get_marker() == rate.get_marker() == "o"
    assert figure.axes[0].get_ylabel() == "loss"


def test_smoothing_is_the_mean_of_equally_many_neighbours():
    values = np.random.default_rng(0).normal(size=50)
    values[[3, 20]] = np.nan
    expected = []
    for at in range(50):
        reach = min(4, at, 49 - at)
        expected.append(np.nanmean(values[at - reach : at + reach + 1]))
    np.testing.assert_allclose(curves._smooth(values, 4), expected, rtol=1e-9)


def test_without_a_terminal_progress_is_plain_lines_now_and_then(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    long = "[bold] is no markup, and a line longer than the screen is left as it is"
    with Report(tmp_path, 1000, 128) as this:
        this.line(long)
        for step in range(1, 1001):
            this.step(step, {"loss": 3.25, "learning_rate": 1e-3})
        this.evaluation(1000, {"loss": 3.5, "bits_per_byte": 1.25})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == long
    assert lines[1] == "step 1 of 1,000  loss 3.250  lr 1.0e-03"
    assert re.fullmatch(r"step 1,000 of 1,000  loss 3\.250  lr 1\.0e-03  [\d,]+ tokens/s", lines[2])
    assert lines[3:] == ["step 1,000 held out:  loss 3.5  bits per byte 1.25"]


def test_a_terminal_has_one_bar_with_the_status_beside_it(tmp_path, monkeypatch):
    screen = io.StringIO()
    terminal = lambda **options: Console(file=screen, force_terminal=True, width=100, **options)
    monkeypatch.setattr(progress, "Console", terminal)
    monkeypatch.setattr(accelerators, "peak", lambda devices: 1e12)
    with Report(tmp_path, 4, 1000, flops_per_step=1e9) as this:
        for step in range(1, 4):
            time.sleep(0.02)
            this.step(step, {"loss": 3.25, "learning_rate": 1e-3})
    last = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", screen.getvalue()).split("\r")[-1]
    assert re.search(r"3/4 .*loss 3\.250  lr 1\.0e-03  [\d,]+ tokens/s  \d+% of peak", last)
    assert last.rstrip().endswith("left")


def _clock(monkeypatch):
    now = types.SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now.seconds)
    return now


def test_speeds_leave_out_compilation_and_evaluation(tmp_path, monkeypatch):
    monkeypatch.setattr(accelerators, "peak", lambda devices: 1e12)
    monkeypatch.setattr(progress.Progress, "start", lambda self: None)
    now = _clock(monkeypatch)
    with Report(tmp_path, 100, 1000, flops_per_step=1e11, first_step=40) as this:
        for step, seconds in ((42, 60), (44, 61), (46, 62)):
            now.seconds = seconds
            this.step(step, {"loss": 1.0, "learning_rate": 1.0})
        now.seconds = 90
        this.evaluation(46, {"loss": 1.0})
        now.seconds = 92
        this.step(48, {"loss": 1.0, "learning_rate": 1.0})
    train = [event for event in read_log(tmp_path) if event["kind"] == "train"]
    assert [event.get("tokens_per_second") for event in train] == [None, 2000, 2000, 1000]
    assert [event.get("share_of_peak") for event in train] == [None, 0.2, 0.2, 0.1]


@pytest.mark.parametrize(
    ("seconds", "shown"), [(7, "00:07 left"), (754.6, "12:35 left"), (93784, "26:03:04 left")]
)
def test_time_left_is_a_clock(seconds, shown):
    assert progress._status({"loss": 1.0, "learning_rate": 1.0}, seconds).endswith(f"  {shown}")


def test_ten_thousand_steps_cost_little(tmp_path):
    with Report(tmp_path, 10_000, 128) as this:
        start = time.process_time()
        for step in range(1, 10_001):
            this.step(step, {"loss": 3.0, "learning_rate": 1e-3, "norm": 1.0})
        spent = time.process_time() - start
    assert spent < 10, "a report should cost well under a millisecond"


def test_the_curves_are_drawn_when_a_run_is_stopped(tmp_path):
    def stopped():
        with Report(tmp_path, 10, 128) as this:
            this.step(1, {"loss": 3.0, "learning_rate": 1e-3})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert (tmp_path / "curves.png").exists()
    assert len(read_log(tmp_path)) == 1


def test_silence_takes_every_call_of_a_report(capsys):
    calls = {name for name in vars(Report) if not name.startswith("_") or name == "__enter__"}
    assert calls <= set(vars(Silence))
    with Silence() as this:
        this.line("x")
        this.step(1, {"loss": 3.0, "learning_rate": 1e-3})
        this.evaluation(1, {"loss": 3.0})
    assert capsys.readouterr().out == ""


# Accelerators


@pytest.mark.parametrize(
    ("kind", "teraflops"),
    [
        ("NVIDIA H200", 989),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("Tesla V100-SXM2-16GB", 125),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("TPU v3", 61.5),
        ("TPU v4", 275),
        ("TPU v5 lite", 197),
        ("TPU v5", 459),
        ("TPU v6 lite", 918),
    ],
)
def test_the_peak_of_two_devices_is_twice_one(kind, teraflops):
    devices = [types.SimpleNamespace(device_kind=kind)] * 2
    assert accelerators.peak(devices) == pytest.approx(2e12 * teraflops)


@pytest.mark.parametrize("kind", ["cpu", "NVIDIA H200 MIG 1g.18gb", "NVIDIA L40", "TPU v50"])
def test_unknown_devices_have_no_peak(kind):
    assert accelerators.peak([types.SimpleNamespace(device_kind=kind)]) is None


# The manifest


def test_a_manifest_tells_how_to_run_again(tmp_path):
    written = manifest.write_manifest(tmp_path / "run", recipe={"steps": 40}, seed=7, data="a1b2")
    assert json.loads((tmp_path / "run" / "manifest.json").read_text()) == written
    assert (written["recipe"], written["seed"], written["data"]) == ({"steps": 40}, 7, "a1b2")
    assert written["versions"]["jax"] == jax.__version__
    assert written["devices"]["count"] == jax.device_count()
    assert shlex.split(written["command"]) == sys.orig_argv


def test_the_revision_is_that_of_the_repository_which_tracks_the_code(tmp_path, monkeypatch):
    code = tmp_path / "manifest.py"
    code.write_text("1")
    monkeypatch.setattr(manifest, "__file__", str(code))
    assert manifest._revision() is None

    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(
            ["git", "-C", tmp_path, *identity, *words], capture_output=True, check=True
        )
        return done.stdout.decode().strip()

    git("init")
    assert manifest._revision() is None
    git("add", "manifest.py")
    git("commit", "-m", "x")
    revision = git("rev-parse", "HEAD")
    assert manifest._revision() == revision
    code.write_text("2")
    assert manifest._revision() == f"{revision}-dirty"
