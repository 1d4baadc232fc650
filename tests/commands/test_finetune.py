"""The commands around fine-tuning: from a file to predictions."""

import json
import os
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest

from tests.tiny_task import DATA, folder, saved
from train.finetuning.settings import TaskName
from train.finetuning.tasks.registry import TASKS
from train.finetuning.tasks.similarity import in_both_orders
from train.reporting.progress import read_log
from zoo.checkpoints import model_folder
from zoo.inference.batching import DOES
from zoo.params import flatten


def command(*arguments, **environment):
    run = [sys.executable, "-m", "train", *map(str, arguments)]
    environment = os.environ | {name: str(value) for name, value in environment.items()}
    return subprocess.run(run, capture_output=True, text=True, check=False, env=environment)


def test_the_kinds_of_task_have_one_name_each():
    assert list(get_args(TaskName)) == list(TASKS)
    both_orders = in_both_orders(TASKS["classification"]).head  # an option, not a name
    assert {both_orders, *(task.head for task in TASKS.values())} == set(DOES)
    assert set(TASKS) - set(DOES) == {"regression"}


def test_the_commands_go_from_a_file_to_predictions(tmp_path):
    start, (out, dev) = folder(tmp_path), saved(tmp_path)
    train = tmp_path / "train.tsv"
    rows = [f"{text.label}\t{text.text}" for text in DATA["train"]]
    train.write_text("\n".join(["label\tsentence", *rows]) + "\n")
    given = ("--task", "classification", "--train", train)
    tuned = command(
        "finetune", start, *given, "--dev", dev, "--epochs", 8, "--learning-rate", "1e-2",
        "--out", out, "--batch", 16, "--seeds", 2,
    )  # fmt: skip
    assert tuned.returncode == 0, tuned.stderr
    assert "dev, 2 runs" in tuned.stdout
    assert tuned.stdout.startswith(f"model    {start}\n")
    classified = command("classify", out, "the film is lovely")
    assert classified.stdout.split()[1] == "good", classified.stderr
    predictions, picture = tmp_path / "predictions.jsonl", tmp_path / "confusion.png"
    given_out = ("--out", predictions, "--confusion-matrix", picture)
    evaluated = command("evaluate", out, "--data", dev, *given_out)
    assert "accuracy" in evaluated.stdout, evaluated.stderr
    lines = [json.loads(line) for line in predictions.read_text().splitlines()]
    assert [line["text"] for line in lines] == [text.text for text in DATA["dev"]]
    assert picture.stat().st_size > 1000
    tested = command(
        "find-learning-rate", start, *given, "--steps", 40, "--out", tmp_path / "rates.png"
    )
    assert "try --learning-rate" in tested.stdout, tested.stderr
    wrong = command("finetune", start, "--task", "tagging", "--train", tmp_path / "none.conll")
    assert wrong.returncode == 2
    assert len(wrong.stderr.strip().splitlines()) == 1


def test_runs_on_four_devices_equal_those_on_one(tmp_path):
    start, (_, dev) = folder(tmp_path), saved(tmp_path)
    metrics = {}
    for devices in (1, 4):
        out = tmp_path / str(devices)
        tuned = command(
            "finetune", start, "--task", "classification", "--train", dev, "--dev", dev,
            "--out", out, "--batch", 16, "--seeds", 2, "--learning-rate", "3e-3", "--epochs", 2,
            JAX_NUM_CPU_DEVICES=devices,
        )  # fmt: skip
        assert tuned.returncode == 0, tuned.stderr
        metrics[devices] = json.loads((out / "results.json").read_text())["metrics"]["dev"]
    for one, other in zip(metrics[1], metrics[4], strict=True):
        assert other == pytest.approx(one, abs=1e-3)
    ours, theirs = (flatten(model_folder.read(tmp_path / str(devices))) for devices in (1, 4))
    for path in ours:
        np.testing.assert_allclose(ours[path], theirs[path], rtol=1e-3, atol=1e-5, err_msg=path)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("options", [("--mesh", 2, 2, 2), ("--parallel", "pmap")], ids=str)
def test_a_run_on_eight_devices_has_the_losses_of_one(tmp_path, options, dtype):
    losses = [
        single_run(tmp_path / "one", 1, "--dtype", dtype),
        single_run(tmp_path / "eight", 8, "--dtype", dtype, *options),
    ]
    # The order of sums over devices changes the rounding, most in bfloat16.
    np.testing.assert_allclose(*losses, rtol={"float32": 1e-5, "bfloat16": 1e-3}[dtype])


def test_accumulation_does_not_change_the_losses(tmp_path):
    plain = single_run(tmp_path / "plain", 1)
    np.testing.assert_allclose(
        single_run(tmp_path / "parts", 1, "--accumulate", 4), plain, rtol=1e-5
    )


def single_run(path, devices, *options):
    """Return the losses of a run of four steps."""
    path.mkdir()
    start, (out, dev) = folder(path), saved(path)
    tuned = command(
        "finetune", start, "--task", "classification", "--train", dev, "--dev", dev,
        "--out", out, "--batch", 16, "--learning-rate", "1e-3", "--epochs", 2, *options,
        JAX_NUM_CPU_DEVICES=devices,
    )  # fmt: skip
    assert tuned.returncode == 0, tuned.stderr
    losses = [event["loss"] for event in read_log(out) if event["kind"] == "train"]
    assert len(losses) == 4
    return losses
