"""DistilBERT against transformers on wide random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.wide import relative, widen
from zoo.formats import huggingface
from zoo.models import bert, distilbert
from zoo.params import abstract, flatten

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-5
V, B, L, C = 97, 3, 20, 5


def build(cls, num_labels, tmp_path_factory):
    config = transformers.DistilBertConfig(
        vocab_size=V,
        max_position_embeddings=32,
        dim=48,
        n_layers=3,
        n_heads=4,
        hidden_dim=112,
        num_labels=num_labels,
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
    return build(transformers.DistilBertForMaskedLM, 2, tmp_path_factory)


@pytest.fixture(scope="module")
def batch():
    """Tokens, and a mask of ones and zeros."""
    draw = np.random.default_rng(0)
    real_BL = (np.arange(L) < np.array([[20], [13], [5]])).astype(np.int64)
    return draw.integers(1, V, (B, L)), real_BL


def asked(model, batch, **options):
    tokens_BL, real_BL = map(torch.from_numpy, batch)
    return model(tokens_BL, attention_mask=real_BL, **options)


def test_logits_equal_on_padded_rows(published, batch):
    theirs, folder = published
    model, params, _ = zoo.load(folder)
    assert type(model) is distilbert.DistilBertLM
    with torch.no_grad():
        expected_BLV = asked(theirs, batch).logits.numpy()
    logits_BLV = np.asarray(model.apply({"params": params}, *map(jnp.asarray, batch)))
    real = batch[1].astype(bool)
    assert relative(logits_BLV[real], expected_BLV[real]) < TOLERANCE


def test_rows_of_full_length_need_no_mask(published):
    theirs, folder = published
    model, params, _ = zoo.load(folder)
    tokens_BL = np.random.default_rng(1).integers(1, V, (B, 32))
    with torch.no_grad():
        expected_BLV = theirs(torch.from_numpy(tokens_BL)).logits.numpy()
    assert relative(model.apply({"params": params}, tokens_BL), expected_BLV) < TOLERANCE


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
        name, layout = huggingface._row(distilbert.WEIGHTS, path)
        expected = named[name].grad.numpy()
        if path == "trunk/token_embedding/embedding":  # torch gives a padding id no input gradient
            ours, expected = ours[1:], expected[1:]
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
    predictions_BP = np.array([[3, 19, 0], [12, 1, 5], [4, 0, 2]])
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
    with torch.no_grad():
        found, expected = asked(again.eval(), batch), asked(theirs, batch)
    for name, array in expected.items():
        assert torch.equal(found[name], array), name


def test_what_a_student_takes_from_a_bert_has_the_same_paths_and_shapes():
    sizes = (97, 32, 2, 3, 24, 40, 8, 0.1)
    teacher, student = (
        {path: array.shape for path, array in flatten(params).items()}
        for params in (
            abstract(bert.Model(bert.Config(*sizes))),
            abstract(distilbert.Model(distilbert.Config(*sizes))),
        )
    )
    assert student.items() <= teacher.items()
    left = {path.rsplit("/", 1)[0] for path in teacher.keys() - student.keys()}
    assert left == {"trunk/segment_embedding", "pooler/dense", "next_head"}


def test_sizes_count_as_transformers_does():
    for name, config in distilbert.SIZES.items():
        ours = flatten(abstract(distilbert.Model(config)))
        with torch.device("meta"):
            theirs = transformers.DistilBertForMaskedLM(
                transformers.DistilBertConfig(**distilbert.published(config))
            )
        count = sum(p.numel() for p in theirs.parameters())
        assert sum(x.size for x in ours.values()) == count, name
