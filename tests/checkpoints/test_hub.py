"""Names on the Hub, from a server on localhost."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import jax
import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import load_file, save_file

import zoo
from tests import hub_server, tiny
from train.pretraining import continued, corpus
from train.recipes import recipe
from zoo import tokenizers
from zoo.checkpoints import hub
from zoo.checkpoints.load import Loaded, saved_class
from zoo.models import bert
from zoo.params import flatten

NAME = "owner/tiny-bert"
OTHERS = ("tf_model.h5", "rust_model.ot", "flax_model.msgpack", "onnx/model.onnx", "README.md")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return a small BERT, which is in the folders published/ and ours/ beside it."""
    folder = tmp_path_factory.mktemp("models")
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdef"]
    (folder / "vocab.txt").write_text("\n".join(names) + "\n")
    tokenizer = tokenizers.load(folder)
    config = bert.Config(
        vocab_size=11, max_length=16, num_layers=1, num_heads=2, width=8, head_width=4, mlp_width=8
    )
    network = bert.Model(config)
    loaded = Loaded(network, tiny.wide(network), tokenizer)
    zoo.export(loaded, folder / "published")
    zoo.save(loaded, folder / "ours")
    return folder, loaded


@pytest.fixture
def server(monkeypatch, tmp_path):
    """Run a Hub; its addresses are read when huggingface_hub is imported, so they are replaced."""
    with hub_server.serve() as server:
        template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.chdir(tmp_path)
        yield server
        huggingface_hub.close_session()


@pytest.fixture
def offline(monkeypatch):
    """Return a function that turns on the offline mode of huggingface_hub."""
    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def is_same(one: Loaded, other: Loaded) -> bool:
    first, second = flatten(one.params), flatten(other.params)
    return first.keys() == second.keys() and all(
        np.array_equal(first[path], second[path]) for path in first
    )


def test_a_name_is_fetched_once_and_is_equal_to_its_folder(server, model, offline):
    folder, loaded = model
    server.add(NAME, folder / "published")
    assert is_same(zoo.load(NAME), loaded)
    assert sorted(server.bodies) == [
        *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
    ]
    assert is_same(zoo.load(NAME), loaded)
    offline()
    assert is_same(zoo.load(NAME), loaded)
    assert saved_class(NAME) is bert.Model
    assert len(server.bodies) == 4


def test_other_files_are_not_fetched(server, model, tmp_path):
    shutil.copytree(model[0] / "published", tmp_path / "copy")
    for name in ("pytorch_model.bin", "vocab.txt", *OTHERS):
        (tmp_path / "copy" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "copy" / name).write_text("of no use here")
    server.add(NAME, tmp_path / "copy")
    zoo.load(NAME)
    assert not {"pytorch_model.bin", "vocab.txt", *OTHERS} & set(server.bodies)


