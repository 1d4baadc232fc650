"""Folders of ALBERT, ELECTRA and RoBERTa that hold more or less than one full model."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import zoo
from tests import tiny
from tests.parity import table
from tests.parity.table import ROWS, L, V
from tests.parity.test_parity import build, call
from tests.wide import relative
from zoo.checkpoints import model_folder
from zoo.formats import huggingface
from zoo.models import albert, electra
from zoo.params import abstract, flatten

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-5
# Both networks: 3 layers of width 48 and 2 of width 24, on embeddings of width 20.
JOINT = electra.Config(
    vocab_size=V,
    max_length=32,
    num_layers=3,
    num_heads=4,
    width=48,
    mlp_width=112,
    head_width=12,
    dropout=0.0,
    embed_width=20,
    generator_layers=2,
    generator_heads=2,
    generator_width=24,
    generator_mlp_width=40,
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return a function of a row's name that returns their model and its folder."""
    root, built = tmp_path_factory.mktemp("published"), {}

    def folder(name):
        if name not in built:
            built[name] = build(ROWS[name]), root / name
            built[name][0].save_pretrained(root / name)
        return built[name]

    return folder


# ALBERT


def test_releases_for_masked_tokens_have_a_pooler_but_no_order_head(folders, tmp_path):
    _, folder = folders("AlbertForPreTraining")
    tensors = load_file(folder / "model.safetensors")
    kept = {name: x for name, x in tensors.items() if not name.startswith("sop_classifier")}
    fields = huggingface.read_config(folder) | {"architectures": ["AlbertForMaskedLM"]}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    save_file(kept, tmp_path / "model.safetensors")
    model, params, _ = zoo.load(tmp_path)
    assert isinstance(model, albert.AlbertLM)
    options = {"cls": "AlbertPretraining", "new": ("order_head",), "key": jax.random.key(0)}
    _, full_params, _ = zoo.load(tmp_path, **options)
    assert np.array_equal(full_params["pooler"]["dense"]["bias"], tensors["albert.pooler.bias"])
    shared_params = {name: full_params[name] for name in params}
    assert jax.tree.all(jax.tree.map(np.array_equal, params, shared_params))


# ELECTRA


def test_both_networks_exported_separately_equal_transformers_and_the_joint_model(tmp_path):
    joint_model, params = (
        electra.ElectraPretraining(JOINT),
        tiny.wide(electra.ElectraPretraining(JOINT)),
    )
    model_folder.write(tmp_path / "ours", "electra", JOINT, params)
    row = ROWS["ElectraForMaskedLM"]
    batch = table.batch(row)
    real = batch["documents"] > 0
    inputs = table.our_inputs(row, batch)
    joint = jax.jit(lambda params: joint_model.apply({"params": params}, **inputs))(params)
    pairs = {"ElectraGenerator": "ForMaskedLM", "ElectraDiscriminator": "ForPreTraining"}
    for ours, (name, suffix) in zip(joint, pairs.items(), strict=True):
        zoo.export(zoo.load(tmp_path / "ours"), tmp_path / name, name)
        theirs, report = getattr(transformers, f"Electra{suffix}").from_pretrained(
            tmp_path / name, attn_implementation="eager", output_loading_info=True
        )
        assert not any(report.values()), report
        with torch.no_grad():
            expected = call(row, theirs.eval(), batch).logits.numpy()
        assert relative(np.asarray(ours)[real], expected[real]) < TOLERANCE
        loaded_parts = [
            zoo.load(folder, cls=name) for folder in (tmp_path / "ours", tmp_path / name)
        ]
        for model, part_params, _ in loaded_parts:
            assert type(model).__name__ == name
            assert model.config.width == theirs.config.hidden_size
            assert jax.tree.all(jax.tree.map(np.array_equal, part_params, loaded_parts[0].params))
        model, part_params, _ = loaded_parts[0]
        output = jax.jit(lambda p, model=model: model.apply({"params": p}, **inputs))(part_params)
        assert relative(np.asarray(output)[real], expected[real]) < TOLERANCE
    zoo.export(zoo.load(tmp_path / "ours"), tmp_path / "either")
    fields = huggingface.read_config(tmp_path / "either")
    assert fields["architectures"] == ["ElectraForPreTraining"]


