"""No command writes over what it finds, without --overwrite."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import zoo
from tests import tiny_run, tiny_task
from tests.commands.test_command_line import elsewhere, refusal, run
from zoo.checkpoints.lock import locked
from zoo.models import gpt2

__all__ = ["elsewhere"]  # a fixture for every test

FILES = [
    "map nowhere --out data.tsv",
    "embed nowhere text --out data.npy",
    "generate-sound nowhere data.wav",
    "translate nowhere text --attention data.tsv",
    "evaluate nowhere --data other.tsv --out data.tsv",
    "evaluate nowhere --data other.tsv --confusion-matrix data.tsv",
    "find-learning-rate nowhere --task classification --train other.tsv --out data.tsv",
]


def save(folder, seed=0):
    params, words = tiny_run.wide_params(seed), tiny_run.tokenizer()
    zoo.save(zoo.Loaded(gpt2.Model(tiny_run.CONFIG), params, words), folder)


@pytest.mark.parametrize("command", FILES)
def test_a_file_is_not_written_over(command, monkeypatch, capsys):
    for suffix in ("tsv", "npy", "wav"):
        Path(f"data.{suffix}").write_text("what took a week to collect")
    if command.startswith("evaluate"):
        save("nowhere")  # it first looks at the kind of the model
    line = refusal(monkeypatch, capsys, *command.split())
    assert line.startswith("zoo: data.")
    assert "exists: choose another file, or replace it with --overwrite" in line
    assert "exists" not in refusal(monkeypatch, capsys, *command.split(), "--overwrite")
    assert Path("data.tsv").read_text() == "what took a week to collect"


def test_a_model_is_not_imported_or_exported_over_another(monkeypatch, capsys):
    save("model")
    save("other", 1)
    run(monkeypatch, "export", "model", "exported")
    before = Path("other/model.json").read_bytes()
    line = refusal(monkeypatch, capsys, "import", "exported", "other")
    assert line.startswith("zoo: other holds a model: choose another folder, or replace it with")
    assert "other holds a model" in refusal(monkeypatch, capsys, "export", "model", "other")
    assert Path("other/model.json").read_bytes() == before
    line = refusal(monkeypatch, capsys, "export", "model", "exported")
    assert line.startswith("zoo: exported holds a Hugging Face model: ")
    run(monkeypatch, "import", "exported", "other", "--overwrite")
    names = ("config", "parameters", "tokenizer")
    model, other = (json.loads(Path(f, "model.json").read_text()) for f in ("model", "other"))
    assert [model[name] for name in names] == [other[name] for name in names]


@pytest.mark.parametrize("command", ["pretrain gpt2-tiny", "pretrain ngram", "finetune start"])
def test_a_run_does_not_begin_in_the_folder_of_a_model(command, monkeypatch, capsys):
    save("model")
    if command.startswith("finetune"):
        command = f"{command} --task classification --train none.tsv"
    line = refusal(monkeypatch, capsys, *command.split(), "--out", "model")
    assert line == "zoo: model holds a model: use --overwrite to replace it, or another --out"
    line = refusal(monkeypatch, capsys, *command.split(), "--out", "model", "--resume")
    assert "holds a model: use --overwrite" in line
    # What cannot begin replaces nothing.
    more = ["--overwrite", *(["--text", "none.txt"] if "pretrain" in command else [])]
    assert "none." in refusal(monkeypatch, capsys, *command.split(), "--out", "model", *more)
    assert zoo.load("model").tokenizer is not None


def test_a_run_never_replaces_what_it_reads(monkeypatch, capsys):
    save("model")
    for command in (
        "finetune model --task classification --train none.tsv",
        "pretrain gpt2-tiny --init model",
        "pretrain gpt2-tiny --tokenizer ./model",
    ):
        line = refusal(monkeypatch, capsys, *command.split(), "--out", "model", "--overwrite")
        assert "--overwrite would remove" in line
        assert "model, which the run reads: use another --out" in line
    line = refusal(
        monkeypatch, capsys, "pretrain", "gpt2-tiny", "--resume", "--overwrite", "--out", "model"
    )
    assert line == "zoo: --resume and --overwrite cannot be combined: leave out one of them"


def test_overwrite_begins_a_run_anew(tmp_path):
    start = tiny_task.folder(tmp_path)
    save(tmp_path / "out")
    (tmp_path / "out" / "README.md").write_text("kept")
    finetune = lambda **options: tiny_task.finetune.finetune(
        start,
        tiny_task.CLASSIFICATION,
        tiny_task.DATA,
        tmp_path / "out",
        tiny_task.replace(tiny_task.SETTINGS, epochs=1.0),
        **options,
    )
    with pytest.raises(FileExistsError, match="holds a model: use --overwrite"):
        finetune()
    metrics, _ = finetune(overwrite=True)
    assert finetune(overwrite=True)[0] == metrics
    assert finetune(resume=True)[0] == metrics
    assert type(zoo.load(tmp_path / "out").model).__name__ == "BertClassifier"
    assert (tmp_path / "out" / "README.md").read_text() == "kept"
    assert not (tmp_path / "out" / ".lock").exists()


def test_a_second_process_stops_at_once(tmp_path):
    with locked("shared"):
        for command in ("pretrain gpt2-tiny", "finetune start --task classification --train x.tsv"):
            process = subprocess.run(
                [sys.executable, "-m", "train", *command.split(), "--out", "shared"],
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
                capture_output=True,
                text=True,
            )
            assert process.returncode == 2
            assert "shared is being written by process" in process.stderr
            assert process.stderr.count("\n") == 1
