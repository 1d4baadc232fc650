"""GPT-2 against transformers on wide random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.wide import relative, widen
from zoo.formats import huggingface
from zoo.models import gpt2
from zoo.params import flatten

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    config = transformers.GPT2Config(
        vocab_size=97, n_positions=32, n_embd=48, n_layer=3, n_head=4, attn_implementation="eager"
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    widen(model)
    folder = tmp_path_factory.mktemp("published")
    model.save_pretrained(folder)
    return model, folder


def tokens(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 97, shape)


def test_logits_equal_on_padded_batches(published):
    theirs, folder = published
    model, params, _ = zoo.load(folder)
    tokens_BL = tokens((3, 20))
    real_BL = np.ones((3, 20), np.int32)
    real_BL[1, 13:] = 0
    real_BL[2, 5:] = 0
    with torch.no_grad():
        expected = theirs(
            torch.from_numpy(tokens_BL), attention_mask=torch.from_numpy(real_BL)
        ).logits.numpy()
    logits_BLV = model.apply({"params": params}, tokens_BL, jnp.asarray(real_BL))
    real = real_BL.astype(bool)
    assert relative(np.asarray(logits_BLV)[real], expected[real]) < TOLERANCE


def test_every_gradient_equals(published):
    theirs, folder = published
    model, params, _ = zoo.load(folder)
    tokens_BL = tokens((2, 16))
    theirs.zero_grad()
    theirs(torch.from_numpy(tokens_BL), labels=torch.from_numpy(tokens_BL)).loss.backward()

    def loss(params):
        logits = jax.nn.log_softmax(model.apply({"params": params}, tokens_BL)[:, :-1])
        return -jnp.take_along_axis(logits, tokens_BL[:, 1:, None], 2).mean()

    gradient = flatten(jax.grad(loss)(params))
    named = dict(theirs.named_parameters())
    for path, ours in gradient.items():
        name, layout = huggingface._row(gpt2.WEIGHTS, path)
        name, part, parts = huggingface._slice(name)
        expected = np.split(named[name].grad.numpy(), parts, axis=-1)[part]
        if path.endswith("key/bias"):  # exactly zero: a shift of all scores
            assert np.abs(ours).max() < 1e-5
        else:
            assert relative(ours, huggingface._to_ours(layout, ours.shape, expected)) < 1e-4, path


def test_export_then_transformers_then_equal(published, tmp_path):
    theirs, folder = published
    config, params = huggingface.read(folder, gpt2)
    huggingface.write(tmp_path, gpt2, config, params)
    again = transformers.GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    for (name, a), (_, b) in zip(theirs.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(a, b), name
