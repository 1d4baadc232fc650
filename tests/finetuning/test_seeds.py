"""Many runs in one program equal the same runs one after another."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

import zoo
from tests.tiny_task import CLASSIFICATION, SETTINGS, folder, saved, trained, tune
from train.devices import placement
from train.finetuning import evaluate, finetune, transfer, tuning
from zoo.params import flatten


def test_runs_at_once_equal_runs_one_after_another(tmp_path):
    slow = replace(SETTINGS, learning_rate="1e-3", epochs=1.0)  # Adam makes much of rounding
    _, together = trained(tmp_path, replace(slow, seeds=3))
    for run in range(3):
        _, (alone,) = trained(tmp_path, replace(slow, seed=run))
        for path, array in together[run].items():
            np.testing.assert_allclose(array, alone[path], rtol=1e-3, atol=1e-5, err_msg=path)


def test_runs_differ_and_the_best_is_kept(tmp_path):
    metrics, _ = tune(tmp_path, replace(SETTINGS, seeds=3, epochs=1.0))
    best = evaluate.best_run(CLASSIFICATION, metrics["dev"])
    assert json.loads((tmp_path / "out" / "results.json").read_text())["best"] == best
    evaluation = evaluate.evaluate_folder(*saved(tmp_path))
    assert evaluation.metrics == pytest.approx(metrics["dev"][best])
    assert any("3 runs" in line for line in evaluate.summary(CLASSIFICATION, metrics))


def test_runs_in_parts_are_the_same_runs(tmp_path, monkeypatch):
    settings = replace(SETTINGS, seeds=3, epochs=1.0)
    expected, _ = tune(tmp_path, settings)
    for parts in (replace(settings, parallel_runs=2), settings):
        metrics, notes = tune(tmp_path, parts)
        for one, other in zip(metrics["dev"], expected["dev"], strict=True):
            assert one == pytest.approx(other, abs=1e-3)
        assert notes == ["the runs were trained in 2 parts"]
        logs = [(tmp_path / "out" / part / "log.jsonl") for part in ("seed_0", "seed_2")]
        assert all(log.exists() for log in logs)
        monkeypatch.setattr(finetune, "max_runs", lambda *_: 2)  # for the next settings


def test_a_device_has_memory_for_what_a_run_takes(tmp_path, monkeypatch):
    (model, params, _), _ = transfer.load_for_task(
        folder(tmp_path), "classification", ("bad", "good"), key=jax.random.key(0)
    )
    weights = 5 * 4 * sum(x.size for x in jax.tree.leaves(params))
    layers = 2 * 16 * 32 * 2 * (34 * 16 + 5 * 2 * 32)  # rows of 32 tokens, two layers
    monkeypatch.setattr(placement, "memory", lambda: 3.5 * (weights + layers))
    assert finetune.max_runs(model, params, 16, 32) == 3
    monkeypatch.setattr(placement, "memory", lambda: 1)
    assert finetune.max_runs(model, params, 16, 32) == 1


def test_devices_share_the_runs_and_then_the_rows():
    for runs, rows in ((1, 16), (5, 32)):
        where = placement.over_runs(runs, rows)
        assert dict(where[1].mesh.shape) == {"runs": 1, "rows": 1}
    assert placement._divisor(5, 8) == 5
    assert placement._divisor(6, 4) == 3
    assert placement._divisor(16, 1) == 1


def test_from_scratch_every_run_initializes_all_its_weights(tmp_path, monkeypatch):
    initial = {}

    def keep(runs, *, resume):
        initial.update(runs.trained(0))
        return [runs.run_params(initial, run) for run in range(2)]

    monkeypatch.setattr(tuning, "train_runs", keep)
    tune(tmp_path, replace(SETTINGS, scratch=True, seeds=2))
    pretrained = flatten(zoo.load(folder(tmp_path))[1])
    for path in initial.keys() - {path for path in initial if path.endswith(("bias", "scale"))}:
        one, other = initial[path]
        assert not np.array_equal(one, other), path
        assert path not in pretrained or not np.array_equal(one, pretrained[path]), path
    with pytest.raises(ValueError, match="--scratch needs --unfreeze all, not head"):
        tune(tmp_path, replace(SETTINGS, scratch=True, unfreeze="head"))