def test_of_weights_in_many_files_those_of_the_index_are_fetched(server, model, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(model[0] / "published", copy)
    tensors = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    weight_map = {}
    for number in range(3):
        file = f"model-{number}.safetensors"
        part = {name: tensors[name] for name in list(tensors)[number::3]}
        save_file(part, copy / file)
        weight_map |= dict.fromkeys(part, file)
    save_file(tensors, copy / "model-3.safetensors")
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (copy / "pytorch_model.bin").write_text("of no use here")
    server.add(NAME, copy)
    assert is_same(zoo.load(NAME), model[1])
    weights = {name for name in server.bodies if "model" in name}
    assert weights == {"model.safetensors.index.json", *weight_map.values()}
    del server.repositories[NAME]["main"]["model-1.safetensors"]
    with pytest.raises(OSError, match=r"lacks model-1.safetensors, which model.safetensors.index"):
        zoo.load(NAME)


def test_a_model_folder_of_ours_is_fetched_too(server, model, offline):
    server.add(NAME, model[0] / "ours")
    assert is_same(zoo.load(NAME), model[1])
    count = len(server.bodies)
    offline()
    assert is_same(zoo.load(NAME), model[1])
    assert len(server.bodies) == count


def test_a_revision_is_a_branch_or_a_commit(server, model, offline, tmp_path):
    folder, loaded = model
    zeros = loaded._replace(params=jax.tree.map(lambda x: 0 * x, loaded.params))
    zoo.export(zeros, tmp_path / "zeros")
    server.add(NAME, folder / "published")
    server.add(NAME, tmp_path / "zeros", "refs/pr/1")
    commit = hub_server.commit_of(server.repositories[NAME]["refs/pr/1"])
    assert is_same(zoo.load(NAME), loaded)
    assert is_same(zoo.load(f"{NAME}@refs/pr/1"), zeros)
    assert is_same(zoo.load(NAME, revision=commit), zeros)
    server.requests.clear()
    assert is_same(zoo.load(f"{NAME}@{commit}"), zeros)
    assert not server.requests  # a commit never changes
    offline()
    assert is_same(zoo.load(f"{NAME}@refs/pr/1"), zeros)
    with pytest.raises(ValueError, match="can have the revision"):
        zoo.load(f"{NAME}@main", revision=commit)
    with pytest.raises(ValueError, match="can have the revision"):
        zoo.load(folder / "published", revision=commit)


def test_a_branch_that_moves_is_followed(server, model, tmp_path):
    loaded = model[1]
    zeros = loaded._replace(params=jax.tree.map(lambda x: 0 * x, loaded.params))
    zoo.export(zeros, tmp_path / "zeros")
    server.add(NAME, model[0] / "published")
    assert is_same(zoo.load(NAME), loaded)
    server.add(NAME, tmp_path / "zeros")
    assert is_same(zoo.load(NAME), zeros)


def test_a_folder_or_file_of_that_name_is_used_instead(server, model, monkeypatch):
    server.add("gpt2", model[0] / "published")
    monkeypatch.chdir(model[0])
    Path("gpt2").touch()
    for name in (
        "published",
        "gpt2",
        "./published",
        "owner/tiny/bert",
        "~/bert",
        "/bert",
        "a/../b",
    ):
        assert hub.resolve(name) == Path(name)
    assert hub.resolve(Path(NAME)) == Path(NAME)
    Path("gpt2").unlink()
    assert not server.requests
    assert is_same(zoo.load("gpt2"), model[1])


@pytest.mark.parametrize(
    ("access", "token", "words"),
    [
        (None, None, "owner/none is not a folder here, and not on the Hub .*set HF_TOKEN"),
        ("private", None, "is not a folder here, and not on the Hub .*set HF_TOKEN"),
        ("private", "hf_wrong", "is not a folder here, and the Hub .* refuses the token"),
        ("gated", None, "gated on the Hub: ask for access at http.*, and set HF_TOKEN"),
    ],
)
def test_access_is_refused_in_one_line(server, model, monkeypatch, access, token, words):
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    name = NAME if access else "owner/none"
    server.add(NAME, model[0] / "published")
    server.access[NAME] = access
    with pytest.raises(OSError, match=words) as error:
        zoo.load(name)
    assert "\n" not in str(error.value)
    if access:
        monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
        assert is_same(zoo.load(name), model[1])


def test_what_a_repository_lacks_is_said_in_one_line(server, model):
    server.add(NAME, model[0] / "published")
    with pytest.raises(OSError, match="no revision 'v2'"):
        zoo.load(NAME, revision="v2")
    files = server.repositories[NAME]["main"]
    for missing, words in (("model.safetensors", "lacks weights"), ("config.json", "model.json")):
        del files[missing]
        with pytest.raises(OSError, match=words) as error:
            zoo.load(NAME)
        assert "\n" not in str(error.value)


def test_an_architecture_is_refused_before_its_weights_are_fetched(server, model):
    server.add(NAME, model[0] / "published")
    server.repositories[NAME]["main"]["config.json"] = b'{"model_type": "llama"}'
    with pytest.raises(ValueError, match="llama"):
        zoo.load(NAME)
    assert server.bodies == ["config.json"]


def test_without_the_hub_the_cache_is_used(server, model, monkeypatch, offline):
    server.add(NAME, model[0] / "published")
    zoo.load(NAME)
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    assert is_same(zoo.load(NAME), model[1])
    with pytest.raises(OSError, match="not a folder here, and the Hub cannot be reached") as error:
        zoo.load("owner/none")
    assert "\n" not in str(error.value)
    offline()
    with pytest.raises(OSError, match=r"not in the cache .*: unset HF_HUB_OFFLINE"):
        zoo.load("owner/none")


def test_an_incomplete_cache_is_not_taken_for_a_repository_without_weights(server, model, offline):
    server.add(NAME, model[0] / "published")
    hub.resolve_tokenizer(NAME)
    offline()
    with pytest.raises(OSError, match="not in the cache"):
        zoo.load(NAME)


def test_pretraining_starts_from_a_name(server, model):
    server.add(NAME, model[0] / "published")
    tiny_recipe = recipe("bert-tiny")
    fetched = corpus.tokenizer(tiny_recipe, None, folder=NAME)
    assert tokenizers.fingerprint(fetched) == tokenizers.fingerprint(model[1].tokenizer)
    assert set(server.bodies) == {"tokenizer.json", "tokenizer_config.json"}
    started = continued.continued(tiny_recipe, NAME)
    assert started.config == model[1].model.config


def test_the_command_line_obeys_the_environment(model, tmp_path):
    with hub_server.serve() as server:
        server.add(NAME, model[0] / "published")
        settings = {"HF_ENDPOINT": server.endpoint, "HF_HOME": "home", "HF_HUB_OFFLINE": "0"}
        arguments = ["import", NAME, "ours"]
        root = Path(__file__).parents[2]
        run = subprocess.run(
            [sys.executable, "-m", "train", *arguments],
            cwd=tmp_path,
            env={**os.environ, **settings, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
        )
    assert (run.stdout, run.stderr) == ("model folder: ours\n", "")
    assert list((tmp_path / "home" / "hub" / "models--owner--tiny-bert" / "snapshots").iterdir())
    assert is_same(zoo.load(tmp_path / "ours"), model[1])
