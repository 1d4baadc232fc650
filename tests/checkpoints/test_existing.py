"""What would be lost or mixed is noticed before anything is written; other files do not matter."""

import json
import os

import numpy as np
import pytest

import zoo
from tests import tiny_run
from zoo.checkpoints import existing, model_folder
from zoo.models import gpt2


def loaded(seed=0):
    return zoo.Loaded(gpt2.Model(tiny_run.CONFIG), tiny_run.wide_params(seed), tiny_run.tokenizer())


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("model.json", "a model"),
        ("config.json", "a Hugging Face model"),
        ("model.safetensors.index.json", "model.safetensors.index.json, a file of a model"),
        ("model-00001-of-00002.safetensors", "model-00001-of-00002.safetensors, a file of a model"),
        ("pytorch_model.bin", "pytorch_model.bin, a file of a model"),
        ("added_tokens.json", "added_tokens.json, a file of a model"),
        ("vocab.txt", "vocab.txt, a file of a model"),
        ("checkpoints/20/meta", "a run at step 20"),
        ("seed_3/checkpoints/20", "runs of more than one seed"),
    ],
)
def test_a_folder_with_a_file_of_a_model_is_not_free(tmp_path, name, found):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("{}")
    with pytest.raises(FileExistsError) as error:
        existing.check_folder(tmp_path)
    assert str(error.value) == (
        f"{tmp_path} holds {found}: choose another folder, or replace it with --overwrite (in "
        "Python: overwrite=True)"
    )
    existing.check_folder(tmp_path, overwrite=True)


def test_a_folder_without_a_model_is_free(tmp_path):
    existing.check_folder(tmp_path / "new")
    (tmp_path / "README.md").write_text("A model of words.")
    existing.check_folder(tmp_path)
    # A run that was stopped before it saved a step.
    model_folder.write(tmp_path, "gpt2", tiny_run.CONFIG, tokenizer=tiny_run.tokenizer())
    existing.check_folder(tmp_path)


def test_a_file_with_a_content_is_not_free(tmp_path):
    file = tmp_path / "data.tsv"
    existing.check_file(file)
    file.touch()
    existing.check_file(file)
    file.write_text("text\tlabel\n")
    with pytest.raises(FileExistsError, match=r"data\.tsv exists: choose another file, or"):
        existing.check_file(file)
    existing.check_file(file, overwrite=True)
    for overwrite in (False, True):
        with pytest.raises(IsADirectoryError, match="is a folder: give the name of a file"):
            existing.check_file(tmp_path, overwrite=overwrite)
        with pytest.raises(NotADirectoryError, match="is a file: give the name of a folder"):
            existing.check_folder(file, overwrite=overwrite)
    os.mkfifo(tmp_path / "pipe")
    existing.check_file(tmp_path / "pipe")


@pytest.mark.parametrize("write", [zoo.save, zoo.export])
def test_only_overwrite_replaces_a_model(tmp_path, write):
    write(loaded(1), tmp_path)
    (tmp_path / "README.md").write_text("A model of words.")
    for name in ("model.safetensors.index.json", "vocab.json", "merges.txt", "results.json"):
        (tmp_path / name).write_text("{}")
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match="--overwrite"):
        write(loaded(2), tmp_path)
    assert contents(tmp_path) == before
    write(loaded(2), tmp_path, overwrite=True)
    assert (tmp_path / "README.md").read_text() == "A model of words."
    names = {path.name for path in tmp_path.iterdir()}
    assert not names & {"model.safetensors.index.json", "vocab.json", "merges.txt", "results.json"}
    params = zoo.load(tmp_path).params
    assert np.array_equal(
        params["trunk"]["token_embedding"]["embedding"],
        tiny_run.wide_params(2)["trunk"]["token_embedding"]["embedding"],
    )


def test_a_model_replaces_one_of_another_kind(tmp_path):
    zoo.export(loaded(), tmp_path)
    zoo.save(loaded(), tmp_path, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("model.json", "params", "tokenizer.json")
    ]
    zoo.export(loaded(), tmp_path, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    ]


def test_a_folder_with_two_models_is_refused(tmp_path):
    zoo.save(loaded(), tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    for read in (zoo.load, zoo.checkpoints.load.saved_class):
        with pytest.raises(ValueError, match=r"both config\.json, .* and model\.json, .*: remove"):
            read(tmp_path)


def test_a_failed_write_leaves_the_old_files(tmp_path, monkeypatch):
    """A disk that is full when the last file is written."""
    zoo.export(loaded(1), tmp_path / "theirs")
    zoo.save(loaded(1), tmp_path / "ours")
    before = contents(tmp_path)
    write_text = type(tmp_path).write_text

    def full(path, text, *arguments, **keywords):
        if path.name in ("config.json", "tokenizer_config.json", "model.json"):
            write_text(path, text[:10])
            raise OSError(28, "No space left on device", str(path))
        return write_text(path, text, *arguments, **keywords)

    monkeypatch.setattr(type(tmp_path), "write_text", full)
    for write, name in ((zoo.export, "theirs"), (zoo.save, "ours")):
        with pytest.raises(OSError, match="No space left on device"):
            write(loaded(2), tmp_path / name, overwrite=True)
        with pytest.raises(OSError, match="No space left on device"):
            write(loaded(2), tmp_path / "new" / name)
    assert contents(tmp_path) == before
    assert not (tmp_path / "new").exists()
