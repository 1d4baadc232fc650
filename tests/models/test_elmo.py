"""Properties of ELMo, whose tokens are rows of characters."""

import inspect
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import shapes, tiny
from tests.wide import relative
from zoo.contracts import DirectionsModel, Encoder, LanguageModel, Speller
from zoo.models import elmo
from zoo.params import abstract, flatten, num_parameters
from zoo.tokenizers import word_bytes

B, L, V = 2, 7, 31
CONFIG = elmo.Config(
    vocab_size=V,
    width=12,
    cell_width=10,
    embed_width=5,
    num_highway=2,
    filters=((1, 4), (2, 6), (4, 8)),
)
MODEL, TRUNK = elmo.ELMoLM(CONFIG), elmo.ELMo(CONFIG)
TOLERANCE = 1e-5


def characters(*shape, seed=0) -> np.ndarray:
    """Return words of up to 8 letters."""
    random = np.random.default_rng(seed)
    letters = lambda: "".join(map(chr, random.integers(97, 123, random.integers(1, 9))))
    words = [letters() for _ in range(int(np.prod(shape)))]
    return word_bytes.spell(words).reshape(*shape, word_bytes.LENGTH)


WORDS = characters(B, L)
PARAMS = tiny.wide(MODEL)
FULL = np.ones((B, L), np.int32)


@jax.jit
def run(params, characters_BLC, document_ids_BL):
    return MODEL.apply({"params": params}, characters_BLC, document_ids_BL)


@jax.jit
def directions(params, forward_BLC, forward_ids_BL, backward_BLC, backward_ids_BL, states=None):
    inputs = forward_BLC, forward_ids_BL, backward_BLC, backward_ids_BL, states
    return MODEL.apply({"params": params}, *inputs, method="directions")


@jax.jit
def layers(params, characters_BLC, document_ids_BL):
    variables = {"params": params["trunk"]}
    return TRUNK.apply(variables, characters_BLC, document_ids_BL, method="layers")


def loss_like(params, **options):
    inputs = WORDS, FULL, WORDS[:, ::-1], FULL
    (left, right), _ = MODEL.apply({"params": params}, *inputs, method="directions", **options)
    return jnp.sin(left.logits()).mean() + jnp.cos(right.logits()).mean()


def test_sizes_have_the_published_numbers_of_parameters():
    published = {
        "elmo-small": 13_593_312,
        "elmo-medium": 28_027_744,
        "elmo-original": 93_600_864,
    }
    for name, count in published.items():  # without the softmax
        assert num_parameters(elmo.ELMo, elmo.SIZES[name]) == count
    stated = re.findall(r'"(elmo-\w+)": .*# ([\d,]+)$', inspect.getsource(elmo), re.M)
    assert [name for name, _ in stated] == list(elmo.SIZES)
    for name, count in stated:
        assert num_parameters(elmo.Model, elmo.SIZES[name]) == int(count.replace(",", ""))


def test_shapes_agree_with_names():
    with shapes.checked() as places:
        jax.eval_shape(lambda p: MODEL.apply({"params": p}, WORDS, FULL), PARAMS)
        jax.eval_shape(lambda p: layers(p, WORDS, FULL), PARAMS)
        jax.eval_shape(jax.grad(loss_like), PARAMS)
    assert "elmo.py:ProjectedLSTM.advance:c_BF" in places


def test_it_keeps_to_the_contracts():
    assert isinstance(MODEL, DirectionsModel)
    assert isinstance(TRUNK, Encoder)
    assert isinstance(MODEL, Speller)
    assert isinstance(TRUNK, Speller)
    assert not isinstance(MODEL, LanguageModel)  # it predicts words, which it reads by letters


def test_parameters_need_no_characters():
    for tokens in (np.zeros((1, 8), np.int32), WORDS):
        actual = jax.eval_shape(MODEL.init, jax.random.key(0), tokens)["params"]
        assert jax.tree.map(lambda x: x.shape, actual) == jax.tree.map(jnp.shape, PARAMS)


def test_every_parameter_fits_an_axes_rule():
    paths = flatten(abstract(MODEL))
    for path, leaf in paths.items():
        rule = next((axes for rule, axes in elmo.AXES if re.search(rule, path)), None)
        assert rule is None or len(rule) == leaf.ndim, path
        assert rule is not None or leaf.ndim == 1 or "bias" in path, path


def test_every_parameter_gets_a_gradient():
    gradient = jax.jit(jax.grad(loss_like))(PARAMS)
    for path, array in flatten(gradient).items():
        assert jnp.isfinite(array).all(), path
        assert jnp.abs(array).max() > 1e-7, path


def test_dropout_is_off_by_default_and_on_in_training():
    @jax.jit
    def losses(params, seeds):
        rngs = [{"dropout": jax.random.key(seed)} for seed in seeds]
        in_training = [loss_like(params, rngs=rng, train=True) for rng in rngs]
        return loss_like(params), loss_like(params, rngs=rngs[0]), *in_training

    plain, default, first, second = map(float, losses(PARAMS, np.arange(2)))
    assert default == plain
    assert len({plain, first, second}) == 3


