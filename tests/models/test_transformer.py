"""Properties of the Transformer: sources, targets, positions and decoding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import shapes, tiny
from tests.tiny import B, L, V
from tests.wide import relative
from zoo.inference import generate
from zoo.layers.mask import Mask
from zoo.models import transformer
from zoo.params import flatten

TOLERANCE = 1e-5
T = tiny.TARGETS.shape[1]
MODEL = tiny.TABLE["transformer"].model
PARAMS = {"params": tiny.wide(MODEL)}
START = MODEL.config.start


def run(tokens_BL, targets_BT=tiny.TARGETS, document_ids_BL=None):
    return np.asarray(MODEL.apply(PARAMS, tokens_BL, targets_BT, document_ids_BL))


@pytest.mark.parametrize(("before", "after"), [(0, 5), (4, 0), (3, 2)])
def test_padding_of_the_source_changes_nothing(before, after):
    pad = ((0, 0), (before, after))
    random_tokens = np.random.default_rng(1).integers(0, V, (B, before + L + after))
    document_ids_BL = np.pad(np.ones((B, L), np.int32), pad)
    tokens_BL = np.where(document_ids_BL > 0, np.pad(tiny.TOKENS, pad), random_tokens)
    assert relative(run(tokens_BL, document_ids_BL=document_ids_BL), run(tiny.TOKENS)) < TOLERANCE


def test_documents_of_one_source_do_not_see_each_other():
    a, b = tiny.TOKENS[0, :7], tiny.TOKENS[1, :4]
    row = np.concatenate([a, [0, 0], b])[None]
    document_ids_BL = np.array([[1] * 7 + [0] * 2 + [2] * 4])
    encode = lambda *inputs: np.asarray(MODEL.apply(PARAMS, *inputs, method="encode"))
    packed = encode(row, document_ids_BL)[0]
    assert relative(packed[:7], encode(a[None])[0]) < TOLERANCE
    assert relative(packed[9:], encode(b[None])[0]) < TOLERANCE


def test_targets_see_the_whole_source_and_no_later_target():
    before = run(tiny.TOKENS)
    targets_BT = tiny.TARGETS.copy()
    targets_BT[:, 4] = (targets_BT[:, 4] + 1) % V
    difference_BT = np.abs(run(tiny.TOKENS, targets_BT) - before).max(-1)
    assert (difference_BT[:, :4] == 0).all()
    assert (difference_BT[:, 4:] > 1e-5).all()
    for position in (0, L - 1):
        tokens_BL = tiny.TOKENS.copy()
        tokens_BL[:, position] = (tokens_BL[:, position] + 1) % V
        assert (np.abs(run(tokens_BL) - before).max(-1) > 1e-5).all()


def test_without_targets_only_the_first_token_is_predicted():
    first = run(tiny.TOKENS, None)
    assert first.shape == (B, 1, V)
    assert relative(first, run(tiny.TOKENS)[:, :1]) < TOLERANCE


@pytest.mark.parametrize("length", [1, 5, L])
def test_step_by_step_decoding_equals_one_forward_pass_except_for_the_start_token(length):
    tokens_BL, document_ids_BL = tiny.TOKENS[:, :length], tiny.DOCUMENTS[:, :length]
    expected_BTV = run(tokens_BL, document_ids_BL=document_ids_BL)
    start = jax.jit(lambda: MODEL.apply(PARAMS, tokens_BL, document_ids_BL, T - 1, method="start"))
    step = jax.jit(lambda token_B, cache: MODEL.apply(PARAMS, token_B, cache, method="step"))
    not_start = np.arange(V) != START
    logits_BV, cache = start()
    assert all(leaf.shape[0] == B for leaf in jax.tree.leaves(cache) if leaf.ndim)
    for t in range(T):
        assert relative(logits_BV[:, not_start], expected_BTV[:, t, not_start]) < TOLERANCE, t
        assert (logits_BV[:, START] < -1e9).all()
        if t + 1 < T:
            logits_BV, cache = step(tiny.TARGETS[:, t + 1], cache)
    assert int(cache.length) == T == cache.blocks[0][0].shape[2]


def test_the_start_token_is_never_generated():
    bias_1V = PARAMS["params"]["bias"].at[:, START].add(100.0)
    params = PARAMS["params"] | {"bias": bias_1V}
    prompts = [[5, 9, 2], [7]]
    assert MODEL.apply({"params": params}, tiny.TOKENS).argmax(-1).tolist() == [[START]] * B
    generate_from = lambda params: generate.generate_ids(
        MODEL, params, prompts, max_new_tokens=9, temperature=0.0
    )
    outputs = generate_from(params)
    assert outputs == generate_from(PARAMS["params"])  # whatever the logit of the start token
    assert START not in {token for row in outputs for token in row}


def test_shapes_of_decoding_agree_with_names():
    with shapes.checked() as places:
        _, cache = MODEL.apply(PARAMS, tiny.TOKENS, tiny.DOCUMENTS, 4, method="start")
        MODEL.apply(PARAMS, np.arange(B), cache, method="step")
    assert "transformer.py:Transformer.extend:x_B1D" in places


def test_positional_encodings_are_those_of_the_paper():
    length, D = 700, 16
    table_LD = np.asarray(transformer.sinusoids(length, D))
    for position in (0, 1, 6, 699):
        for i in range(D // 2):  # dimensions 2i and 2i + 1 of the paper
            angle = position / 10000 ** (2 * i / D)
            assert abs(table_LD[position, i] - np.sin(angle)) < 1e-7
            assert abs(table_LD[position, D // 2 + i] - np.cos(angle)) < 1e-7


def test_the_weights_of_all_three_attentions_are_recorded():
    inputs = tiny.TOKENS, tiny.TARGETS, tiny.DOCUMENTS
    _, state = MODEL.apply(PARAMS, *inputs, mutable="intermediates")
    maps = flatten(state["intermediates"]["trunk"])
    H = MODEL.config.num_heads
    same_document, past = Mask.bidirectional(tiny.DOCUMENTS).dense(L, L), Mask.causal().dense(T, T)
    real = Mask.source(tiny.DOCUMENTS).dense(T, L)
    for name, queries, keys, visible in (
        (
            "encoder_0/attention",
            L,
            L,
            same_document | ~same_document.any(-1, keepdims=True),
        ),  # padding attends to all
        ("encoder_1/attention", L, L, same_document | ~same_document.any(-1, keepdims=True)),
        ("decoder_0/attention", T, T, past),
        ("decoder_0/source_attention", T, L, real),
    ):
        weight_BHLM = np.asarray(maps.pop(f"{name}/mix/attention/0"))
        assert weight_BHLM.shape == (B, H, queries, keys)
        assert np.allclose(weight_BHLM.sum(-1), 1, atol=1e-5)
        assert ((weight_BHLM > 0) == visible).all(), name
    assert {path.split("/")[0] for path in maps} == {
        "encoder_hidden_states",
        "decoder_hidden_states",
    }


def test_weights_are_initialized_as_in_the_paper():
    D, H, K, F = 64, 4, 16, 96
    model = transformer.Model(
        transformer.Config(
            vocab_size=512,
            max_length=64,
            num_layers=1,
            num_heads=H,
            width=D,
            mlp_width=F,
            head_width=K,
            dropout=0.0,
            num_decoder_layers=1,
        )
    )
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))["params"]
    for path, array in flatten(params).items():
        if path.endswith("embedding"):
            assert abs(float(array.std()) * D**0.5 - 1) < 6 / array.size**0.5
        elif path.endswith("kernel"):
            limit = (6 / (D + (F if "mlp" in path else H * K))) ** 0.5
            assert 0.95 * limit < float(jnp.abs(array).max()) <= limit, path
            assert abs(float(array.std()) * 3**0.5 / limit - 1) < 6 / array.size**0.5, path
        else:
            assert (array == float(path.endswith("scale"))).all(), path
