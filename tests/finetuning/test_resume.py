"""Fine-tuning is evaluated, stopped and resumed like any other run."""

import json
import math
import signal
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.tiny_task import CLASSIFICATION, DATA, SETTINGS, folder, tune
from train.devices.mesh import MeshPlacement
from train.finetuning import finetune, tuning, unfreezing
from train.loop import NotFinite
from train.reporting.progress import TIMES, Report, read_log
from zoo.checkpoints import model_folder
from zoo.params import flatten

SHORT = replace(SETTINGS, epochs=3.0, save_every=4)


def run(tmp_path, out, settings, *, resume=False):
    return finetune.finetune(
        folder(tmp_path), CLASSIFICATION, DATA, tmp_path / out, settings, resume=resume
    )


def timeless(out):
    return [{k: v for k, v in event.items() if k not in TIMES} for event in read_log(out)]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"unfreeze": "gradual"},
        {"unfreeze": "head-first"},
        {"seeds": 2},
        {"keep": "last"},
        {"pack": 4},
    ],
    ids=str,
)
def test_a_run_stopped_in_every_stage_equals_one_that_was_not(tmp_path, monkeypatch, change):
    settings = replace(SHORT, **change)
    expected, _ = run(tmp_path, "uninterrupted", settings)
    reported = Report.steps

    def stop_once(report, steps):
        reported(report, steps)
        if report.first_step < 16:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Report, "steps", stop_once)
        for _ in range(9):
            try:
                run(tmp_path, "stopped", settings, resume=True)
            except tuning.Stopped:
                continue
            break
    metrics, _ = run(tmp_path, "stopped", settings, resume=True)
    assert metrics == expected
    assert timeless(tmp_path / "stopped") == timeless(tmp_path / "uninterrupted")
    params, others = (
        flatten(model_folder.read(tmp_path / out)) for out in ("stopped", "uninterrupted")
    )
    for path, array in params.items():
        np.testing.assert_array_equal(array, others[path], err_msg=path)


def test_steps_that_were_not_fetched_before_a_stop_are_logged(tmp_path, monkeypatch):
    step = MeshPlacement.step

    def step_and_stop(*args):
        signal.raise_signal(signal.SIGTERM)
        return step(*args)

    monkeypatch.setattr(MeshPlacement, "step", step_and_stop)
    with pytest.raises(tuning.Stopped, match="stopped and saved at step 1;"):
        run(tmp_path, "out", SHORT)
    assert [event["step"] for event in read_log(tmp_path / "out")] == [1]


def test_dev_is_measured_every_epoch_and_the_best_model_is_kept(tmp_path):
    metrics, _ = tune(tmp_path, replace(SETTINGS, epochs=3.0, learning_rate="3e-3"))
    events = [event for event in read_log(tmp_path / "out") if event["kind"] == "held_out"]
    assert [event["step"] for event in events] == [6, 12, 18]
    assert metrics["dev"][0]["accuracy"] == max(event["accuracy"] for event in events)


def test_an_unfinished_run_loads_with_frozen_and_trained_parameters(tmp_path, monkeypatch):
    stop = lambda report, steps: signal.raise_signal(signal.SIGTERM)
    monkeypatch.setattr(Report, "steps", stop)
    with pytest.raises(tuning.Stopped, match="stopped and saved at step 4; continue with --resume"):
        run(tmp_path, "out", replace(SHORT, unfreeze="head"))
    params = flatten(zoo.load(tmp_path / "out").params)
    pretrained = flatten(zoo.load(folder(tmp_path)).params)
    frozen = [path for path in params if path.startswith("trunk/")]
    assert frozen
    assert all(np.array_equal(params[path], pretrained[path]) for path in frozen)
    assert not np.array_equal(params["pooler/dense/kernel"], pretrained["pooler/dense/kernel"])


def test_a_run_without_progress_stops_early(tmp_path):
    still = replace(SETTINGS, learning_rate="1e-12", patience=2, evaluate_every=2)
    run(tmp_path, "out", still)
    assert model_folder.steps(tmp_path / "out")[-1] == 6  # best at 2, and two evaluations later
    run(tmp_path, "out", still, resume=True)
    assert model_folder.steps(tmp_path / "out")[-1] == 6


def test_another_run_is_neither_overwritten_nor_resumed(tmp_path):
    run(tmp_path, "out", replace(SHORT, epochs=0.5))
    with pytest.raises(
        FileExistsError, match=r"holds a run at step 3: use --resume to continue it"
    ):
        run(tmp_path, "out", SHORT)
    with pytest.raises(ValueError, match=r"belongs to another run: --epochs was 0.5, is 3.0$"):
        run(tmp_path, "out", SHORT, resume=True)


def test_a_run_is_not_resumed_with_other_development_data(tmp_path):
    quick, other = replace(SHORT, epochs=0.5), DATA | {"dev": DATA["dev"][1:]}
    run(tmp_path, "out", quick)
    start, out = folder(tmp_path), tmp_path / "out"
    with pytest.raises(ValueError, match=r"belongs to another run: dev was '\w+', is '\w+'$"):
        finetune.finetune(start, CLASSIFICATION, other, out, quick, resume=True)


def test_weights_that_are_not_finite_at_the_end_are_no_model(tmp_path, monkeypatch):
    slow = replace(SHORT, epochs=0.5, keep="last")
    after = tuning.train

    def broken(stage, progress, *rest):
        progress = after(stage, progress, *rest)
        params = {path: x.at[..., 0].set(jnp.nan) for path, x in progress.state.params.items()}
        return progress._replace(state=progress.state._replace(params=params))

    monkeypatch.setattr(tuning, "train", broken)
    with pytest.raises(NotFinite, match="is not finite after training: no model is written"):
        run(tmp_path, "out", slow)
    assert json.loads((tmp_path / "out" / "model.json").read_text())["parameters"] is None


def test_a_loss_that_is_not_finite_stops_at_its_step(tmp_path, monkeypatch):
    explodes = lambda steps: lambda step: jnp.float32(1) + jnp.float32(1e38) * (step == 4)
    monkeypatch.setitem(unfreezing.SCHEDULES, "constant", explodes)
    with pytest.raises(NotFinite, match=r"^step \d+ has loss .* the last saved step is 4"):
        run(tmp_path, "out", replace(SHORT, schedule="constant", weight_decay=0.0))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0.0),
        ("epochs", math.inf),
        ("batch", 0),
        ("length", 0),
        ("accumulate", 0),
        ("seeds", 0),
        ("seed", -1),
        ("weight_decay", -0.1),
        ("weight_decay", math.nan),
        ("layer_decay", 0.0),
        ("dropout", 1.0),
        ("auxiliary", -1.0),
        ("patience", 0),
        ("save_every", 0),
    ],
)
def test_a_setting_out_of_range_is_named_by_its_flag(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"^--{name.replace('_', '-')} must be"):
        run(tmp_path, "out", replace(SHORT, **{name: value}))
    assert not (tmp_path / "out").exists()


def test_settings_that_exclude_each_other_are_refused():
    with pytest.raises(ValueError, match="use it with --keep best"):
        replace(SETTINGS, patience=2, keep="last").check()
    with pytest.raises(ValueError, match="leave out --parallel and --mesh"):
        replace(SETTINGS, seeds=2, parallel="pmap").check()
