"""Properties of T5: sources, targets, relative distances and decoding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests import shapes, tiny
from tests.tiny import B, L, V
from tests.wide import relative
from zoo import registry
from zoo.formats import huggingface
from zoo.layers import relative_bias
from zoo.models import t5, t5_v1_1
from zoo.params import flatten

TOLERANCE = 1e-5
T = tiny.TARGETS.shape[1]
versions = pytest.mark.parametrize("name", ["t5", "t5_v1_1"])


def run(name, tokens_BL, targets_BT=tiny.TARGETS, document_ids_BL=None, **options):
    model = tiny.TABLE[name].model
    params = {"params": tiny.wide(model)}
    return np.asarray(model.apply(params, tokens_BL, targets_BT, document_ids_BL, **options))


@versions
@pytest.mark.parametrize(("before", "after"), [(0, 5), (4, 0), (3, 2)])
def test_padding_of_the_source_changes_nothing(name, before, after):
    pad = ((0, 0), (before, after))
    random_tokens = np.random.default_rng(1).integers(0, V, (B, before + L + after))
    document_ids_BL = np.pad(np.ones((B, L), np.int32), pad)
    tokens_BL = np.where(document_ids_BL > 0, np.pad(tiny.TOKENS, pad), random_tokens)
    padded = run(name, tokens_BL, document_ids_BL=document_ids_BL)
    assert relative(padded, run(name, tiny.TOKENS)) < TOLERANCE


@versions
def test_documents_of_one_source_do_not_see_each_other(name):
    a, b = tiny.TOKENS[0, :7], tiny.TOKENS[1, :4]
    row = np.concatenate([a, [0, 0], b])[None]
    document_ids_BL = np.array([[1] * 7 + [0] * 2 + [2] * 4])
    model = tiny.TABLE[name].model
    encode = lambda *inputs: np.asarray(
        model.apply({"params": tiny.wide(model)}, *inputs, method="encode")
    )
    packed = encode(row, document_ids_BL)[0]
    assert relative(packed[:7], encode(a[None])[0]) < TOLERANCE
    assert relative(packed[9:], encode(b[None])[0]) < TOLERANCE


@versions
def test_targets_see_the_whole_source_and_no_later_target(name):
    before = run(name, tiny.TOKENS)
    targets_BT, tokens_BL = tiny.TARGETS.copy(), tiny.TOKENS.copy()
    targets_BT[:, 4] = (targets_BT[:, 4] + 1) % V
    difference_BT = np.abs(run(name, tiny.TOKENS, targets_BT) - before).max(-1)
    assert (difference_BT[:, :4] == 0).all()
    assert (difference_BT[:, 4:] > 1e-5).all()
    for position in (0, L - 1):
        tokens_BL[:, position] = (tokens_BL[:, position] + 1) % V
        assert (np.abs(run(name, tokens_BL) - before).max(-1) > 1e-5).all()


@versions
def test_without_targets_only_the_first_token_is_predicted(name):
    first = run(name, tiny.TOKENS, None)
    assert first.shape == (B, 1, V)
    assert relative(first, run(name, tiny.TOKENS)[:, :1]) < TOLERANCE


@versions
@pytest.mark.parametrize("length", [1, 5, L])
def test_step_by_step_decoding_equals_one_forward_pass(name, length):
    model = tiny.TABLE[name].model
    params = {"params": tiny.wide(model)}
    tokens_BL, document_ids_BL = tiny.TOKENS[:, :length], tiny.DOCUMENTS[:, :length]
    expected_BTV = run(name, tokens_BL, document_ids_BL=document_ids_BL)
    start = jax.jit(lambda: model.apply(params, tokens_BL, document_ids_BL, T - 1, method="start"))
    step = jax.jit(lambda token_B, cache: model.apply(params, token_B, cache, method="step"))
    logits_BV, cache = start()
    assert all(leaf.shape[0] == B for leaf in jax.tree.leaves(cache) if leaf.ndim)
    for t in range(T):
        assert relative(logits_BV, expected_BTV[:, t]) < TOLERANCE, t
        if t + 1 < T:
            logits_BV, cache = step(tiny.TARGETS[:, t + 1], cache)
    assert int(cache.length) == T == cache.blocks[0][0].shape[2]


@versions
def test_shapes_of_decoding_agree_with_names(name):
    model = tiny.TABLE[name].model
    params = {"params": tiny.wide(model)}
    with shapes.checked() as places:
        _, cache = model.apply(params, tiny.TOKENS, tiny.DOCUMENTS, 4, method="start")
        model.apply(params, np.arange(B), cache, method="step")
    assert "t5.py:T5.extend:positions_M" in places


# The start of every bucket, by the formulas of the released code.
EITHER_SIDE = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91]
THE_PAST = [*range(16), 16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113]


def test_distances_have_the_buckets_of_the_paper():
    distance = np.arange(1000)
    expected = np.searchsorted(EITHER_SIDE, distance, "right") - 1
    buckets = lambda side, distance: np.asarray(
        jax.jit(side, static_argnums=(1, 2))(distance, 32, 128)
    )
    assert (buckets(relative_bias.either_side, -distance) == expected).all()
    assert (buckets(relative_bias.either_side, distance[1:]) == expected[1:] + 16).all()
    past = np.searchsorted(THE_PAST, distance, "right") - 1
    assert (buckets(relative_bias.the_past, -distance) == past).all()
    assert (buckets(relative_bias.the_past, distance) == 0).all()


def test_weights_are_initialized_as_in_the_paper():
    D, H, K, F = 64, 4, 8, 96
    expected = {
        "embedding": 1.0,
        "table": D**-0.5,
        "query/kernel": (D * K) ** -0.5,
        "key/kernel": D**-0.5,
        "value/kernel": D**-0.5,
        "output/kernel": (H * K) ** -0.5,
        "gate/kernel": D**-0.5,
        "up/kernel": D**-0.5,
        "down/kernel": F**-0.5,
    }
    for architecture in (t5, t5_v1_1):
        config = architecture.Config(
            vocab_size=512,
            num_layers=1,
            num_heads=H,
            width=D,
            mlp_width=F,
            head_width=K,
            num_decoder_layers=1,
        )
        model = architecture.Model(config)
        params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))["params"]
        for path, array in flatten(params).items():
            if path.endswith("scale"):
                assert (array == 1).all()
            else:
                (std,) = [std for end, std in expected.items() if path.endswith(end)]
                assert abs(float(array.std()) / std - 1) < 6 / array.size**0.5, path


def test_a_folder_identifies_its_release(tmp_path):
    for name in ("t5", "t5_v1_1"):
        model = tiny.TABLE[name].model
        huggingface.write(tmp_path, huggingface.find_class(type(model)), model, tiny.wide(model))
        assert registry.name_of(zoo.load(tmp_path).model) == name
