"""XLNet against transformers on wide random weights."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.wide import relative, widen
from zoo.formats import huggingface
from zoo.layers.transformer_xl import Memory, lengthen
from zoo.models import xlnet
from zoo.params import flatten

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4  # of gradients a millionth of the loss, in float32
REUSE, MEMORY = 5, 8


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    config = transformers.XLNetConfig(
        vocab_size=97,
        d_model=48,
        n_layer=3,
        n_head=4,
        d_inner=80,
        untie_r=True,
        reuse_len=REUSE,
        mem_len=MEMORY,
    )
    model = transformers.XLNetLMHeadModel(config).eval()
    widen(model)
    folder = tmp_path_factory.mktemp("published")
    model.save_pretrained(folder)
    config, params = huggingface.read(folder, xlnet)
    return model, folder, xlnet.Model(config), jax.tree.map(jnp.asarray, params)


def draw(shape, seed=0):
    """Tokens, segments, which tokens may not see which, and four positions to predict."""
    random = np.random.default_rng(seed)
    tokens_BL = random.integers(0, 97, shape)
    segments_BL = np.sort(random.integers(0, 3, shape), -1)
    blocked_BLL = random.random((*shape, shape[1])) < 0.5
    blocked_BLL |= np.eye(shape[1], dtype=bool)
    predictions_BP = np.stack([random.permutation(shape[1])[:4] for _ in range(shape[0])])
    return tokens_BL, segments_BL, blocked_BLL, predictions_BP


def two_streams(theirs, tokens_BL, segments_BL, blocked_BLL, predictions_BP, **more):
    """The forward pass of transformers, in its own arguments."""
    one_hot = np.eye(tokens_BL.shape[1], dtype=np.float32)[predictions_BP]
    return theirs(
        torch.from_numpy(tokens_BL),
        token_type_ids=torch.from_numpy(segments_BL),
        perm_mask=torch.from_numpy(blocked_BLL.astype(np.float32)),
        target_mapping=torch.from_numpy(one_hot),
        **more,
    )


def test_content_logits_equal_on_padded_batches(published):
    theirs, _, model, params = published
    tokens_BL, segments_BL, _, _ = draw((3, 20))
    real_BL = np.ones((3, 20), np.int32)
    real_BL[1, 13:] = 0
    real_BL[2, :15] = 0
    with torch.no_grad():
        expected = theirs(
            torch.from_numpy(tokens_BL),
            attention_mask=torch.from_numpy(real_BL).float(),
            token_type_ids=torch.from_numpy(segments_BL),
        ).logits.numpy()
    logits_BLV = model.apply({"params": params}, tokens_BL, segments_BL, jnp.asarray(real_BL))
    real = real_BL.astype(bool)
    assert relative(np.asarray(logits_BLV)[real], expected[real]) < TOLERANCE


@pytest.mark.parametrize("length", [1, 2, 7])
def test_without_segments_logits_equal(published, length):
    theirs, _, model, params = published
    tokens_BL = draw((2, length))[0] if length > 3 else np.full((2, length), 7)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(tokens_BL)).logits.numpy()
    assert relative(model.apply({"params": params}, tokens_BL), expected) < TOLERANCE


def test_query_logits_equal(published):
    theirs, _, model, params = published
    tokens_BL, segments_BL, blocked_BLL, predictions_BP = draw((3, 20), seed=1)
    with torch.no_grad():
        expected = two_streams(theirs, tokens_BL, segments_BL, blocked_BLL, predictions_BP)
    scores, _ = model.apply(
        {"params": params},
        tokens_BL,
        segments_BL,
        None,
        blocked_BLL,
        predictions_BP,
        method="scores",
    )
    assert relative(scores.logits(), expected.logits.numpy()) < TOLERANCE


def test_memory_and_logits_equal_over_three_calls(published):
    theirs, _, model, params = published
    behind, memory = None, Memory((jnp.zeros((2, 0, 48)),) * 3, jnp.zeros((2, 0), jnp.int32))
    for seed in range(3):
        drawn = draw((2, 11), seed=seed)
        with torch.no_grad():
            expected = two_streams(theirs, *drawn, mems=behind, use_mems=True)
        behind = expected.mems
        tokens_BL, segments_BL, blocked_BLL, predictions_BP = drawn
        scores, read = model.apply(
            {"params": params},
            tokens_BL,
            segments_BL,
            None,
            blocked_BLL,
            predictions_BP,
            memory,
            method="scores",
        )
        memory = lengthen(memory, read, REUSE, MEMORY)
        assert relative(scores.logits(), expected.logits.numpy()) < TOLERANCE
        for ours, mem in zip(memory.inputs, behind, strict=True):
            assert relative(ours, mem.numpy().swapaxes(0, 1)) < TOLERANCE
    assert memory.documents_BM.shape == (2, MEMORY)
    assert (memory.documents_BM == 1).all()


def test_hidden_states_of_every_layer_equal(published):
    theirs, _, model, params = published
    tokens_BL, segments_BL, _, _ = draw((2, 12), seed=2)
    with torch.no_grad():
        expected = theirs(
            torch.from_numpy(tokens_BL),
            token_type_ids=torch.from_numpy(segments_BL),
            output_hidden_states=True,
        ).hidden_states
    trunk = {"params": params["trunk"]}
    x_BLD, read = xlnet.XLNet(model.config).apply(trunk, tokens_BL, segments_BL, method="extend")
    for ours, theirs_BLD in zip((*read.inputs, x_BLD), expected, strict=True):
        assert relative(ours, theirs_BLD.numpy()) < TOLERANCE


def test_every_gradient_equals(published):
    theirs, _, model, params = published
    drawn = draw((2, 16), seed=3)
    tokens_BL, segments_BL, blocked_BLL, predictions_BP = drawn
    targets_BP = np.take_along_axis(tokens_BL, predictions_BP, 1)
    theirs.zero_grad()
    log_p = torch.log_softmax(two_streams(theirs, *drawn).logits, -1)
    (-log_p.gather(2, torch.from_numpy(targets_BP)[..., None])).mean().backward()

    def loss(params):
        scores, _ = model.apply(
            {"params": params},
            tokens_BL,
            segments_BL,
            None,
            blocked_BLL,
            predictions_BP,
            method="scores",
        )
        log_p = jax.nn.log_softmax(scores.logits())
        return -jnp.take_along_axis(log_p, targets_BP[..., None], 2).mean()

    named = dict(theirs.named_parameters())
    gradients = flatten(jax.jit(jax.grad(loss))(params))
    assert len(gradients) == len(named)
    for path, ours in gradients.items():
        name, layout = huggingface._row(xlnet.WEIGHTS, path)
        expected = huggingface._to_ours(layout, ours.shape, named[name].grad.numpy())
        assert relative(ours, expected) < GRADIENT_TOLERANCE, path


def test_export_then_transformers_then_equal(published, tmp_path):
    theirs, folder, _, _ = published
    config, params = huggingface.read(folder, xlnet)
    huggingface.write(tmp_path, xlnet, config, params)
    again = transformers.XLNetLMHeadModel.from_pretrained(tmp_path).eval()
    for (name, a), (_, b) in zip(theirs.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    tokens_BL = torch.from_numpy(draw((2, 9))[0])
    with torch.no_grad():
        assert torch.equal(theirs(tokens_BL).logits, again(tokens_BL).logits)


@pytest.mark.parametrize("name", ["untie_r", "attn_type", "bi_data", "clamp_len", "same_length"])
def test_another_attention_is_refused(published, tmp_path, name):
    _, folder, _, _ = published
    fields = huggingface.read_config(folder)
    fields[name] = {"untie_r": False, "attn_type": "uni", "clamp_len": 7}.get(name, True)
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=name):
        huggingface.read(tmp_path, xlnet)
