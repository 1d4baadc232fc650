"""A run that is killed and resumed equals one that was never interrupted."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import optax
import pytest

import zoo
from tests import tiny_run
from tests.eight_devices import Compilations
from train.loop import NotFinite
from train.pretraining import pretrain as pretraining
from train.recipes.rnn import RNNRecipe
from train.reporting.progress import TIMES, Report, read_log
from zoo.checkpoints import model_folder
from zoo.checkpoints.arrays import load, read_record
from zoo.models import rnn
from zoo.params import flatten

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Share one cache: all tests have the same corpus."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def start(folder, *flags):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.tiny_run", str(folder), *flags],
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return output


def wait_for_steps(process, folder, count):
    """Wait until the process has reported `count` more steps."""
    log = lambda: (folder / "log.jsonl").stat().st_mtime if (folder / "log.jsonl").exists() else 0
    begun = log()
    while process.poll() is None and log() == begun:
        time.sleep(0.01)
    steps = lambda: [event["step"] for event in read_log(folder) if event["kind"] == "train"]
    first = max(steps(), default=0)
    while process.poll() is None and max(steps(), default=0) < first + count:
        time.sleep(0.01)


def events_without_times(folder):
    return [{k: v for k, v in e.items() if k not in TIMES} for e in read_log(folder)]


def assert_same_run(folder, expected_folder):
    params, expected_params = (
        flatten(model_folder.read(folder)),
        flatten(model_folder.read(expected_folder)),
    )
    assert params.keys() == expected_params.keys()
    for path, array in params.items():
        np.testing.assert_array_equal(array, expected_params[path], err_msg=path)
    assert events_without_times(folder) == events_without_times(expected_folder)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    os.environ["ZOO_CACHE"] = str(tmp_path_factory.getbasetemp() / "cache")
    finish(start(folder))
    return folder


def test_a_run_killed_at_random_moments_ends_like_an_uninterrupted_one(uninterrupted, tmp_path):
    folder, moments, killed = tmp_path / "run", random.Random(), 0
    for _ in range(2):
        process = start(folder, "--resume")
        wait_for_steps(process, folder, moments.randrange(1, 20))
        time.sleep(moments.random() / 20)
        process.kill()
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
    assert killed == 2
    finish(start(folder, "--resume"))
    assert_same_run(folder, uninterrupted)


def test_a_run_stopped_by_a_signal_saves_first_and_resumes_from_there(uninterrupted, tmp_path):
    folder = tmp_path / "run"
    process = start(folder)
    wait_for_steps(process, folder, 20)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=300)
    step = model_folder.steps(folder)[-1]
    assert (process.returncode, errors.count("saving, then stopping")) == (0, 1)
    assert f"stopped and saved at step {step}; continue with --resume" in output
    assert 20 <= step < 120
    assert f"resuming from step {step}" in finish(start(folder, "--resume"))
    assert_same_run(folder, uninterrupted)


def pretrain(folder, *, resume=False, seed=0, parallelism="mesh", **fields):
    return pretraining.pretrain(
        tiny_run.recipe(**fields),
        tiny_run.source(seed),
        folder,
        resume=resume,
        parallelism=parallelism,
    )


def contents(folder):
    return {p: p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """Return a finished run of 20 steps, and its metrics."""
    os.environ["ZOO_CACHE"] = str(tmp_path_factory.getbasetemp() / "cache")
    folder = tmp_path_factory.mktemp("short") / "run"
    return folder, pretrain(folder, resume=True)  # the folder does not exist, so it starts a run


def test_resuming_an_empty_folder_starts_a_run(finished_run):
    folder, metrics = finished_run
    assert model_folder.steps(folder)[-1] == 20
    assert metrics["loss"] < np.log(64)
    assert metrics.keys() == {"loss", "token_accuracy", "perplexity", "bits_per_byte"}
    np.testing.assert_allclose(metrics["perplexity"], np.exp(metrics["loss"]), rtol=1e-6)


def test_resuming_a_finished_run_returns_its_metrics_again(finished_run):
    folder, metrics = finished_run
    assert pretrain(folder, resume=True) == metrics


def test_a_folder_with_a_run_is_not_overwritten(finished_run):
    with pytest.raises(FileExistsError, match=r"holds a run at step 20: use --resume"):
        pretrain(finished_run[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 21}, "steps was 20, is 21"),
        ({"name": "another"}, "name was 'tiny', is 'another'"),
        ({"seed": 1}, "data was '"),
        ({"dtype": "bfloat16"}, "dtype was 'float32', is 'bfloat16'"),
        ({"dropout": 0.0}, "config was {"),
    ],
)
def test_another_run_is_not_continued(change, message, finished_run):
    before = contents(finished_run[0])
    with pytest.raises(ValueError, match="belongs to another run: ") as caught:
        pretrain(finished_run[0], resume=True, **change)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert contents(finished_run[0]) == before


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_step(tmp_path):
    explodes = lambda steps: lambda step: np.float32(1e-2) + np.float32(1e30) * (step == 12)
    with pytest.raises(NotFinite, match=r"^step 14 has loss nan .* the last saved step is 10"):
        pretrain(tmp_path, schedule=explodes)
    assert model_folder.steps(tmp_path) == [5, 10]
    assert all(np.isfinite(x).all() for x in flatten(model_folder.read(tmp_path)).values())
    batch = np.load(tmp_path / "not_finite_batch_13.npz")
    assert batch["tokens"].shape == (8, 17)
    assert max(event["step"] for event in read_log(tmp_path)) <= 10


def test_step_and_evaluation_are_compiled_once_in_a_run(tmp_path):
    with Compilations() as compilations:
        pretrain(tmp_path / "run", schedule=lambda steps: optax.linear_schedule(1, 0, 9))
    assert compilations.of("step") == 1
    assert compilations.of("evaluate") == 1


def test_under_pmap_nothing_else_is_compiled(tmp_path):
    with Compilations() as compilations:
        pretrain(tmp_path / "run", parallelism="pmap")
    assert compilations.of("_fun") == 3  # to replicate the state, to step, to evaluate


def stop_and_resume(folder, monkeypatch, stop_step, **fields):
    """Stop a run at a step with a signal, and resume it."""
    request_stop = lambda report, steps: (
        signal.raise_signal(signal.SIGTERM) if steps and steps[-1][0] == stop_step else None
    )
    with monkeypatch.context() as patch:
        patch.setattr(Report, "steps", request_stop)
        assert pretrain(folder, report_every=stop_step, **fields) == {}
    assert model_folder.steps(folder)[-1] == stop_step
    return pretrain(folder, resume=True, **fields)


def test_a_run_may_end_with_the_average_of_its_last_checkpoints(tmp_path, monkeypatch):
    metrics = stop_and_resume(tmp_path, monkeypatch, 12, average=3)
    # The checkpoint that was saved because the run was stopped is not averaged.
    steps = [tmp_path / "checkpoints" / number for number in ("10", "15", "20")]
    saved = [load(step / "params", read_record(step)["params"]) for step in steps]
    mean = flatten(zoo.load(tmp_path)[1])
    for path, array in mean.items():
        expected = np.mean([params[path] for params in saved], 0)
        np.testing.assert_allclose(array, expected, rtol=1e-6, atol=1e-7)
    evaluations = [event for event in read_log(tmp_path) if event["kind"] == "held_out"]
    assert evaluations[-1]["loss"] == metrics["loss"] != evaluations[-2]["loss"]


class RecurrentWords(RNNRecipe):
    """A recurrent model on whole words."""

    def train_tokenizer(self, texts):
        return tiny_run.tokenizer()


def test_a_carried_state_is_restored_on_resume(tmp_path, monkeypatch):
    config = rnn.Config(
        vocab_size=64, max_length=32, num_layers=1, width=24, dropout=0.1, embed_width=16
    )
    fields = {"architecture": "rnn", "config": config, "family": RecurrentWords}
    fields |= {"undecayed": (r"bias$",), "save_every": 10}
    unstopped, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert pretrain(unstopped, **fields) == stop_and_resume(stopped, monkeypatch, 7, **fields)
    record, stopped_record = (
        read_record(folder / "checkpoints" / "20") for folder in (unstopped, stopped)
    )
    carry_paths = [path for path in record["state"] if path.startswith("carry")]
    assert len(carry_paths) == 2  # the two states of an LSTM
    assert record == stopped_record  # with a fingerprint of every array
