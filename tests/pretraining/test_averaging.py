"""A run whose weights are averaged from some evaluation on."""

import signal
from dataclasses import replace

import numpy as np
import pytest

import zoo
from tests import tiny_run
from train.data.batches import variable_windows
from train.optimization.averaging import NonMonotonicAveraging
from train.pretraining import pretrain as pretraining
from train.pretraining.evaluate import evaluate
from train.recipes import recipe
from train.recipes.recipe import with_config
from train.reporting.progress import Report, read_log
from zoo.checkpoints.arrays import load, read_record
from zoo.params import flatten

STEPS = 30


def pretrain(folder, **options):
    small = with_config(recipe("awd-lstm-ptb"), ["width=8", "cell_width=12", "num_layers=1"])
    run = replace(small, averaging=NonMonotonicAveraging(1), batch=4, length=70, seed=1)
    run = replace(run, steps=STEPS, epochs=None, report_every=1)
    return pretraining.pretrain(run, tiny_run.source(count=30), folder, **options)


@pytest.fixture(scope="module", autouse=True)
def few_lengths(tmp_path_factory):
    """Share one cache, and draw only two lengths, since each is compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        patch.setattr(variable_windows, "NOISE", 0.0)
        patch.setattr(variable_windows, "SHORT", 0.3)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory, few_lengths):
    """Return the folder and the metrics of a run that was not interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, pretrain(folder)


def arrays(folder, part):
    step = folder / "checkpoints" / str(STEPS)
    return load(step / part, read_record(step)[part])


def test_the_final_model_is_the_mean_of_the_weights_since_the_switch(whole):
    folder, metrics = whole
    state, last = arrays(folder, "state"), arrays(folder, "params")
    assert state["opt_state/is_on"]
    assert 0 < state["opt_state/steps"] < STEPS
    for path, array in flatten(zoo.load(folder)[1]).items():
        np.testing.assert_array_equal(array, state[f"opt_state/mean/{path}"])
        assert not np.array_equal(array, last[path])
    held_out = evaluate(folder, tiny_run.source(count=30), batch_size=4)
    assert held_out["token_loss"] > 0
    assert metrics["perplexity"] == pytest.approx(np.exp(metrics["token_loss"]))


def test_it_is_switched_on_at_the_same_step_after_a_resume(whole, tmp_path, monkeypatch):
    folder, metrics = whole
    for stop_step in (2, 14):
        request_stop = lambda report, steps, stop=stop_step: (
            signal.raise_signal(signal.SIGTERM) if steps and steps[-1][0] == stop else None
        )
        with monkeypatch.context() as patch:
            patch.setattr(Report, "steps", request_stop)
            assert pretrain(tmp_path, resume=True) == {}
    assert pretrain(tmp_path, resume=True) == metrics
    records = [read_record(path / "checkpoints" / str(STEPS)) for path in (folder, tmp_path)]
    assert records[0] == records[1]  # with a fingerprint of every array


def test_replicas_are_averaged_too(whole, tmp_path):
    _, metrics = whole
    other = pretrain(tmp_path, parallelism="pmap")
    assert other["loss"] == pytest.approx(metrics["loss"], rel=1e-4)


def test_learning_rates_follow_the_lengths_of_the_windows(whole):
    rates = [e["learning_rate"] for e in read_log(whole[0]) if e["kind"] == "train"]
    assert len(set(np.round(rates, 3))) >= 2
    assert np.mean(rates) == pytest.approx(30.0, rel=0.3)
    assert all(abs(rate * 7 / 30 - round(rate * 7 / 30)) < 1e-4 for rate in rates)
