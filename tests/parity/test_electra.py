"""ELECTRA against transformers on wide random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests import tiny
from tests.wide import relative, widen
from zoo.checkpoints import model_folder
from zoo.formats import huggingface
from zoo.models import electra
from zoo.params import abstract, flatten

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-5
V, B, L = 97, 3, 20
# Both networks: 3 layers of width 48 and 2 of width 24, on embeddings of width 20.
JOINT = electra.Config(V, 32, 3, 4, 48, 112, 12, 0.0, 20, 2, 2, 24, 40)


def publish(cls, folder, embed_width):
    """A wide model of transformers, its layers of width 48."""
    config = transformers.ElectraConfig(
        vocab_size=V,
        max_position_embeddings=32,
        embedding_size=embed_width,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=112,
        attn_implementation="eager",
    )
    model = cls(config).eval()
    widen(model)
    with torch.no_grad():  # norms about 1, or every score is small and attention has no gradient
        for name, parameter in model.named_parameters():
            if name.endswith("LayerNorm.weight"):
                parameter += 1
    model.save_pretrained(folder)
    return model, folder


@pytest.fixture(scope="module", params=[20, 48])
def discriminator(request, tmp_path_factory):
    """Embeddings narrower than the layers, or as wide."""
    folder = tmp_path_factory.mktemp("discriminator")
    return publish(transformers.ElectraForPreTraining, folder, request.param)


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    return publish(transformers.ElectraForMaskedLM, tmp_path_factory.mktemp("generator"), 20)


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


def logits(model, params, batch, **options):
    return np.asarray(model.apply({"params": params}, *map(jnp.asarray, batch), **options))


def test_the_discriminator_equals_on_padded_pairs(discriminator, batch):
    theirs, folder = discriminator
    model, params, _ = zoo.load(folder)
    assert isinstance(model, electra.ElectraDiscriminator)
    narrow = model.config.embed_width != model.config.width
    assert ("project" in params["trunk"]) == narrow
    with torch.no_grad():
        expected_BL = asked(theirs, batch).logits.numpy()
    real = batch[2].astype(bool)
    assert relative(logits(model, params, batch)[real], expected_BL[real]) < TOLERANCE


def test_the_generator_equals_on_padded_pairs(generator, batch):
    theirs, folder = generator
    model, params, _ = zoo.load(folder)
    assert isinstance(model, electra.ElectraGenerator)
    with torch.no_grad():
        expected_BLV = asked(theirs, batch).logits.numpy()
    real = batch[2].astype(bool)
    assert relative(logits(model, params, batch)[real], expected_BLV[real]) < TOLERANCE


def test_tokens_alone_are_one_full_segment(discriminator, generator, batch):
    for theirs, folder in (discriminator, generator):
        model, params, _ = zoo.load(folder)
        with torch.no_grad():
            expected = theirs(torch.from_numpy(batch[0])).logits.numpy()
        assert relative(logits(model, params, batch[:1]), expected) < TOLERANCE


def test_every_layer_equals(discriminator, batch):
    theirs, folder = discriminator
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
    assert len(expected) == 4  # the embeddings too, which the first block shows right or wrong
    for i, hidden_BLD in enumerate(expected[1:]):
        ours_BLD = np.asarray(trunk[f"blocks_{i}"]["__call__"][0])
        real = batch[2].astype(bool)
        assert relative(ours_BLD[real], hidden_BLD.numpy()[real]) < TOLERANCE, i


def assert_gradients_equal(loss, params, theirs):
    gradient = flatten(jax.jit(jax.grad(loss))(params))
    named = dict(theirs.named_parameters())
    for path, ours in gradient.items():
        name, layout = huggingface._row(electra.WEIGHTS, path)
        expected = named[name].grad.numpy()
        if path.endswith("token_embedding/embedding"):  # torch gives a padding id no input gradient
            ours, expected = ours[1:], expected[1:]
        if path.endswith("key/bias"):  # exactly zero: a shift of all scores
            assert np.abs(ours).max() < 1e-5
        else:
            assert relative(ours, huggingface._to_ours(layout, ours.shape, expected)) < 1e-4, path


def test_every_gradient_of_the_discriminator_equals(discriminator, batch):
    theirs, folder = discriminator
    model, params, _ = zoo.load(folder)
    replaced_BL = np.random.default_rng(1).integers(0, 2, (B, L))
    theirs.zero_grad()
    asked(theirs, batch, labels=torch.from_numpy(replaced_BL)).loss.backward()

    def loss(params):
        logits_BL = model.apply({"params": params}, *map(jnp.asarray, batch))
        losses_BL = jnp.logaddexp(0, jnp.where(replaced_BL, -logits_BL, logits_BL))
        return losses_BL.mean(where=batch[2] > 0)

    assert_gradients_equal(loss, params, theirs)


def test_every_gradient_of_the_generator_equals(generator, batch):
    theirs, folder = generator
    model, params, _ = zoo.load(folder)
    targets_BL = np.where(batch[2] > 0, np.roll(batch[0], 3, axis=1), -100)
    theirs.zero_grad()
    asked(theirs, batch, labels=torch.from_numpy(targets_BL)).loss.backward()

    def loss(params):
        logs_BLV = jax.nn.log_softmax(model.apply({"params": params}, *map(jnp.asarray, batch)))
        logs_BL = jnp.take_along_axis(logs_BLV, jnp.maximum(targets_BL, 0)[..., None], 2)[..., 0]
        return -logs_BL.mean(where=targets_BL >= 0)

    assert_gradients_equal(loss, params, theirs)


def test_a_pair_taken_apart_equals_transformers_and_itself(batch, tmp_path):
    whole, params = electra.ElectraPretraining(JOINT), tiny.wide(electra.ElectraPretraining(JOINT))
    model_folder.write(tmp_path / "ours", "electra", JOINT, params)
    joint = whole.apply({"params": params}, *map(jnp.asarray, batch))
    real = batch[2].astype(bool)
    for name, ours in zip(("ElectraGenerator", "ElectraDiscriminator"), joint, strict=True):
        zoo.export(tmp_path / "ours", tmp_path / name, name)
        published = {cls.__name__: name for name, cls in electra.MODELS.items()}[name]
        theirs, report = getattr(transformers, published).from_pretrained(
            tmp_path / name, attn_implementation="eager", output_loading_info=True
        )
        assert not any(report.values()), report
        with torch.no_grad():
            expected = asked(theirs.eval(), batch).logits.numpy()
        assert relative(np.asarray(ours)[real], expected[real]) < TOLERANCE
        for folder in (tmp_path / "ours", tmp_path / name):
            model, part, _ = zoo.load(folder, cls=name)
            assert type(model).__name__ == name
            found = logits(model, part, batch)
            assert relative(found[real], expected[real]) < TOLERANCE
            assert model.config.width == theirs.config.hidden_size
    zoo.export(tmp_path / "ours", tmp_path / "either")
    fields = huggingface.read_config(tmp_path / "either")
    assert fields["architectures"] == ["ElectraForPreTraining"]


def test_guess_and_detect_are_what_the_whole_returns(batch):
    model = electra.ElectraPretraining(JOINT)
    params = {"params": tiny.wide(model)}
    predictions_BP = np.array([[3, 19, 0], [12, 1, 5], [4, 0, 2]])
    arrays = [jnp.asarray(array) for array in batch]
    whole = model.apply(params, *arrays)
    scores = model.apply(params, *arrays, predictions_BP, method="guess")
    expected_BPV = np.take_along_axis(np.asarray(whole.logits_BLV), predictions_BP[..., None], 1)
    assert relative(scores.logits(), expected_BPV) < TOLERANCE
    assert relative(model.apply(params, *arrays, method="detect"), whole.replaced_BL) < TOLERANCE


def test_chosen_positions_score_as_in_the_whole_row_and_fill_gaps(generator, batch):
    model, params, _ = zoo.load(generator[1])
    predictions_BP = np.array([[3, 19, 0], [12, 1, 5], [4, 0, 2]])
    pick = lambda logits_BLV: np.take_along_axis(logits_BLV, predictions_BP[..., None], 1)
    arrays = [jnp.asarray(array) for array in batch]
    scores = model.apply({"params": params}, *arrays, predictions_BP, method="scores")
    assert relative(scores.logits(), pick(logits(model, params, batch))) < TOLERANCE
    filled_BPV = model.apply({"params": params}, *arrays[:2], predictions_BP, method="fill")
    assert relative(filled_BPV, pick(logits(model, params, batch[:2]))) < TOLERANCE


def test_the_generator_of_a_pair_fills_gaps(batch):
    model = electra.ElectraPretraining(JOINT)
    params = tiny.wide(model)
    config, part = electra.part(params, electra.ElectraGenerator, JOINT)
    gaps_BP = np.array([[3, 19], [12, 1], [4, 0]])
    run = lambda model, params: model.apply({"params": params}, *batch[:2], gaps_BP, method="fill")
    assert relative(run(model, params), run(electra.ElectraGenerator(config), part)) < TOLERANCE


def test_one_network_cannot_be_loaded_as_the_other(discriminator, generator, tmp_path):
    def refused(folder, cls):
        with pytest.raises(ValueError, match=cls) as caught:
            zoo.load(folder, cls=cls)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    message = refused(generator[1], "ElectraDiscriminator")
    assert f"{generator[1]}, which holds ElectraForMaskedLM, does not fit" in message
    assert "missing discriminator_predictions.dense.weight" in message
    assert "surplus generator_predictions.dense.weight" in message
    message = refused(discriminator[1], "ElectraGenerator")
    assert "which holds ElectraForPreTraining, does not fit ElectraGenerator" in message
    message = refused(discriminator[1], "ElectraPretraining")
    assert message.endswith("no published folder holds a whole ElectraPretraining")

    model, params, _ = zoo.load(generator[1])
    model_folder.write(tmp_path, "electra", model.config, params, cls="ElectraGenerator")
    assert zoo.load(tmp_path)[0] == model
    expected = "a model of masked_head, trunk has no {} in it"
    for cls in ("ElectraDiscriminator", "ElectraPretraining"):
        assert refused(tmp_path, cls) == expected.format(cls)


def test_a_bare_trunk_lacks_its_prefix_and_its_head(discriminator, tmp_path):
    theirs, folder = discriminator
    theirs.electra.save_pretrained(tmp_path)
    _, expected, _ = zoo.load(folder)
    _, found, _ = zoo.load(tmp_path, new=("replaced_head",), key=jax.random.key(0))
    assert jax.tree.all(jax.tree.map(np.array_equal, found["trunk"], expected["trunk"]))


def test_export_then_transformers_then_equal(discriminator, generator, tmp_path):
    for theirs, folder in (discriminator, generator):
        model, params, _ = zoo.load(folder)
        out = tmp_path / type(model).__name__
        huggingface.write(out, electra, model.config, params, cls=type(model))
        again, report = type(theirs).from_pretrained(out, output_loading_info=True)
        assert not any(report.values()), report
        assert again.config.architectures == [type(theirs).__name__]
        before, after = dict(theirs.named_parameters()), dict(again.named_parameters())
        assert before.keys() == after.keys()
        for name, parameter in before.items():
            assert torch.equal(parameter, after[name]), name


def test_sizes_count_as_transformers_does():
    for name, size in electra.SIZES.items():
        counts = []
        for published_name, cls in list(electra.MODELS.items())[:2]:
            config = electra.generator(size) if cls is electra.ElectraGenerator else size
            ours = flatten(abstract(cls(config)))
            with torch.device("meta"):
                theirs = getattr(transformers, published_name)(
                    transformers.ElectraConfig(**electra.published(config))
                )
            counts.append(sum(p.numel() for p in theirs.parameters()))
            assert sum(x.size for x in ours.values()) == counts[-1], name
            shared = sum(p.numel() for p in theirs.electra.embeddings.parameters())
        joint = flatten(abstract(electra.Model(size)))
        assert sum(x.size for x in joint.values()) == sum(counts) - shared


def test_weights_are_drawn_within_two_of_0_02_or_evenly():
    model = electra.Model(electra.Config(512, 64, 1, 4, 64, 128, 16, 0.1, 32, 1, 1, 16, 64))
    params = flatten(jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))["params"])
    evenly = [path for path in params if path.endswith(("project/kernel", "score/kernel"))]
    assert len(evenly) == 3
    for path, array in params.items():
        if path in evenly:  # as Glorot and Bengio 2010, equation 16
            bound = (6 / sum(array.shape)) ** 0.5
            assert 0.8 * bound < np.abs(array).max() <= bound, path
        elif path.endswith(("kernel", "embedding")):
            assert np.abs(array).max() <= 2 * electra.STD, path
        else:
            assert (array == float(path.endswith("scale"))).all(), path
