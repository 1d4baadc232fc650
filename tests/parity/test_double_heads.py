"""Multiple choice of GPT and GPT-2 beside their language model, against transformers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.parity import table
from tests.parity.test_parity import as_published
from tests.wide import relative, widen

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOLERANCE, GRADIENT = 1e-5, 1e-4
B, C, L = 3, 4, 12
CONFIGS = {"OpenAIGPT": table.GPT | {"n_layer": 2}, "GPT2": table.GPT2 | {"n_layer": 2}}


def batch() -> tuple[np.ndarray, np.ndarray]:
    """Tokens and documents of texts with choices, of all lengths."""
    draw = np.random.default_rng(0)
    real_BCL = np.arange(L) < draw.integers(4, L + 1, (B, C, 1))
    return np.where(real_BCL, draw.integers(2, table.V - 1, (B, C, L)), 0), np.int64(real_BCL)


def build(family: str):
    cls = getattr(transformers, f"{family}DoubleHeadsModel")
    theirs = cls(cls.config_class(**CONFIGS[family], attn_implementation="eager")).eval()
    widen(theirs)
    with torch.no_grad():  # norms about 1, so that attention has a gradient
        for name, parameter in theirs.named_parameters():
            if parameter.ndim == 1 and name.endswith("weight"):
                parameter += 1
    return theirs


def their_outputs(theirs, tokens_BCL, document_ids_BCL):
    last_BC = torch.from_numpy(document_ids_BCL.sum(-1) - 1)
    documents_BCL = torch.from_numpy(document_ids_BCL)
    tokens_BCL = torch.from_numpy(tokens_BCL)
    if "GPT2" not in type(theirs).__name__:  # whose mask has no axis of choices
        documents_BCL = documents_BCL.reshape(-1, L)
    output = theirs(tokens_BCL, attention_mask=documents_BCL, mc_token_ids=last_BC)
    return output.mc_logits, output.logits


@pytest.mark.parametrize("family", CONFIGS)
def test_both_heads_and_their_gradients_equal_and_a_folder_goes_back(family, tmp_path):
    theirs = build(family)
    theirs.save_pretrained(tmp_path / "published")
    model, params, _ = zoo.load(tmp_path / "published")
    assert type(model).__name__ == f"{family.removeprefix('OpenAI')}MultipleChoice"
    tokens_BCL, document_ids_BCL = batch()
    exact = build(family).double()
    expected = their_outputs(exact, tokens_BCL, document_ids_BCL)
    draw, real = np.random.default_rng(2), document_ids_BCL > 0
    weights = [draw.normal(size=x.shape).astype(np.float32) for x in expected]
    weights[1][~real] = 0
    sum(
        (torch.from_numpy(w).double() * torch.sin(x)).sum()
        for w, x in zip(weights, expected, strict=True)
    ).backward()

    def loss(params):
        inputs = jnp.int32(tokens_BCL), None, jnp.int32(document_ids_BCL)
        logits_BC, words = model.apply({"params": params}, *inputs, method="with_words")
        outputs = logits_BC, words.logits().reshape(*real.shape, -1)
        total = sum((w * jnp.sin(x)).sum() for w, x in zip(weights, outputs, strict=True))
        return total, outputs

    (_, outputs), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    chosen, words = (x.detach().numpy() for x in expected)
    assert relative(outputs[0], chosen) < TOLERANCE
    assert relative(np.asarray(outputs[1])[real], words[real]) < TOLERANCE
    ours = as_published(model, gradient, tmp_path / "gradient")
    for name, parameter in exact.named_parameters():
        their_gradient = parameter.grad.numpy()
        if np.abs(their_gradient).max() > 1e-9:  # not so the bias of keys
            assert relative(ours[name], their_gradient) < GRADIENT, name
    zoo.export(zoo.load(tmp_path / "published"), tmp_path / "again")
    again, report = type(theirs).from_pretrained(tmp_path / "again", output_loading_info=True)
    assert not any(report.values()), report
    assert again.config.architectures == [type(theirs).__name__]
    after = dict(again.named_parameters())
    for name, parameter in theirs.named_parameters():
        assert torch.equal(parameter, after[name]), name
