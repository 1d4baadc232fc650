"""RoBERTa against transformers on wide random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.wide import relative, widen
from zoo.formats import huggingface
from zoo.models import roberta
from zoo.params import abstract, flatten

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-5
V, B, L, C = 97, 3, 20, 5
PAD = 1  # transformers counts positions by it, whatever the mask says


def build(cls, tmp_path_factory):
    config = transformers.RobertaConfig(
        vocab_size=V,
        max_position_embeddings=34,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=112,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        num_labels=C,
        attn_implementation="eager",
    )
    model = cls(config).eval()
    widen(model)
    with torch.no_grad():  # norms about 1, or every score is small and attention has no gradient
        for name, parameter in model.named_parameters():
            if name.lower().endswith("norm.weight"):
                parameter += 1
    folder = tmp_path_factory.mktemp(cls.__name__)
    model.save_pretrained(folder)
    return model, folder


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return build(transformers.RobertaForMaskedLM, tmp_path_factory)


@pytest.fixture(scope="module")
def batch():
    """Tokens, and a mask of ones and zeros: the padding of the last row stands on the left."""
    draw = np.random.default_rng(0)
    real_BL = (np.arange(L) < np.array([[20], [13], [5]])).astype(np.int64)
    real_BL[2] = real_BL[2, ::-1]
    return np.where(real_BL > 0, draw.integers(2, V, (B, L)), PAD), real_BL


def asked(model, batch, **options):
    tokens_BL, real_BL = map(torch.from_numpy, batch)
    return model(tokens_BL, attention_mask=real_BL, **options)


def test_logits_equal_on_padded_rows(published, batch):
    theirs, folder = published
    model, params, _ = zoo.load(folder)
    assert type(model) is roberta.RobertaLM
    with torch.no_grad():
        expected_BLV = asked(theirs, batch).logits.numpy()
    logits_BLV = np.asarray(model.apply({"params": params}, *map(jnp.asarray, batch)))
    real = batch[1].astype(bool)
    assert relative(logits_BLV[real], expected_BLV[real]) < TOLERANCE


def test_rows_of_full_length_need_no_mask(published):
    theirs, folder = published
    model, params, _ = zoo.load(folder)
    tokens_BL = np.random.default_rng(1).integers(2, V, (B, model.config.max_length))
    assert tokens_BL.shape[1] == 32
    with torch.no_grad():
        expected_BLV = theirs(torch.from_numpy(tokens_BL)).logits.numpy()
    assert relative(model.apply({"params": params}, tokens_BL), expected_BLV) < TOLERANCE
    longer_BL = np.full((1, model.config.max_length + 1), 2)
    assert np.isnan(model.apply({"params": params}, longer_BL)).any()


def test_every_layer_equals(published, batch):
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
    assert len(expected) == 4  # the embeddings too, which the first block shows right or wrong
    for i, hidden_BLD in enumerate(expected[1:]):
        ours_BLD = np.asarray(trunk[f"blocks_{i}"]["__call__"][0])
        real = batch[1].astype(bool)
        assert relative(ours_BLD[real], hidden_BLD.numpy()[real]) < TOLERANCE, i


def compare_gradients(theirs, gradient):
    named = dict(theirs.named_parameters())
    for path, ours in flatten(gradient).items():
        name, layout = huggingface._row(roberta.WEIGHTS, path)
        expected = named[name].grad.numpy()
        if path == "trunk/token_embedding/embedding":  # torch gives a padding id no input gradient
            ours, expected = np.delete(ours, PAD, 0), np.delete(expected, PAD, 0)
        if path.endswith("key/bias"):  # exactly zero: a shift of all scores
            assert np.abs(ours).max() < 1e-5
        else:
            assert relative(ours, huggingface._to_ours(layout, ours.shape, expected)) < 1e-4, path


def test_every_gradient_equals(published, batch):
    theirs, folder = published
    model, params, _ = zoo.load(folder)
    targets_BL = np.where(batch[1] > 0, np.roll(batch[0], 3, axis=1), -100)
    theirs.zero_grad()
    asked(theirs, batch, labels=torch.from_numpy(targets_BL)).loss.backward()

    def loss(params):
        logits_BLV = model.apply({"params": params}, *map(jnp.asarray, batch))
        logs_BLV = jax.nn.log_softmax(logits_BLV)
        logs_BL = jnp.take_along_axis(logs_BLV, jnp.maximum(targets_BL, 0)[..., None], 2)[..., 0]
        return -logs_BL.sum(where=targets_BL >= 0) / (targets_BL >= 0).sum()

    compare_gradients(theirs, jax.jit(jax.grad(loss))(params))


def test_chosen_positions_score_as_in_the_whole_row(published, batch):
    _, folder = published
    model, params, _ = zoo.load(folder)
    predictions_BP = np.array([[3, 19, 0], [12, 1, 5], [14, 10, 12]])
    arrays = [jnp.asarray(array) for array in batch]
    whole_BLV = np.asarray(model.apply({"params": params}, *arrays))
    scores = model.apply({"params": params}, *arrays, predictions_BP, method="scores")
    expected_BPV = np.take_along_axis(whole_BLV, predictions_BP[..., None], 1)
    assert relative(scores.logits(), expected_BPV) < TOLERANCE


def test_export_then_transformers_then_equal(published, batch, tmp_path):
    theirs, folder = published
    zoo.export(folder, tmp_path)
    again, said = type(theirs).from_pretrained(
        tmp_path, attn_implementation="eager", output_loading_info=True
    )
    assert not any(said.values()), said
    for name in ("max_position_embeddings", "type_vocab_size", "layer_norm_eps", "pad_token_id"):
        assert getattr(again.config, name) == getattr(theirs.config, name)
    with torch.no_grad():
        assert torch.equal(asked(again.eval(), batch).logits, asked(theirs, batch).logits)


def test_a_classifier_grows_out_of_a_masked_model(published):
    _, folder = published
    options = {"cls": "RobertaClassifier", "new": ["dense", "projection"], "ignore": ["lm_head"]}
    model, params, _ = zoo.load(folder, key=jax.random.key(0), **options)
    _, whole, _ = zoo.load(folder)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, params["trunk"], whole["trunk"]))
    assert model.apply({"params": params}, np.full((1, 4), 2)).shape == (1, C)


def test_sizes_count_as_transformers_does():
    for name, config in roberta.SIZES.items():
        ours = flatten(abstract(roberta.Model(config)))
        with torch.device("meta"):
            theirs = transformers.RobertaForMaskedLM(
                transformers.RobertaConfig(**roberta.published(config))
            )
        count = sum(p.numel() for p in theirs.parameters())
        assert sum(x.size for x in ours.values()) == count, name
