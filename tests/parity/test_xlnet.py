"""XLNet against transformers on large random weights."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import zoo
from tests.parity.table import ROWS
from tests.parity.test_parity import as_published, build
from tests.wide import relative
from zoo.inference.generate import generate_ids
from zoo.layers.transformer_xl import Memory, lengthen

TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4  # for float32 gradients of a millionth of the loss
REUSE, MEMORY = 5, 8


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    row, folder = ROWS["XLNetLMHeadModel"], tmp_path_factory.mktemp("published")
    theirs = build(row)
    theirs.save_pretrained(folder)
    assert (theirs.config.reuse_len, theirs.config.mem_len) == (REUSE, MEMORY)
    model, params, _ = zoo.load(folder)
    return theirs, folder, model, params


def random_inputs(shape, seed=0):
    """Return tokens, segments, the blocked pairs of tokens, and four positions to predict."""
    random = np.random.default_rng(seed)
    tokens_BL = random.integers(0, 97, shape)
    segments_BL = np.sort(random.integers(0, 3, shape), -1)
    blocked_BLL = random.random((*shape, shape[1])) < 0.5
    blocked_BLL |= np.eye(shape[1], dtype=bool)
    predictions_BP = np.stack([random.permutation(shape[1])[:4] for _ in range(shape[0])])
    return tokens_BL, segments_BL, blocked_BLL, predictions_BP


def two_streams(theirs, tokens_BL, segments_BL, blocked_BLL, predictions_BP, **options):
    """Run the forward pass of transformers."""
    one_hot = np.eye(tokens_BL.shape[1], dtype=np.float32)[predictions_BP]
    return theirs(
        torch.from_numpy(tokens_BL),
        token_type_ids=torch.from_numpy(segments_BL),
        perm_mask=torch.from_numpy(blocked_BLL.astype(np.float32)),
        target_mapping=torch.from_numpy(one_hot),
        **options,
    )


@pytest.mark.parametrize("length", [1, 2, 7])
def test_without_segments_logits_equal(published, length):
    theirs, _, model, params = published
    tokens_BL = random_inputs((2, length))[0] if length > 3 else np.full((2, length), 7)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(tokens_BL)).logits.numpy()
    run = jax.jit(lambda params: model.apply({"params": params}, tokens_BL))
    assert relative(run(params), expected) < TOLERANCE


def test_memory_and_logits_equal_over_three_calls(published):
    theirs, _, model, params = published
    their_memory, memory = None, Memory((jnp.zeros((2, 0, 48)),) * 3, jnp.zeros((2, 0), jnp.int32))
    run = jax.jit(
        lambda params, *inputs: model.apply({"params": params}, *inputs, method="unprojected")
    )
    for seed in range(3):
        inputs = random_inputs((2, 11), seed=seed)
        with torch.no_grad():
            expected = two_streams(theirs, *inputs, mems=their_memory, use_mems=True)
        their_memory = expected.mems
        tokens_BL, segments_BL, blocked_BLL, predictions_BP = inputs
        unprojected, memory_inputs = run(
            params, tokens_BL, segments_BL, None, blocked_BLL, predictions_BP, memory
        )
        memory = lengthen(memory, memory_inputs, REUSE, MEMORY)
        assert relative(unprojected.logits(), expected.logits.numpy()) < TOLERANCE
        for ours, theirs_of_layer in zip(memory.inputs, their_memory, strict=True):
            assert relative(ours, theirs_of_layer.numpy().swapaxes(0, 1)) < TOLERANCE
    assert memory.document_ids_BM.shape == (2, MEMORY)
    assert (memory.document_ids_BM == 1).all()


def test_both_streams_and_every_gradient_equal(published, tmp_path):
    theirs, _, model, params = published
    arrays = random_inputs((2, 16), seed=3)
    tokens_BL, segments_BL, blocked_BLL, predictions_BP = arrays
    targets_BP = np.take_along_axis(tokens_BL, predictions_BP, 1)
    theirs.zero_grad()
    logits = two_streams(theirs, *arrays).logits
    log_p = torch.log_softmax(logits, -1)
    (-log_p.gather(2, torch.from_numpy(targets_BP)[..., None])).mean().backward()

    def loss(params):
        inputs = tokens_BL, segments_BL, None, blocked_BLL, predictions_BP
        unprojected, _ = model.apply({"params": params}, *inputs, method="unprojected")
        log_p = jax.nn.log_softmax(unprojected.logits())
        return -jnp.take_along_axis(log_p, targets_BP[..., None], 2).mean(), unprojected.logits()

    gradient, logits_BPV = jax.jit(jax.grad(loss, has_aux=True))(params)
    assert relative(logits_BPV, logits.detach().numpy()) < TOLERANCE
    gradients, parameters = as_published(model, gradient, tmp_path), dict(theirs.named_parameters())
    assert gradients.keys() == parameters.keys()
    for name, ours in gradients.items():
        assert relative(ours, parameters[name].grad.numpy()) < GRADIENT_TOLERANCE, name


def test_another_attention_is_refused(published, tmp_path):
    fields = json.loads((published[1] / "config.json").read_text())
    for name in ("untie_r", "attn_type", "bi_data", "clamp_len", "same_length"):
        value = {"untie_r": False, "attn_type": "uni", "clamp_len": 7}.get(name, True)
        (tmp_path / "config.json").write_text(json.dumps(fields | {name: value}))
        with pytest.raises(ValueError, match=name):
            zoo.load(tmp_path)


def test_next_token_logits_in_the_order_of_the_text_equal(published):
    theirs, _, model, params = published
    tokens_BL = random_inputs((2, 9))[0]
    tokens_BT = np.pad(tokens_BL, ((0, 0), (0, 1)))  # a place for the token after the last
    later_TT = np.triu(np.ones((10, 10), np.float32))
    with torch.no_grad():
        expected = theirs(
            torch.from_numpy(tokens_BT),
            perm_mask=torch.from_numpy(np.stack([later_TT] * 2)),
            target_mapping=torch.from_numpy(np.stack([np.eye(10, dtype=np.float32)[1:]] * 2)),
        ).logits.numpy()
    run = jax.jit(lambda params: model.apply({"params": params}, tokens_BL, method="left_to_right"))
    assert relative(run(params), expected) < TOLERANCE


def test_generated_tokens_equal(published):
    theirs, _, model, params = published
    trunk = theirs.transformer
    trunk.mem_len = trunk.reuse_len = None  # as published: all of the text is remembered
    prompts = [random_inputs((1, length), seed=length)[0] for length in (1, 4, 9)]
    lists = [tokens_BL[0].tolist() for tokens_BL in prompts]
    rules = {"repetition_penalty": 1.5, "max_new_tokens": 12}
    outputs = generate_ids(model, params, lists, temperature=0.0, **rules)
    for tokens_BL, tokens in zip(prompts, outputs, strict=True):
        options = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}
        sequence = theirs.generate(torch.from_numpy(tokens_BL), **options, **rules)
        assert sequence[0, tokens_BL.shape[1] :].tolist() == tokens
    trunk.mem_len, trunk.reuse_len = MEMORY, REUSE
    assert len({token for tokens in outputs for token in tokens}) > 5
