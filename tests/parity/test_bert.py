"""BERT against transformers on wide random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.wide import relative, widen
from zoo.formats import huggingface
from zoo.models import bert
from zoo.params import abstract, flatten

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-5
V, B, L = 97, 3, 20


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    config = transformers.BertConfig(
        vocab_size=V,
        max_position_embeddings=32,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=112,
        attn_implementation="eager",
    )
    model = transformers.BertForPreTraining(config).eval()
    widen(model)
    with torch.no_grad():  # norms about 1, or every score is small and attention has no gradient
        for name, parameter in model.named_parameters():
            if name.endswith("LayerNorm.weight"):
                parameter += 1
    folder = tmp_path_factory.mktemp("published")
    model.save_pretrained(folder)
    return model, folder


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
    with torch.no_grad():
        expected = asked(theirs, batch)
    real = batch[2].astype(bool)
    output = model.apply({"params": params}, *map(jnp.asarray, batch))
    logits_BLV, expected_BLV = np.asarray(output.logits_BLV), expected.prediction_logits.numpy()
    assert relative(logits_BLV[real], expected_BLV[real]) < TOLERANCE
    assert relative(output.next_B2, expected.seq_relationship_logits.numpy()) < TOLERANCE


def test_tokens_alone_are_one_full_segment(published, batch):
    theirs, folder = published
    model, params, _ = zoo.load(folder)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(batch[0]))
    output = model.apply({"params": params}, batch[0])
    assert relative(output.logits_BLV, expected.prediction_logits.numpy()) < TOLERANCE
    assert relative(output.next_B2, expected.seq_relationship_logits.numpy()) < TOLERANCE


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
        real = batch[2].astype(bool)
        assert relative(ours_BLD[real], hidden_BLD.numpy()[real]) < TOLERANCE, i


def test_every_gradient_equals(published, batch):
    theirs, folder = published
    model, params, _ = zoo.load(folder)
    targets_BL = np.where(batch[2] > 0, np.roll(batch[0], 3, axis=1), -100)
    next_B = np.array([0, 1, 1])
    theirs.zero_grad()
    asked(
        theirs,
        batch,
        labels=torch.from_numpy(targets_BL),
        next_sentence_label=torch.from_numpy(next_B),
    ).loss.backward()

    def loss(params):
        output = model.apply({"params": params}, *map(jnp.asarray, batch))
        logs_BLV = jax.nn.log_softmax(output.logits_BLV)
        logs_BL = jnp.take_along_axis(logs_BLV, jnp.maximum(targets_BL, 0)[..., None], 2)[..., 0]
        masked = -logs_BL.sum(where=targets_BL >= 0) / (targets_BL >= 0).sum()
        return masked - jax.nn.log_softmax(output.next_B2)[jnp.arange(B), next_B].mean()

    gradient = flatten(jax.jit(jax.grad(loss))(params))
    named = dict(theirs.named_parameters())
    for path, ours in gradient.items():
        name, layout = huggingface._row(bert.WEIGHTS, path)
        expected = named[name].grad.numpy()
        if path == "trunk/token_embedding/embedding":  # torch gives a padding id no input gradient
            ours, expected = ours[1:], expected[1:]
        if path.endswith("key/bias"):  # exactly zero: a shift of all scores
            assert np.abs(ours).max() < 1e-5
        else:
            assert relative(ours, huggingface._to_ours(layout, ours.shape, expected)) < 1e-4, path


def test_chosen_positions_score_as_in_the_whole_row(published, batch):
    _, folder = published
    model, params, _ = zoo.load(folder)
    predictions_BP = np.array([[3, 19, 0], [12, 1, 5], [4, 0, 2]])
    arrays = [jnp.asarray(array) for array in batch]
    whole = model.apply({"params": params}, *arrays)
    scores, next_B2 = model.apply({"params": params}, *arrays, predictions_BP, method="scores")
    expected_BPV = np.take_along_axis(np.asarray(whole.logits_BLV), predictions_BP[..., None], 1)
    assert relative(scores.logits(), expected_BPV) < TOLERANCE
    assert relative(next_B2, whole.next_B2) < TOLERANCE


def test_padding_on_the_left_and_packing_change_nothing(published, batch):
    _, folder = published
    model, params, _ = zoo.load(folder)
    trunk = bert.Bert(model.config)
    run = lambda *inputs: np.asarray(trunk.apply({"params": params["trunk"]}, *inputs))
    a, b = batch[0][0, :11], batch[0][1, :7]
    alone_a, alone_b = run(a[None])[0], run(b[None])[0]
    packed = run(
        np.concatenate([[0, 0], a, b])[None], None, jnp.array([[0] * 2 + [1] * 11 + [2] * 7])
    )[0]
    assert relative(packed[2:13], alone_a) < TOLERANCE
    assert relative(packed[13:], alone_b) < TOLERANCE


def test_export_then_transformers_then_equal(published, tmp_path):
    theirs, folder = published
    config, params = huggingface.read(folder, bert)
    huggingface.write(tmp_path, bert, config, params)
    again = transformers.BertForPreTraining.from_pretrained(tmp_path).eval()
    for (name, a), (_, b) in zip(theirs.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_sizes_count_as_transformers_does():
    for name in ("bert-tiny", "bert-L2-H128-uncased", "bert-large-cased"):
        config = bert.SIZES[name]
        ours = flatten(abstract(bert.Model(config)))
        with torch.device("meta"):
            theirs = transformers.BertForPreTraining(
                transformers.BertConfig(**bert.published(config))
            )
        assert sum(x.size for x in ours.values()) == sum(p.numel() for p in theirs.parameters())


def test_weights_are_drawn_within_two_of_0_02():
    model = bert.Model(bert.Config(512, 64, 1, 4, 64, 128, 16))
    params = flatten(jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))["params"])
    for path, array in params.items():
        if path.endswith(("kernel", "embedding")):
            assert np.abs(array).max() <= 2 * bert.STD, path
        else:
            assert (array == float(path.endswith("scale"))).all(), path
    # A normal cut at two standard deviations keeps 0.8796 of its own.
    table = params["trunk/token_embedding/embedding"]
    assert abs(float(table.std()) / bert.STD - 0.8796) < 0.01