def test_the_layers_are_both_directions_above_the_word_twice():
    of_layers = layers(PARAMS, WORDS, FULL)
    assert [x.shape for x in of_layers] == [(B, L, 12)] * 3
    assert (of_layers[0][..., :6] == of_layers[0][..., 6:]).all()
    variables = {"params": PARAMS["trunk"]}
    top, sown = TRUNK.apply(variables, WORDS, FULL, mutable=["intermediates"])
    assert relative(top, of_layers[2]) < TOLERANCE
    assert len(sown["intermediates"]["hidden_states"]) == 3
    for own, sown_BLD in zip(of_layers, sown["intermediates"]["hidden_states"], strict=True):
        assert relative(sown_BLD, own) < TOLERANCE
    read = TRUNK.apply(variables, WORDS, None, FULL, method="read")
    assert relative(read, top) < TOLERANCE


def test_the_directions_see_the_past_and_the_future():
    changed = WORDS.copy()
    changed[:, 3] = characters(B, seed=1)
    before, after = layers(PARAMS, WORDS, FULL), layers(PARAMS, changed, FULL)
    for number in (1, 2):
        moved = np.abs(before[number] - after[number]).reshape(B, L, 2, 6).max(-1) > 1e-6
        assert (moved[:, :, 0] == (np.arange(L) >= 3)).all()
        assert (moved[:, :, 1] == (np.arange(L) <= 3)).all()
    moved = np.abs(before[0] - after[0]).max(-1) > 1e-6
    assert (moved == (np.arange(L) == 3)).all()  # a word's own vector has no context


@pytest.mark.parametrize(("before", "after"), [(0, 4), (4, 0), (2, 2)])
def test_padding_and_other_rows_change_nothing(before, after):
    pad = ((0, 0), (before, after))
    padded = characters(B, before + L + after, seed=2)
    padded[:, before : before + L] = WORDS
    expected = layers(PARAMS, WORDS[:1], FULL[:1])
    for actual, own in zip(layers(PARAMS, padded, np.pad(FULL, pad)), expected, strict=True):
        assert relative(actual[:1, before : before + L], own) < TOLERANCE


def test_documents_in_one_row_do_not_see_each_other():
    row, ids = WORDS.reshape(1, B * L, -1), np.repeat(np.arange(1, B + 1), L)[None]
    apart = layers(PARAMS, WORDS, FULL)
    for actual, expected in zip(layers(PARAMS, row, ids), apart, strict=True):
        assert relative(actual.reshape(B, L, -1), expected) < TOLERANCE


def test_states_carry_both_directions_across_windows():
    inputs = lambda part: (WORDS[:, part], FULL[:, part]) * 2
    whole, end = directions(PARAMS, *inputs(slice(None)))
    states, parts = MODEL.initial_states(B), []
    for part in (slice(0, 2), slice(2, 4), slice(4, 6)):
        logits, states = directions(PARAMS, *inputs(part), states)
        parts.append(logits)
    for direction in (0, 1):
        joined = jnp.concatenate([part[direction].logits() for part in parts], 1)
        assert relative(joined, whole[direction].logits()[:, :6]) < TOLERANCE
    last, end = directions(PARAMS, *inputs(slice(6, L)), states)[1], end
    for ours, theirs in zip(jax.tree.leaves(last), jax.tree.leaves(end), strict=True):
        assert relative(ours, theirs) < TOLERANCE


def test_the_softmax_predicts_both_neighbours():
    following, previous = run(PARAMS, WORDS, FULL)
    (left, right), _ = directions(PARAMS, WORDS, FULL, WORDS[:, ::-1], FULL)
    assert relative(following, left.logits()) < TOLERANCE
    assert relative(previous, right.logits()[:, ::-1]) < TOLERANCE
    assert (left.table_VD == right.table_VD).all()


def test_a_sentence_has_a_row_for_each_word_between_its_marks():
    rows, positions = MODEL.spell(None, ["the", "cat"])
    assert (rows == word_bytes.spell_sentence(["the", "cat"])).all()
    assert positions == [1, 2]


def test_bfloat16_parameters_give_nearly_the_float32_logits():
    narrow = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
    rounded = jax.tree.map(lambda x: x.astype(jnp.float32), narrow)
    exact, half = run(rounded, WORDS, FULL)[0], run(narrow, WORDS, FULL)[0]
    assert half.dtype == jnp.float32
    assert 0 < relative(half, exact) < 0.03


def test_gradients_of_bfloat16_parameters_are_nearly_those_of_float32():
    narrow = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
    rounded = jax.tree.map(lambda x: x.astype(jnp.float32), narrow)
    gradient = jax.jit(jax.grad(loss_like))
    exact, half = flatten(gradient(rounded)), flatten(gradient(narrow))
    for path, array in half.items():
        assert array.dtype == jnp.bfloat16, path
        assert relative(array.astype(jnp.float32), exact[path]) < 0.2, path


def test_an_odd_width_is_one_line():
    with pytest.raises(ValueError, match=r"^the width of both directions must be even, not 13"):
        abstract(elmo.ELMoLM(replace(CONFIG, width=13)))


def test_a_rate_of_zero_is_no_dropout():
    model = elmo.ELMoLM(replace(CONFIG, dropout=0.0))
    apply = jax.jit(lambda p: model.apply({"params": p}, WORDS, FULL, train=True)[0])
    assert relative(apply(PARAMS), run(PARAMS, WORDS, FULL)[0]) < TOLERANCE
