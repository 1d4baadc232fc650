"""ALBERT against transformers on wide random weights."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import zoo
from tests.wide import relative, widen
from zoo.formats import huggingface
from zoo.models import albert
from zoo.params import abstract, flatten

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-5
V, B, L = 97, 3, 20


def publish(cls, folder):
    """A wide model of transformers: two groups of two layers, embeddings narrower than layers."""
    config = transformers.AlbertConfig(
        vocab_size=V,
        max_position_embeddings=32,
        embedding_size=20,
        hidden_size=48,
        num_hidden_layers=4,
        num_hidden_groups=2,
        num_attention_heads=4,
        intermediate_size=112,
        classifier_dropout_prob=0.0,
        attn_implementation="eager",
    )
    model = cls(config).eval()
    widen(model)
    with torch.no_grad():  # norms about 1, or every score is small and attention has no gradient
        for name, parameter in model.named_parameters():
            if name.endswith(("LayerNorm.weight", "layer_norm.weight")):
                parameter += 1
    model.save_pretrained(folder)
    return model, folder


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return publish(transformers.AlbertForPreTraining, tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    return publish(transformers.AlbertForMaskedLM, tmp_path_factory.mktemp("masked"))


@pytest.fixture(scope="module")
def batch():
    """Tokens, segments and a mask of ones and zeros."""
    draw = np.random.default_rng(0)
    tokens_BL = draw.integers(1, V, (B, L))
    lengths_B1, turns_B1 = np.array([[20], [13], [5]]), np.array([[9], [4], [2]])
    segments_BL = (np.arange(L) >= turns_B1).astype(np.int64)
    return tokens_BL, segments_BL, (np.arange(L) < lengths_B1).astype(np.int64)


def asked(model, batch, **options):
    tokens_BL, segments_BL, real_BL = map(torch.from_numpy, batch)
    return model(tokens_BL, attention_mask=real_BL, token_type_ids=segments_BL, **options)


def test_both_heads_equal_on_padded_pairs(published, batch):
    theirs, folder = published
    model, params, _ = zoo.load(folder)
    assert isinstance(model, albert.AlbertPretraining)
    with torch.no_grad():
        expected = asked(theirs, batch)
    real = batch[2].astype(bool)
    output = model.apply({"params": params}, *map(jnp.asarray, batch))
    logits_BLV, expected_BLV = np.asarray(output.logits_BLV), expected.prediction_logits.numpy()
    assert relative(logits_BLV[real], expected_BLV[real]) < TOLERANCE
    assert relative(output.order_B2, expected.sop_logits.numpy()) < TOLERANCE


def test_the_masked_head_alone_equals_on_padded_pairs(masked, batch):
    theirs, folder = masked
    model, params, _ = zoo.load(folder)
    assert isinstance(model, albert.AlbertLM)
    with torch.no_grad():
        expected_BLV = asked(theirs, batch).logits.numpy()
    real = batch[2].astype(bool)
    logits_BLV = np.asarray(model.apply({"params": params}, *map(jnp.asarray, batch)))
    assert relative(logits_BLV[real], expected_BLV[real]) < TOLERANCE


def test_tokens_alone_are_one_full_segment(published, batch):
    theirs, folder = published
    model, params, _ = zoo.load(folder)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(batch[0]))
    output = model.apply({"params": params}, batch[0])
    assert relative(output.logits_BLV, expected.prediction_logits.numpy()) < TOLERANCE
    assert relative(output.order_B2, expected.sop_logits.numpy()) < TOLERANCE


def test_every_layer_equals_and_two_blocks_serve_four_layers(published, batch):
    theirs, folder = published
    model, params, _ = zoo.load(folder)
    with torch.no_grad():
        expected = asked(theirs, batch, output_hidden_states=True).hidden_states
    _, state = model.apply(
        {"params": params},
        *map(jnp.asarray, batch),
        capture_intermediates=lambda module, _: isinstance(module, zoo.attention.PostNormBlock),
        mutable="intermediates",
    )
    trunk = state["intermediates"]["trunk"]
    ours = [hidden_BLD for i in (0, 1) for hidden_BLD in trunk[f"blocks_{i}"]["__call__"]]
    real = batch[2].astype(bool)
    for ours_BLD, hidden_BLD in zip(ours, expected[1:], strict=True):
        assert relative(np.asarray(ours_BLD)[real], hidden_BLD.numpy()[real]) < TOLERANCE
    assert {name for name in params["trunk"] if "blocks" in name} == {"blocks_0", "blocks_1"}


def test_every_gradient_equals(published, batch):
    theirs, folder = published
    model, params, _ = zoo.load(folder)
    targets_BL = np.where(batch[2] > 0, np.roll(batch[0], 3, axis=1), -100)
    order_B = np.array([0, 1, 1])
    theirs.zero_grad()
    asked(
        theirs,
        batch,
        labels=torch.from_numpy(targets_BL),
        sentence_order_label=torch.from_numpy(order_B),
    ).loss.backward()

    def loss(params):
        output = model.apply({"params": params}, *map(jnp.asarray, batch))
        logs_BLV = jax.nn.log_softmax(output.logits_BLV)
        logs_BL = jnp.take_along_axis(logs_BLV, jnp.maximum(targets_BL, 0)[..., None], 2)[..., 0]
        masked = -logs_BL.sum(where=targets_BL >= 0) / (targets_BL >= 0).sum()
        return masked - jax.nn.log_softmax(output.order_B2)[jnp.arange(B), order_B].mean()

    gradient = flatten(jax.jit(jax.grad(loss))(params))
    named = dict(theirs.named_parameters())
    for path, ours in gradient.items():
        name, layout = huggingface._row(albert.WEIGHTS, path)
        expected = named[name].grad.numpy()
        if path == "trunk/token_embedding/embedding":  # torch gives a padding id no input gradient
            ours, expected = ours[1:], expected[1:]
        if path.endswith("key/bias"):  # exactly zero: a shift of all scores
            assert np.abs(ours).max() < 1e-5
        else:
            assert relative(ours, huggingface._to_ours(layout, ours.shape, expected)) < 1e-4, path


def test_chosen_positions_score_as_in_the_whole_row(published, masked, batch):
    predictions_BP = np.array([[3, 19, 0], [12, 1, 5], [4, 0, 2]])
    arrays = [jnp.asarray(array) for array in batch]
    pick = lambda logits_BLV: np.take_along_axis(
        np.asarray(logits_BLV), predictions_BP[..., None], 1
    )
    model, params, _ = zoo.load(published[1])
    whole = model.apply({"params": params}, *arrays)
    scores, order_B2 = model.apply({"params": params}, *arrays, predictions_BP, method="scores")
    assert relative(scores.logits(), pick(whole.logits_BLV)) < TOLERANCE
    assert relative(order_B2, whole.order_B2) < TOLERANCE

    model, params, _ = zoo.load(masked[1])
    whole_BLV = model.apply({"params": params}, *arrays)
    scores = model.apply({"params": params}, *arrays, predictions_BP, method="scores")
    assert relative(scores.logits(), pick(whole_BLV)) < TOLERANCE


def test_a_gap_is_filled_with_what_is_believed_of_it(published, masked, batch):
    gaps_BP = np.array([[3, 19], [12, 1], [4, 0]])
    for _, folder in (published, masked):
        model, params, _ = zoo.load(folder)
        output = model.apply({"params": params}, *batch[:2])
        logits_BLV = output[0] if isinstance(output, tuple) else output
        found_BPV = model.apply({"params": params}, *batch[:2], gaps_BP, method="fill")
        expected_BPV = np.take_along_axis(np.asarray(logits_BLV), gaps_BP[..., None], 1)
        assert relative(found_BPV, expected_BPV) < TOLERANCE


def test_export_then_transformers_then_equal(published, masked, tmp_path):
    for theirs, folder in (published, masked):
        model, params, _ = zoo.load(folder)
        out = tmp_path / type(model).__name__
        huggingface.write(out, albert, model.config, params, cls=type(model))
        again, report = type(theirs).from_pretrained(out, output_loading_info=True)
        assert not any(report.values()), report
        assert again.config.architectures == [type(theirs).__name__]
        before, after = dict(theirs.named_parameters()), dict(again.named_parameters())
        assert before.keys() == after.keys()
        for name, parameter in before.items():
            assert torch.equal(parameter, after[name]), name
        for name in ("hidden_act", "num_hidden_groups", "embedding_size", "layer_norm_eps"):
            assert getattr(again.config, name) == getattr(theirs.config, name)


def test_the_releases_for_masked_tokens_keep_a_pooler_and_lack_an_order_head(published, tmp_path):
    _, folder = published
    tensors = load_file(folder / "model.safetensors")
    kept = {name: x for name, x in tensors.items() if not name.startswith("sop_classifier")}
    fields = huggingface.read_config(folder) | {"architectures": ["AlbertForMaskedLM"]}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    save_file(kept, tmp_path / "model.safetensors")
    model, params, _ = zoo.load(tmp_path)
    assert isinstance(model, albert.AlbertLM)
    options = {"cls": "AlbertPretraining", "new": ("order_head",), "key": jax.random.key(0)}
    _, whole, _ = zoo.load(tmp_path, **options)
    assert np.array_equal(whole["pooler"]["dense"]["bias"], tensors["albert.pooler.bias"])
    assert jax.tree.all(
        jax.tree.map(np.array_equal, params, {name: whole[name] for name in params})
    )


def test_several_blocks_a_group_are_refused(published, tmp_path):
    _, folder = published
    fields = huggingface.read_config(folder) | {"inner_group_num": 2}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match="inner_group_num = 2; zoo has 1"):
        zoo.load(tmp_path)


def test_each_use_of_a_shared_block_drops_other_values():
    config = albert.Config(V, 32, 2, 1, 8, 16, 8, 0.5, 2, 4)
    trunk = albert.Albert(config)
    tokens_BL = np.arange(40).reshape(2, 20)
    params = trunk.init(jax.random.key(0), tokens_BL)
    _, state = trunk.apply(
        params,
        tokens_BL,
        train=True,
        rngs={"dropout": jax.random.key(0)},
        capture_intermediates=lambda module, _: module.name == "mlp_dropout",
        mutable="intermediates",
    )
    first, second = state["intermediates"]["blocks_0"]["mlp_dropout"]["__call__"]
    assert 0.3 < ((np.asarray(first) == 0) == (np.asarray(second) == 0)).mean() < 0.7


SIZES = ("albert-tiny", "albert-base-v2", "albert-xlarge-v1", "albert-xxlarge-v1")


@pytest.mark.parametrize(
    ("size", "published_name"),
    [(SIZES[0], name) for name in albert.MODELS]
    + [(size, "AlbertForMaskedLM") for size in SIZES[1:]],
)
def test_sizes_count_as_transformers_does(size, published_name):
    config = albert.SIZES[size]
    ours = flatten(abstract(albert.MODELS[published_name](config)))
    with torch.device("meta"):
        theirs = getattr(transformers, published_name)(
            transformers.AlbertConfig(**albert.published(config))
        )
    assert sum(x.size for x in ours.values()) == sum(p.numel() for p in theirs.parameters())


def test_weights_are_drawn_within_two_of_0_02():
    model = albert.Model(albert.Config(512, 64, 2, 4, 64, 128, 16, embed_width=64))
    params = flatten(jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))["params"])
    for path, array in params.items():
        if path.endswith(("kernel", "embedding")):
            assert np.abs(array).max() <= 2 * albert.STD, path
        else:
            assert (array == float(path.endswith("scale"))).all(), path
    # A normal cut at two standard deviations keeps 0.8796 of its own.
    table = params["trunk/token_embedding/embedding"]
    assert abs(float(table.std()) / albert.STD - 0.8796) < 0.01
