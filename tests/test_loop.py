"""The loop keeps the devices busy: batches wait for them, and they do not wait for reports."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from tests import tiny_run
from tests.eight_devices import training_and_batches
from train import loop
from train.devices.parallelism import PARALLELISM
from train.devices.runs import RunsPlacement
from train.reporting.progress import Silence


class OnDevice:
    """A number that may only be read by jax.device_get."""

    def __array__(self, *_, **__):
        raise AssertionError("a metric is read back between reports")

    __float__ = __bool__ = __array__


class Recorder:
    """A placement and its batches, which write down what is asked of them."""

    def __init__(self):
        self.events = []

    def prefetched(self, step):
        while True:
            yield step
            step += 1

    def put(self, batch):
        self.events.append(f"put {batch}")
        return batch

    def step(self, state, batch):
        self.events.append(f"step {batch}")
        return state, {"loss": OnDevice(), "gradient_norm": OnDevice()}

    def fetch(self, pending):
        self.events.append(f"fetch {len(pending)}")
        return [{"loss": np.ones(1), "gradient_norm": np.ones(1)} for _ in pending]


@pytest.fixture
def events(tmp_path, monkeypatch):
    """What happens in ten steps with a report every five."""
    recorder = Recorder()
    stage = loop.Stage(
        out=tmp_path,
        placement=recorder,
        batches=recorder,
        last=10,
        steps=11,
        report_every=5,
        fetch_every=5,
        evaluate_every=100,
        save_every=100,
        identity={},
        evaluate=lambda *_: [],
    )
    monkeypatch.setattr(loop.jax, "device_get", recorder.fetch)
    monkeypatch.setattr(loop, "_save", lambda *_: None)
    checkpoints, signals = (
        SimpleNamespace(check=lambda: None),
        SimpleNamespace(stop=False, agree=lambda: None),
    )
    progress = loop.train(stage, loop.Progress(None, None, 0), checkpoints, Silence(), signals)
    assert progress.step == 10
    return recorder.events


def test_the_next_batch_is_placed_while_a_step_runs(events):
    for step in range(10):
        assert events.index(f"put {step}") < events.index(f"step {step}")
        following = events[events.index(f"step {step}") + 1 :]
        assert following[0] == f"put {step + 1}"  # before anything waits for the step


def test_metrics_are_read_back_only_for_reports(events):
    assert [event for event in events if event.startswith("fetch")] == ["fetch 5", "fetch 5"]


@pytest.mark.parametrize("name", ["mesh", "pmap", "runs"])
def test_a_step_takes_the_memory_of_the_state_before(name, tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    training, batches, _ = training_and_batches(tiny_run.recipe(dropout=0.0))
    if name == "runs":
        stacked = jax.tree.map(lambda x: x[None], training.init())
        placement = RunsPlacement(replace(training, init=lambda: stacked), [0])
        state = placement.begin(stacked)
        batch = placement.put({key: x[None] for key, x in batches(0).items()})
    else:
        placement = PARALLELISM[name](training, (-1, 1, 1))
        state, batch = placement.init(), placement.put(batches(0))
    placement.step(state, batch)
    arrays = jax.tree.leaves((state.params, state.opt_state))
    assert all(x.is_deleted() for x in arrays)
