"""Hugging Face folders: every tensor and config field must match, or the error is one line."""

import json
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization
from safetensors.flax import save_file as save_flax
from safetensors.numpy import load_file, save_file

import zoo
from tests import tiny
from tests.formats import torch_files
from zoo import registry
from zoo.checkpoints import model_folder
from zoo.formats import huggingface
from zoo.models import bert
from zoo.params import abstract, flatten

ROOT = Path(__file__).parents[2]
QUERY = "bert.encoder.layer.0.attention.self.query.weight"
WORDS = "bert.embeddings.word_embeddings.weight"


def folder_of(path, name="bert"):
    model = tiny.TABLE[name].model
    huggingface.write(path, huggingface.find_class(type(model)), model, tiny.wide(model))
    return path


def change(folder, edit, **fields):
    """Rewrite the tensors of a folder, and fields of its config."""
    tensors = dict(load_file(folder / "model.safetensors"))
    tensors = edit(tensors) or tensors
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


def refused(folder, error=ValueError, **options) -> str:
    with pytest.raises(error) as caught:
        read(folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def read(folder, name="bert", **options):
    cls = tiny.TABLE[name].architecture.Model
    return huggingface.read(folder, huggingface.find_class(cls), cls, **options)


def assert_reads(folder, name="bert", **options):
    row = tiny.TABLE[name]
    config, params = read(folder, name, **options)
    assert config == row.config
    loaded = flatten(params)
    for path, array in flatten(tiny.wide(row.model)).items():
        assert loaded[path].dtype == np.float32
        assert np.array_equal(loaded[path], array), path


def test_all_mismatches_are_reported_at_once(tmp_path):
    def edit(tensors):
        del tensors["bert.pooler.dense.bias"]
        tensors["bert.pooler.dense.more"] = np.zeros(3, np.float32)
        tensors[QUERY] = np.zeros((5, 24), np.float32)

    folder = folder_of(tmp_path)
    change(folder, edit)
    message = refused(folder)
    assert "missing bert.pooler.dense.bias" in message
    assert "unexpected bert.pooler.dense.more" in message
    assert f"{QUERY} has shape (5, 24), not (24, 24)" in message
    assert message.count(";") == 2


def test_new_parameters_are_initialized_and_ignored_tensors_dropped(tmp_path):
    def edit(tensors):
        tensors["classifier.weight"] = np.zeros(3, np.float32)
        return {name: x for name, x in tensors.items() if not name.startswith("cls.seq")}

    folder = folder_of(tmp_path)
    change(folder, edit)
    options = {"new": ("next_head",), "ignore": ("classifier",)}
    assert "unexpected classifier.weight" in refused(
        folder, new=("next_head",), key=jax.random.key(0)
    )
    assert "missing cls.seq_relationship.weight" in refused(folder, ignore=("classifier",))
    assert "need a key" in refused(folder, **options)
    _, params = read(folder, **options, key=jax.random.key(0))
    initial_params = bert.Model(tiny.TABLE["bert"].config).init(jax.random.key(0), tiny.TOKENS)[
        "params"
    ]
    assert np.array_equal(params["next_head"]["kernel"], initial_params["next_head"]["kernel"])
    assert np.abs(params["next_head"]["kernel"]).max() > 0
    del params["next_head"]
    kept = flatten(tiny.wide(tiny.TABLE["bert"].model))
    for path, array in flatten(params).items():
        assert np.array_equal(array, kept[path])


def test_shards_equal_one_file(tmp_path):
    folder = folder_of(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    where = {name: f"model-0000{1 + i % 3}-of-00003.safetensors" for i, name in enumerate(tensors)}
    for file in set(where.values()):
        save_file({n: x for n, x in tensors.items() if where[n] == file}, folder / file)
    index = {"metadata": {}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_reads(folder)
    (folder / "model-00002-of-00003.safetensors").unlink()
    assert "model-00002-of-00003.safetensors" in refused(folder, FileNotFoundError)


def test_a_bare_trunk_is_read_without_its_prefix(tmp_path):
    folder = folder_of(tmp_path, "gpt2")
    change(folder, lambda tensors: {n.removeprefix("transformer."): x for n, x in tensors.items()})
    assert "wte.weight" in load_file(folder / "model.safetensors")
    assert_reads(folder, "gpt2")


def test_norms_may_have_their_old_names(tmp_path):
    old = lambda name: name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta")
    folder = folder_of(tmp_path)
    change(folder, lambda tensors: {old(n): x for n, x in tensors.items()})
    assert "bert.embeddings.LayerNorm.gamma" in load_file(folder / "model.safetensors")
    assert_reads(folder)


def test_buffers_of_old_versions_are_ignored(tmp_path):
    buffers = {
        "bert": ("bert.embeddings.position_ids",),
        "gpt2": ("transformer.h.0.attn.bias", "transformer.h.1.attn.masked_bias"),
        "gpt_neo": ("transformer.h.0.attn.attention.bias",),
    }
    for name, buffer_names in buffers.items():
        folder = folder_of(tmp_path / name, name)
        change(
            folder,
            lambda tensors, buffer_names=buffer_names: (
                tensors | dict.fromkeys(buffer_names, np.ones((1, 8)))
            ),
        )
        assert_reads(folder, name)


def test_other_orders_of_global_and_local_attention_are_refused(tmp_path):
    folder = folder_of(tmp_path, "gpt_neo")
    assert huggingface.read_config(folder)["attention_types"] == [[["global", "local"], 1]]
    change(folder, dict, attention_types=[[["global"], 2]])
    with pytest.raises(
        ValueError, match=r"attention_types = .*'global'\], 2.*'local'\], 1\]\] only"
    ):
        read(folder, "gpt_neo")


def test_bfloat16_is_read_as_float32(tmp_path):
    folder = folder_of(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    bfloat16_tensors = {name: jnp.asarray(x, jnp.bfloat16) for name, x in tensors.items()}
    save_flax(bfloat16_tensors, folder / "model.safetensors")
    _, params = read(folder)
    expected = flatten(tiny.wide(tiny.TABLE["bert"].model))
    for path, array in flatten(params).items():
        assert array.dtype == np.float32
        assert np.array_equal(array, expected[path].astype(jnp.bfloat16).astype(np.float32)), path


def test_a_tied_copy_must_be_equal(tmp_path):
    folder = folder_of(tmp_path)
    copy = "cls.predictions.decoder.weight"
    change(folder, lambda tensors: tensors | {copy: tensors[WORDS].copy()})
    assert_reads(folder)
    change(folder, lambda tensors: tensors | {copy: tensors[WORDS] + 1})
    assert f"{copy} differs from {WORDS}" in refused(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [("is_decoder", True), ("position_embedding_type", "relative_key")],
)
def test_an_unsupported_computation_is_refused(tmp_path, field, value):
    folder = folder_of(tmp_path)
    change(folder, lambda tensors: None, **{field: value})
    assert f"{field} = {value!r}" in refused(folder)


def test_activation_and_epsilon_are_read(tmp_path):
    folder = folder_of(tmp_path)
    change(folder, lambda tensors: None, hidden_act="gelu_new", layer_norm_eps=1e-6)
    config, _ = read(folder)
    assert (config.activation, config.epsilon) == ("gelu_tanh", 1e-6)
    change(folder, lambda tensors: None, hidden_act="quick_gelu")
    assert "'quick_gelu'; zoo supports relu, gelu" in refused(folder)


def test_a_config_that_a_folder_cannot_express_is_not_exported(tmp_path):
    row = tiny.TABLE["bert"]
    model = bert.Model(replace(row.config, head_width=16))
    with pytest.raises(
        ValueError, match=r"the Hugging Face format of bert cannot express head_width = 16"
    ):
        huggingface.write(tmp_path, huggingface.find_class(type(model)), model, {})


def test_a_recurrent_model_has_no_hugging_face_format(tmp_path):
    model = tiny.TABLE["seq2seq"].model
    model_folder.write(tmp_path / "ours", "seq2seq", model.config, tiny.wide(model))
    with pytest.raises(ValueError, match="transformers has no Seq2SeqLM"):
        zoo.export(zoo.load(tmp_path / "ours"), tmp_path / "theirs")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.json").write_text('{"model_type": "seq2seq"}')
    with pytest.raises(ValueError, match="load the model folder that it was exported from"):
        zoo.load(tmp_path / "old")


def published():
    """Yield every class of the table that has a Hugging Face format."""
    for row in tiny.TABLE.values():
        for cls in registry.classes(row.architecture):
            if huggingface.find_class(cls):
                yield cls, row.config


def untied():
    """Yield the classes whose head may have a table of its own, with one."""
    for cls, config in published():
        if hasattr(config, "output_table") and cls in registry.of(cls).MODELS:
            yield cls, replace(config, output_table="untied")


def test_a_weight_table_names_every_parameter_once():
    paths = {}
    for cls, config in (*published(), *untied()):
        format_ = huggingface.find_class(cls)
        parameters = flatten(abstract(cls(config)))
        names = [format_.row(config, path)[0] for path in parameters]
        assert len(set(names)) == len(names), cls
        rows = {re.sub(r"_\d+/", "_{}/", path) for path in parameters}
        paths.setdefault(id(format_), (format_, set()))[1].update(rows)
    for format_, rows in paths.values():
        assert rows == format_.weights.keys() | format_.untied.keys(), format_.model_type


def test_export_then_import_is_bit_exact(tmp_path):
    for cls, config in published():
        params = tiny.wide(cls(config))
        huggingface.write(tmp_path, huggingface.find_class(cls), cls(config), params)
        model, params_again, _ = zoo.load(tmp_path)
        assert model == cls(config)
        assert jax.tree.structure(params_again) == jax.tree.structure(params)
        reloaded = flatten(params_again)
        for path, array in flatten(params).items():
            assert np.array_equal(array, reloaded[path]), (cls, path)


def as_pickle(folder):
    tensors = load_file(folder / "model.safetensors")
    torch_files.write_zip(folder / "pytorch_model.bin", tensors)


def as_msgpack(folder):
    """Write weights as Flax's models have them: kernels inputs first, other names."""
    tree = {}
    for name, array in load_file(folder / "model.safetensors").items():
        *parents, last = name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        if last == "weight" and "embeddings" in parents[-1]:
            last = "embedding"
        elif last == "weight":
            last = "kernel" if array.ndim == 2 else "scale"
        node[last] = array.T if last == "kernel" else array
    (folder / "flax_model.msgpack").write_bytes(serialization.msgpack_serialize(tree))


def as_shards(folder):
    tensors = load_file(folder / "model.safetensors")
    weight_map = {name: f"shard-{number % 3}.bin" for number, name in enumerate(tensors)}
    for file in set(weight_map.values()):
        part = {name: array for name, array in tensors.items() if weight_map[name] == file}
        torch_files.write_stream(folder / file, part)
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize("convert", [as_pickle, as_msgpack, as_shards])
def test_other_files_of_weights_give_the_same_parameters(tmp_path, convert):
    folder = folder_of(tmp_path)
    convert(folder)
    (folder / "model.safetensors").unlink()
    assert_reads(folder)


@pytest.mark.parametrize("convert", [None, as_pickle, as_msgpack])
def test_weights_that_are_integers_or_not_finite_are_refused_together(tmp_path, convert):
    def edit(tensors):
        tensors[QUERY][0, :3] = np.nan
        tensors["bert.pooler.dense.bias"][1] = -np.inf
        tensors[WORDS] = tensors[WORDS].astype(np.int64)

    folder = folder_of(tmp_path)
    change(folder, edit)
    if convert is not None:
        convert(folder)
        (folder / "model.safetensors").unlink()
    message = refused(folder)
    assert message.count("zoo import --unchecked") == 3
    assert f"{QUERY} has 3 of 576 values that are not finite" in message
    assert "bert.pooler.dense.bias has 1 of 24 values that are not finite" in message
    assert f"{WORDS} has the type int64, but weights are floats" in message
    _, params = read(folder, unchecked=True)
    assert np.isnan(flatten(params)["trunk/blocks_0/attention/query/kernel"]).sum() == 3


def test_a_number_that_float32_has_not_is_refused(tmp_path):
    folder = folder_of(tmp_path)
    change(folder, lambda tensors: tensors | {QUERY: np.full((24, 24), 1e39)})
    assert "576 of 576 values that are not finite" in refused(folder)


def test_a_pickle_of_anything_but_tensors_is_refused(tmp_path):
    folder = folder_of(tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"x": Path("y")}))
    assert "pathlib" in refused(folder)
    torch_files.write_zip(
        folder / "pytorch_model.bin", {}, torch_files.dictionary({"lr": b"K\x01"})
    )
    assert "'lr', which is no tensor" in refused(folder)


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({QUERY: "../model.safetensors"}, "not a file of its folder"),
        ({QUERY: "/etc/passwd"}, "not a file of its folder"),
        ({QUERY: "absent.bin"}, "no such file"),
        ({"other": "part.bin"}, "but it is not there"),
        ([QUERY], "not an index"),
    ],
)
def test_a_bad_index_is_refused(tmp_path, weight_map, message):
    folder = folder_of(tmp_path)
    (folder / "model.safetensors").unlink()
    torch_files.write_zip(folder / "part.bin", {QUERY: np.zeros((2, 2), np.float32)})
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert message in refused(folder, (ValueError, FileNotFoundError))


