"""Model folders are written atomically and read back exactly, and damage is named."""

import dataclasses
import json
import pickle
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

import zoo
from tests import tiny_run
from train.checkpoint import Checkpoints
from zoo import tokenizers
from zoo.checkpoints import model_folder
from zoo.checkpoints.arrays import flatten
from zoo.models import gpt2


@dataclasses.dataclass(frozen=True)
class Config:
    width: int = 4
    dropout: float = 0.1


def parameters(seed):
    random = np.random.default_rng(seed)
    return {
        "blocks_0": {"kernel": jnp.asarray(random.normal(size=(64, 8)), "float32")},
        "norm": {"scale": jnp.asarray(random.normal(size=8), jnp.bfloat16)},
    }


def words(*names):
    return Tokenizer(WordLevel({name: i for i, name in enumerate(names)}, unk_token=names[0]))


def bits(params):
    return {path: np.asarray(x).tobytes() for path, x in flatten(params).items()}


def contents(folder):
    """Return the contents of a model folder: its config, its parameters, its tokenizer."""
    model = model_folder.manifest(folder)
    tokenizer = None
    if model["tokenizer"] is not None:
        tokenizer = tokenizers.fingerprint(tokenizers.load(folder))
        assert tokenizer == model["tokenizer"]
    else:
        assert not (folder / "tokenizer.json").exists()
    return model["config"], bits(model_folder.read(folder)), tokenizer


def begin_run(folder, *seeds):
    """Write a run that has saved steps 1, 2, ... and no model yet."""
    model_folder.write(folder, "gpt2", Config())
    checkpoints = Checkpoints(folder, keep=9)
    for step, seed in enumerate(seeds, 1):
        checkpoints.save(step, parameters(seed), {"moments": parameters(99)}, {}, {})
    checkpoints.close()