def test_one_network_cannot_be_loaded_as_the_other(folders, tmp_path):
    generator, discriminator = folders("ElectraForMaskedLM"), folders("ElectraForPreTraining")

    def refused(folder, cls):
        with pytest.raises(ValueError, match=cls) as caught:
            zoo.load(folder, cls=cls)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    message = refused(generator[1], "ElectraDiscriminator")
    assert f"{generator[1]}, which contains ElectraForMaskedLM, does not fit" in message
    assert "missing discriminator_predictions.dense.weight" in message
    assert "unexpected generator_predictions.dense.weight" in message
    message = refused(discriminator[1], "ElectraGenerator")
    assert "which contains ElectraForPreTraining, does not fit ElectraGenerator" in message
    message = refused(discriminator[1], "ElectraPretraining")
    assert message.endswith("ElectraPretraining cannot be loaded from a Hugging Face folder")

    model, params, _ = zoo.load(generator[1])
    model_folder.write(tmp_path, "electra", model.config, params, cls="ElectraGenerator")
    assert zoo.load(tmp_path)[0] == model
    for cls in ("ElectraDiscriminator", "ElectraPretraining"):
        assert f"{tmp_path} does not fit {cls}: " in refused(tmp_path, cls)


def test_a_bare_trunk_is_loaded_without_prefix_and_head(folders, tmp_path):
    theirs, folder = folders("ElectraForPreTraining")
    theirs.electra.save_pretrained(tmp_path)
    _, expected, _ = zoo.load(folder)
    _, trunk_params, _ = zoo.load(tmp_path, new=("replaced_head",), key=jax.random.key(0))
    assert jax.tree.all(jax.tree.map(np.array_equal, trunk_params["trunk"], expected["trunk"]))


def test_electras_sizes_have_the_parameter_counts_of_transformers():
    format_ = huggingface.find_class(electra.ElectraDiscriminator)
    published_classes = {"ElectraForMaskedLM": electra.ElectraGenerator}
    published_classes["ElectraForPreTraining"] = electra.ElectraDiscriminator
    for name, size in electra.SIZES.items():
        counts = []
        for published, cls in published_classes.items():
            config = electra.generator(size) if cls is electra.ElectraGenerator else size
            ours = flatten(abstract(cls(config)))
            with torch.device("meta"):
                fields = transformers.ElectraConfig(**format_.describe(config))
                theirs = getattr(transformers, published)(fields)
            counts.append(sum(p.numel() for p in theirs.parameters()))
            assert sum(x.size for x in ours.values()) == counts[-1], name
            shared = sum(p.numel() for p in theirs.electra.embeddings.parameters())
        joint = flatten(abstract(electra.Model(size)))
        assert sum(x.size for x in joint.values()) == sum(counts) - shared


# RoBERTa


def test_rows_of_full_length_are_supported_and_longer_ones_are_refused(folders):
    theirs, folder = folders("RobertaForMaskedLM")
    model, params, _ = zoo.load(folder)
    tokens_BL = np.random.default_rng(1).integers(2, V, (3, model.config.max_length))
    assert tokens_BL.shape[1] == 32
    run = jax.jit(lambda tokens_BL: model.apply({"params": params}, tokens_BL))
    with torch.no_grad():
        expected_BLV = theirs(torch.from_numpy(tokens_BL)).logits.numpy()
    assert relative(run(tokens_BL), expected_BLV) < TOLERANCE
    with pytest.raises(ValueError, match="a row of 33 tokens is longer than the 32 positions"):
        run(np.full((1, 33), 2))


def test_robertas_config_is_exported_to_transformers(folders, tmp_path):
    for name in ("RobertaForMaskedLM", "AlbertForPreTraining"):
        theirs, folder = folders(name)
        zoo.export(zoo.load(folder), tmp_path / name)
        config = type(theirs.config).from_pretrained(tmp_path / name)
        for field in (
            *("max_position_embeddings", "type_vocab_size", "layer_norm_eps", "hidden_act"),
            *(("pad_token_id",) if name[0] == "R" else ("num_hidden_groups", "embedding_size")),
        ):
            assert getattr(config, field) == getattr(theirs.config, field), field


def test_a_classifier_is_initialized_from_a_masked_model(folders):
    _, folder = folders("RobertaForMaskedLM")
    options = {"cls": "RobertaClassifier", "new": ["dense", "projection"], "ignore": ["lm_head"]}
    model, params, _ = zoo.load(folder, key=jax.random.key(0), **options)
    _, masked_params, _ = zoo.load(folder)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, params["trunk"], masked_params["trunk"]))
    shape = jax.eval_shape(model.apply, {"params": params}, np.full((1, L), 2)).shape
    assert shape == (1, len(model.config.labels))