def test_a_folder_without_weights_names_the_files_that_are_read(tmp_path):
    folder = folder_of(tmp_path)
    (folder / "model.safetensors").unlink()
    assert "model.safetensors, pytorch_model.bin, flax" in refused(folder, FileNotFoundError)


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_a_truncated_file_is_reported_as_damaged(tmp_path, length):
    folder = folder_of(tmp_path)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:length])
    assert f"{file} is damaged" in refused(folder)


def test_a_bad_config_is_named(tmp_path):
    assert "has no config.json" in refused(tmp_path, FileNotFoundError)
    (tmp_path / "config.json").write_text("{")
    assert "config.json is not valid JSON" in refused(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ValueError, match=r"'llama'.*albert"):
        zoo.load(tmp_path)


def test_zoo_exports_what_it_loaded(tmp_path):
    folder = folder_of(tmp_path / "theirs", "gpt2")
    model, params, tokenizer = zoo.load(folder)
    assert tokenizer is None
    model_folder.write(tmp_path / "ours", "gpt2", model.config, params)
    model_again, params_again, _ = zoo.load(tmp_path / "ours")
    assert model_again == model
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), params, params_again))
    zoo.export(zoo.load(tmp_path / "ours"), tmp_path / "back")
    before = (folder / "model.safetensors").read_bytes()
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == before
    assert huggingface.read_config(tmp_path / "back") == huggingface.read_config(folder)


HEAVY = ("torch", "tensorflow", "transformers", "tensorflow_datasets", "train")
PROGRAM = f"""
import resource, sys
import jax, flax.linen
used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_utime
before = used()
import zoo, zoo.inference.generate, zoo.inference.fill_mask
seconds = used() - before
zoo.load(sys.argv[1])
imported = [name for name in {HEAVY} if name in sys.modules]
assert not imported, imported
assert seconds < 2, seconds
"""


def test_zoo_imports_without_torch_and_tensorflow_in_less_than_two_seconds(tmp_path):
    program = [sys.executable, "-c", PROGRAM, str(folder_of(tmp_path, "gpt2"))]
    process = subprocess.run(program, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
