"""Marian's folders: tied copies, constants, generation settings, and refused configs."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.parity.table import ROWS
from tests.parity.test_parity import build
from zoo.formats import huggingface
from zoo.models import transformer
from zoo.params import abstract, flatten

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
save_file = pytest.importorskip("safetensors.torch").save_file


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    theirs, folder = build(ROWS["MarianMTModel-swish"]), tmp_path_factory.mktemp("published")
    theirs.save_pretrained(folder)
    return theirs, folder


def test_an_exported_folder_has_the_generation_settings_of_transformers(published, tmp_path):
    model, _, _ = zoo.load(published[1])
    zoo.export(zoo.load(published[1]), tmp_path)
    reloaded = transformers.MarianMTModel.from_pretrained(tmp_path)
    start, end, settings = model.config.start, model.config.end, reloaded.generation_config
    assert (settings.decoder_start_token_id, settings.pad_token_id) == (start, start)
    assert (settings.eos_token_id, settings.forced_eos_token_id) == (end, end)
    assert settings.bad_words_ids == [[start]]
    reloaded.save_pretrained(tmp_path / "again")
    assert zoo.load(tmp_path / "again")[0] == model


def test_folders_of_old_versions_with_copies_and_sinusoids_are_loaded(published, tmp_path):
    theirs, folder = published
    tensors = {name: x.detach().clone().contiguous() for name, x in theirs.state_dict().items()}
    assert {"lm_head.weight", "model.encoder.embed_positions.weight"} < set(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    shutil.copy(folder / "config.json", tmp_path)
    model, params, _ = zoo.load(folder)
    old_model, old_params, _ = zoo.load(tmp_path)
    assert old_model == model
    assert jax.tree.all(jax.tree.map(jnp.array_equal, old_params, params))


def test_a_folder_with_an_unsupported_computation_is_refused(published, tmp_path):
    fields = json.loads((published[1] / "config.json").read_text())
    for name, value in (
        ("static_position_embeddings", False),
        ("normalize_before", True),
        ("decoder_vocab_size", 98),
        ("decoder_attention_heads", 5),
    ):
        (tmp_path / "config.json").write_text(json.dumps(fields | {name: value}))
        with pytest.raises(ValueError, match=rf"{name}.*{value!r}"):
            zoo.load(tmp_path)


def test_an_unknown_activation_is_refused(published, tmp_path):
    fields = json.loads((published[1] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(fields | {"activation_function": "mish"}))
    with pytest.raises(ValueError, match="activation_function = 'mish'; zoo supports relu"):
        zoo.load(tmp_path)


def test_sinusoids_are_those_of_transformers():
    for width in (48, 512):
        theirs = transformers.models.marian.modeling_marian.MarianSinusoidalPositionalEmbedding
        table = theirs(2048, width).create_weight().numpy()
        assert np.abs(np.asarray(transformer.sinusoids(2048, width)) - table).max() < 1e-7


def test_sizes_have_the_parameter_counts_of_transformers():
    format_ = huggingface.find_class(transformer.Model)
    for config in transformer.SIZES.values():
        ours = flatten(abstract(transformer.Model(config)))
        with torch.device("meta"):
            fields = transformers.MarianConfig(**format_.from_config(config))
            theirs = transformers.MarianMTModel(fields)
        sinusoids = 2 * config.max_length * config.width
        expected = sum(p.numel() for p in theirs.parameters()) - sinusoids + config.vocab_size
        assert sum(x.size for x in ours.values()) == expected