def damage(folder):
    file = max(folder.rglob("d/*"), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 8
    file.write_bytes(content)


@pytest.mark.parametrize("name", ["model", "a run/with spaces", "deep/er"])
def test_a_folder_returns_what_was_written(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    params, tokenizer = parameters(1), words("a", "b")
    model_folder.write(name, "gpt2", Config(width=8), params, tokenizer)
    loaded = model_folder.read(name)
    assert bits(loaded) == bits(params)
    assert loaded["norm"]["scale"].dtype == jnp.bfloat16
    model = model_folder.manifest(Path(name))
    assert model["architecture"] == "gpt2"
    assert Config(**model["config"]) == Config(width=8)
    assert model["zoo"] == zoo.__version__
    assert model["tokenizer"] == tokenizers.fingerprint(tokenizers.load(name))
    assert model["parameters"]["norm/scale"]["shape"] == [8]
    assert model["parameters"]["norm/scale"]["dtype"] == "bfloat16"
    assert sorted(p.name for p in Path(name).iterdir()) == [
        *("model.json", "params", "tokenizer.json")
    ]


def test_a_folder_can_be_moved_and_orbax_reads_its_parameters(tmp_path):
    params = parameters(1)
    model_folder.write(tmp_path / "a", "gpt2", Config(), params)
    (tmp_path / "a").rename(tmp_path / "b")
    assert bits(model_folder.read(tmp_path / "b")) == bits(params)
    target = {path: np.empty(x.shape, x.dtype) for path, x in flatten(params).items()}
    theirs = ocp.load(tmp_path / "b" / "params", target, checkpointable_name=None)
    assert bits(theirs) == bits(params)


def test_writing_again_replaces_only_the_model(tmp_path):
    model_folder.write(tmp_path, "gpt2", Config(), parameters(1), words("a"))
    (tmp_path / "curves.png").write_text("curves")
    model_folder.write(tmp_path, "gpt2", Config(width=8), parameters(2))
    assert contents(tmp_path) == ({"width": 8, "dropout": 0.1}, bits(parameters(2)), None)
    assert (tmp_path / "curves.png").read_text() == "curves"


class Stopped(BaseException):
    pass


def test_an_interrupted_write_leaves_the_old_folder_or_the_new_one(tmp_path, monkeypatch):
    """Stop a write before each of its disk operations, and halfway through removals."""
    old = lambda folder: model_folder.write(folder, "gpt2", Config(), parameters(1), words("a"))
    new = lambda folder: model_folder.write(
        folder, "gpt2", Config(8), parameters(2), words("a", "b")
    )
    old(tmp_path / "old")
    new(tmp_path / "new")
    before, after = contents(tmp_path / "old"), contents(tmp_path / "new")
    countdown = [0]

    def stopping(action, half_done=None):
        def run(*arguments, **keywords):
            countdown[0] -= 1
            if countdown[0] == 0:
                if half_done is not None:
                    half_done(arguments[0])
                raise Stopped
            return action(*arguments, **keywords)

        return run

    half_removed = lambda path: next(p for p in Path(path).rglob("*") if p.is_file()).unlink()
    states = []
    for stop_at in range(1, 99):
        folder = tmp_path / str(stop_at)
        shutil.copytree(tmp_path / "old", folder)
        countdown[0] = stop_at
        with monkeypatch.context() as patch:
            for name in ("rename", "replace", "write_text", "unlink", "mkdir"):
                patch.setattr(Path, name, stopping(getattr(Path, name)))
            patch.setattr(shutil, "rmtree", stopping(shutil.rmtree, half_removed))
            patch.setattr(model_folder, "save", stopping(model_folder.save))
            try:
                new(folder)
            except Stopped:
                pass
            else:
                break
        states.append(contents(folder))
        assert states[-1] in (before, after), f"neither old nor new after {stop_at}"
        new(folder)
        assert contents(folder) == after
        assert not list(folder.glob(".*"))
    assert states[0] == before
    assert states[-1] == after
    assert len(states) >= 8


def test_a_run_without_a_model_returns_its_newest_step(tmp_path):
    begin_run(tmp_path, 1, 2)
    assert bits(model_folder.read(tmp_path)) == bits(parameters(2))
    assert model_folder.manifest(tmp_path)["parameters"] is None
    model_folder.write(tmp_path, "gpt2", Config(), parameters(3))
    assert bits(model_folder.read(tmp_path)) == bits(parameters(3))
    shutil.rmtree(tmp_path / "params")
    assert bits(model_folder.read(tmp_path)) == bits(parameters(2))


def test_parameters_are_read_without_the_optimizer(tmp_path):
    begin_run(tmp_path, 1)
    step = tmp_path / "checkpoints" / "1"
    assert list((step / "state").rglob("d/*"))
    shutil.rmtree(step / "state")
    for name in ("_CHECKPOINT_METADATA", "params/_sharding", "params/_METADATA"):
        (step / name).unlink()
    assert bits(model_folder.read(tmp_path)) == bits(parameters(1))


def test_a_damaged_step_is_skipped_with_a_warning(tmp_path):
    begin_run(tmp_path, 1, 2, 3)
    damage(tmp_path / "checkpoints" / "3" / "params")
    (tmp_path / "checkpoints" / "2" / "meta" / "data.json").write_text("{}")
    with pytest.warns(UserWarning, match="using step 1 instead") as warned:
        params = model_folder.read(tmp_path)
    assert "checkpoints/3/params: wrong checksum of " in str(warned[0].message)
    assert "checkpoints/2/meta/data.json cannot be read" in str(warned[1].message)
    assert bits(params) == bits(parameters(1))
    damage(tmp_path / "checkpoints" / "1" / "params")
    with pytest.raises(model_folder.Damaged, match=r"has no intact step: .*/3/.*/2/.*/1/"):
        model_folder.read(tmp_path)


def test_the_error_for_a_damaged_model_names_the_parameter(tmp_path):
    model_folder.write(tmp_path, "gpt2", Config(), parameters(1))
    damage(tmp_path / "params")
    with pytest.raises(model_folder.Damaged, match="blocks_0/kernel") as error:
        model_folder.read(tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_without_a_model_is_an_error_of_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^no such folder: .*nowhere$"):
        model_folder.manifest(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"it has no model\.json$"):
        model_folder.read(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(
        FileNotFoundError, match=r"may be a Hugging Face folder: try `zoo import .* OUT`"
    ):
        model_folder.read(tmp_path)
    (tmp_path / "model.json").write_text('{"architecture"')
    with pytest.raises(ValueError, match=r"model\.json is not valid JSON: "):
        model_folder.manifest(tmp_path)
    (tmp_path / "model.json").write_text('{"architecture": "gpt2", "config": {}}')
    with pytest.raises(ValueError, match=r"missing class, zoo, tokenizer, parameters$"):
        model_folder.manifest(tmp_path)


def test_a_run_that_saved_nothing_has_no_parameters(tmp_path):
    model_folder.write(tmp_path, "gpt2", Config())
    with pytest.raises(FileNotFoundError, match="neither params/ nor a saved step"):
        model_folder.read(tmp_path)


def test_a_pickle_is_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    model_folder.write(tmp_path, "gpt2", Config(), parameters(1))
    shutil.rmtree(tmp_path / "params")
    (tmp_path / "params").mkdir()
    for name in ("manifest.ocdbt", "params.pkl", "pytorch_model.bin"):
        (tmp_path / "params" / name).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(model_folder.Damaged, match="cannot be read"):
        model_folder.read(tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_model_json_is_plain_json(tmp_path):
    model_folder.write(tmp_path, "gpt2", Config(), parameters(1))
    model = json.loads((tmp_path / "model.json").read_text())
    assert model["parameters"] == model_folder.describe(parameters(1))
    assert {
        p: x["fingerprint"] for p, x in model["parameters"].items()
    } == model_folder.fingerprint(parameters(1))


def edit(file, old, new):
    content = file.read_text()
    assert old in content
    file.write_text(content.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"), [('"dropout": 0.1', '"dropout": 0.2'), ('"gpt2"', '"gpt"'), ("[\n", "[ \n 1,")]
)
def test_an_edited_model_json_is_refused_unless_that_is_on_purpose(tmp_path, old, new):
    model_folder.write(tmp_path, "gpt2", Config(), parameters(1), words("a", "b"))
    edit(tmp_path / "model.json", old, new)
    with pytest.raises(model_folder.Damaged) as error:
        model_folder.read(tmp_path)
    assert str(error.value) == (
        f"{tmp_path / 'model.json'} was changed after it was written: restore it, or, if that is "
        'on purpose, delete "checksums" from model.json'
    )
    content = json.loads((tmp_path / "model.json").read_text())
    del content["checksums"]
    (tmp_path / "model.json").write_text(json.dumps(content))
    assert model_folder.manifest(tmp_path) == content


def test_model_json_may_be_formatted_in_another_way(tmp_path):
    model_folder.write(tmp_path, "gpt2", Config(), parameters(1))
    content = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(dict(reversed(content.items()))))
    assert model_folder.manifest(tmp_path) == content


def test_only_the_tokenizer_of_a_model_is_read_with_it(tmp_path):
    save = lambda folder, *names: zoo.save(
        zoo.Loaded(gpt2.Model(tiny_run.CONFIG), tiny_run.wide_params(), words(*names)), folder
    )
    save(tmp_path / "one", "a", "b", "c")
    save(tmp_path / "other", "a", "c", "b")
    file = tmp_path / "one" / "tokenizer.json"
    assert zoo.load(tmp_path / "one").tokenizer.token_to_id("b") == 1
    file.write_text(json.dumps(json.loads(file.read_text())))  # only formatted in another way
    assert zoo.load(tmp_path / "one").tokenizer.token_to_id("b") == 1
    shutil.copy(tmp_path / "other" / "tokenizer.json", file)
    with pytest.raises(ValueError, match=r"tokenizer\.json is not the tokenizer of this model: re"):
        zoo.load(tmp_path / "one")
    file.unlink()
    with pytest.raises(ValueError, match=r"tokenizer\.json is missing: restore it, or, if that is"):
        zoo.load(tmp_path / "one")
    content = model_folder.manifest(tmp_path / "one")
    del content["checksums"]
    (tmp_path / "one" / "model.json").write_text(json.dumps(content))
    assert zoo.load(tmp_path / "one").tokenizer is None
