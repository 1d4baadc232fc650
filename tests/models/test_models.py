"""Properties of every model."""

import inspect
import re
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import shapes, tiny
from tests.tiny import B, L, V
from tests.wide import relative
from zoo import registry
from zoo.contracts import EncoderDecoder, LanguageModel, PermutationLanguageModel
from zoo.params import abstract, flatten, num_parameters

TOLERANCE = 1e-5
models = pytest.mark.parametrize("name", tiny.TABLE)
single_sequence_models = pytest.mark.parametrize(
    "name", [n for n, row in tiny.TABLE.items() if row.sees != "source"]
)


def run(name, tokens_BL, params=None, *, train=False, rngs=None, model=None, **inputs):
    """Return the logits of a row's model, or of another `model`, by a shared jitted program."""
    row = tiny.TABLE[name]
    inputs = {k: v for k, v in row.more.items() if k != "segments_BL"} | inputs
    params = tiny.wide(row.model) if params is None else params
    apply = tiny.compiled(model or row.model, train)
    return np.asarray(apply(params, tokens_BL, inputs, rngs or {}))


def segments(name, segments_BL):
    return {"segments_BL": segments_BL} if "segments_BL" in tiny.TABLE[name].more else {}


def test_the_table_has_every_architecture():
    # They have tests of their own: tests/parity/test_resnet.py, tests/models/test_ngram.py,
    # tests/models/test_word_vectors.py and tests/models/test_elmo.py.
    others = {"resnet", "ngram", "word2vec", "glove", "fasttext", "elmo"}
    missing = set(registry.ARCHITECTURES) - others - set(tiny.TABLE)
    assert not missing, f"add a row to tests/tiny.py for {missing}"
    assert set(tiny.TABLE) <= set(registry.ARCHITECTURES), "add it to zoo/registry.py"


@models
def test_shapes_agree_with_names(name):
    row = tiny.TABLE[name]
    params = tiny.wide(row.model)
    with shapes.checked() as places:
        jax.eval_shape(
            lambda p: row.model.apply(
                {"params": p}, tiny.TOKENS, document_ids_BL=tiny.DOCUMENTS, **row.more
            ),
            params,
        )
        jax.eval_shape(jax.grad(lambda p: tiny.loss_like(row.model, p, row)), params)
    assert any(place.endswith(":x_BLD") for place in places)
    assert len(places) > 20


@pytest.mark.parametrize(
    "name", [n for n, row in tiny.TABLE.items() if hasattr(row.config, "init_std")]
)
def test_new_weights_have_the_standard_deviation_of_the_config(name):
    row = tiny.TABLE[name]
    small, large = (
        flatten(
            row.architecture.Model(replace(row.config, init_std=std)).init(
                jax.random.key(0), tiny.TOKENS, **row.more
            )["params"]
        )
        for std in (0.02, 0.06)
    )
    drawn = [path for path, x in small.items() if x.any() and not path.endswith("scale")]
    positions = ("position_embedding/embedding",)
    others = {"gpt2": positions, "gpt3": positions, "gpt_neo": positions}  # have their own
    others |= {"electra": ("project/kernel", "score/kernel")}
    for path in drawn:
        factor = 1 if path.endswith(others.get(name, ("none",))) else 3
        np.testing.assert_allclose(large[path], factor * small[path], rtol=1e-5, err_msg=path)
    assert len(drawn) > 10


def test_shapes_of_decoding_agree_with_names():
    row = tiny.TABLE["gpt2"]
    params = {"params": tiny.wide(row.model)}
    with shapes.checked() as places:
        _, cache = row.model.apply(params, tiny.TOKENS, tiny.DOCUMENTS, 4, method="start")
        row.model.apply(params, np.arange(B), cache, method="step")
    assert "gpt2.py:GPT2.extend:document_ids_BM" in places


# XLNet, whose tokens attend to the one behind, is compared with transformers.
CAUSAL = [
    name
    for name, row in tiny.TABLE.items()
    if isinstance(row.model, LanguageModel) and not isinstance(row.model, PermutationLanguageModel)
]


@pytest.mark.parametrize("name", CAUSAL)
def test_step_by_step_decoding_equals_one_forward_pass(name):
    row, L = tiny.TABLE[name], 5
    params = {"params": tiny.wide(row.model)}
    lengths_B1 = np.array([[5], [3], [1]])
    document_ids_BL = (np.arange(L) >= L - lengths_B1).astype(np.int32)  # padded on the left
    tokens_BL, new_BT = tiny.TOKENS[:, :L], tiny.TOKENS[:, L : L + 3]
    if isinstance(row.model, EncoderDecoder):
        first_B1 = np.full((B, 1), row.model.start_token, np.int32)
        inputs_BT = np.concatenate([first_B1, new_BT], 1)
        expected_BTV = run(name, tokens_BL, document_ids_BL=document_ids_BL, targets_BT=inputs_BT)
    else:
        ones_BT = np.ones_like(new_BT)
        all_document_ids = np.concatenate([document_ids_BL, ones_BT], 1)
        expected_BTV = run(
            name, np.concatenate([tokens_BL, new_BT], 1), document_ids_BL=all_document_ids
        )
        expected_BTV = expected_BTV[:, L - 1 :]
    start = jax.jit(lambda p, t, d: row.model.apply(p, t, d, 3, method="start"))
    step = jax.jit(lambda p, t, c: row.model.apply(p, t, c, method="step"))
    logits_BV, cache = start(params, tokens_BL, document_ids_BL)
    steps_BV = [logits_BV]
    for position in range(new_BT.shape[1]):
        logits_BV, cache = step(params, new_BT[:, position], cache)
        steps_BV.append(logits_BV)
    logits_BTV = np.stack(steps_BV, 1)
    likely = logits_BTV > -1e29  # the Transformer never generates the start token
    assert relative(np.where(likely, logits_BTV, 0), np.where(likely, expected_BTV, 0)) < TOLERANCE


def test_a_name_with_a_wrong_shape_is_detected():
    def axes():
        x_BL = np.zeros((2, 3, 4))
        return x_BL

    def sizes():
        x_BL, y_LD = np.zeros((2, 3)), np.zeros((4, 5))
        return x_BL, y_LD

    def digit():
        mask_B1L = np.zeros((2, 2, 3))
        return mask_B1L

    def number():
        L, x_BL = 4, np.zeros((2, 3))
        return L, x_BL

    for function in (axes, sizes, digit, number):
        with (
            pytest.raises(AssertionError, match=f"{function.__name__}: .* has the shape"),
            shapes.checked(Path(__file__).parent),
        ):
            function()


@single_sequence_models
@pytest.mark.parametrize(("before", "after"), [(0, 5), (5, 0), (3, 2)])
def test_padding_changes_nothing(name, before, after):
    tokens_BL = tiny.TOKENS[:, :7]
    segments_BL = tiny.SEGMENTS[:, :7]
    unpadded = run(name, tokens_BL, **segments(name, segments_BL))
    pad = ((0, 0), (before, after))
    random_tokens = np.random.default_rng(1).integers(0, V, (B, before + 7 + after))
    document_ids_BL = np.pad(np.ones((B, 7), np.int32), pad)
    padded = run(
        name,
        np.where(
            document_ids_BL > 0, np.pad(tokens_BL, pad), random_tokens
        ),  # padding holds any token
        document_ids_BL=document_ids_BL,
        **segments(name, np.pad(segments_BL, pad)),
    )
    assert np.isfinite(padded).all()
    assert relative(padded[:, before : before + 7], unpadded) < TOLERANCE


@single_sequence_models
def test_documents_in_one_row_do_not_see_each_other(name):
    a_BL, b_BL = tiny.TOKENS[:, :7], tiny.TOKENS[:, 3:7]
    padding_B1 = np.zeros((B, 1), np.int32)
    rows_BL = np.concatenate([a_BL, padding_B1, b_BL], 1)
    document_ids_BL = np.repeat([[1, 0, 2]], [7, 1, 4], 1) + padding_B1
    packed = run(
        name, rows_BL, document_ids_BL=document_ids_BL, **segments(name, np.zeros_like(rows_BL))
    )
    for document_BL, of_document in ((a_BL, packed[:, :7]), (b_BL, packed[:, 8:])):
        unpacked = run(name, document_BL, **segments(name, np.zeros_like(document_BL)))
        assert relative(of_document, unpacked) < TOLERANCE


@single_sequence_models
def test_only_bidirectional_models_see_the_future(name):
    changed_BL = tiny.TOKENS.copy()
    changed_BL[:, 8] = (changed_BL[:, 8] + 1) % V
    before, after = run(name, tiny.TOKENS), run(name, changed_BL)
    difference_BL = np.abs(before - after).max(-1)
    assert (difference_BL[:, 8:] > 1e-3).all()
    if tiny.TABLE[name].sees == "past":
        assert (difference_BL[:, :8] == 0).all()
    else:
        assert (difference_BL[:, :8] > 1e-5).all()


def test_xlnet_predicts_a_token_only_from_those_before_it_in_the_order():
    row = tiny.TABLE["xlnet"]
    params = tiny.wide(row.model)
    rank = np.random.default_rng(3).permutation(L)
    blocked_BLL = np.broadcast_to(rank[:, None] <= rank[None], (1, L, L))
    predictions_BP = np.arange(L)[None]

    def logits_LV(tokens_BL):
        unprojected, _ = row.model.apply(
            {"params": params},
            tokens_BL,
            None,
            None,
            blocked_BLL,
            predictions_BP,
            method="unprojected",
        )
        return np.asarray(unprojected.logits())[0]

    before = logits_LV(tiny.TOKENS[:1])
    for position in (0, 5, L - 1):
        changed_BL = tiny.TOKENS[:1].copy()
        changed_BL[0, position] = (changed_BL[0, position] + 1) % V
        difference_P = np.abs(logits_LV(changed_BL) - before).max(-1)
        # The first in the order is fully masked, so it attends uniformly, as in the released code.
        assert (difference_P[(rank <= rank[position]) & (rank > 0)] == 0).all()
        assert (difference_P[rank > rank[position]] > 1e-5).all()


@models
def test_dropout_is_off_by_default_and_on_in_training(name):
    row = tiny.TABLE[name]
    run_with_seed = lambda seed, **more: run(
        name, tiny.TOKENS, rngs={"dropout": jax.random.key(seed)}, **more
    )
    without_dropout = run(name, tiny.TOKENS)
    assert (run_with_seed(0) == without_dropout).all()
    assert relative(run_with_seed(0, train=True), without_dropout) > 1e-2
    assert (run_with_seed(0, train=True) == run_with_seed(0, train=True)).all()
    assert relative(run_with_seed(1, train=True), run_with_seed(0, train=True)) > 1e-2
    rates = {name: 0.0 for name in vars(row.config) if name.endswith("dropout")}
    rate_0_model = row.architecture.Model(replace(row.config, **rates))
    assert (run(name, tiny.TOKENS, model=rate_0_model, train=True) == without_dropout).all()


@models
def test_every_parameter_gets_a_gradient(name):
    row = tiny.TABLE[name]
    gradient = jax.jit(jax.grad(lambda p: tiny.loss_like(row.model, p, row)))(tiny.wide(row.model))
    for path, array in flatten(gradient).items():
        assert jnp.isfinite(array).all(), path
        largest = jnp.abs(array).max()
        if path.endswith("key/bias"):  # exactly zero: it shifts all logits of a query
            assert largest < 1e-6
        else:
            assert largest > 1e-6, path


@models
def test_jit_changes_nothing(name):
    row = tiny.TABLE[name]
    params = tiny.wide(row.model)
    inputs = {"document_ids_BL": tiny.DOCUMENTS, **row.more}
    plain = tiny.logits(row.model.apply({"params": params}, tiny.TOKENS, **inputs))
    assert relative(run(name, tiny.TOKENS, **inputs), plain) < 1e-6


@models
def test_sizes_have_the_number_of_parameters_in_their_comments(name):
    architecture = tiny.TABLE[name].architecture
    source = inspect.getsource(architecture)
    rows = re.findall(
        r'^    "([\w.-]+)": (?:Config|Tiny)\(((?:.|\n(?!    "))*?)\),  # ([\d,]+)$', source, re.M
    )
    stated = {name: count for name, _, count in rows}
    families = getattr(architecture, "MINIATURES", {})
    missing = set(architecture.SIZES) - set(families) - set(stated)
    assert not missing, f"write the number of parameters as a comment behind {missing}"
    for size, count in stated.items():
        counted = num_parameters(architecture.Model, architecture.SIZES[size])
        assert counted == int(count.replace(",", "")), size


@models
def test_every_parameter_fits_an_axes_rule_or_is_not_split(name):
    row = tiny.TABLE[name]
    paths = flatten(abstract(row.model))
    for pattern, axes in row.architecture.AXES:
        for path in (p for p in paths if re.search(pattern, p)):
            first = next(a for rule, a in row.architecture.AXES if re.search(rule, path))
            if first is axes:
                assert len(axes) == paths[path].ndim, path
    split = [p for p in paths if any(re.search(rule, p) for rule, _ in row.architecture.AXES)]
    large = [p for p, x in paths.items() if p.startswith("trunk/") and x.size > 8 * 24]
    assert set(large) <= set(split)


@models
def test_parameters_are_plain_nested_dicts(name):
    def plain(tree):
        if type(tree) is dict:
            return all(type(key) is str and plain(value) for key, value in tree.items())
        return tree.dtype == jnp.float32

    row = tiny.TABLE[name]
    assert plain(jax.eval_shape(row.model.init, jax.random.key(0), tiny.TOKENS)["params"])


@models
def test_bfloat16_parameters_give_nearly_the_float32_logits(name):
    params = tiny.wide(tiny.TABLE[name].model)
    bfloat16_params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    rounded_params = jax.tree.map(lambda x: x.astype(jnp.float32), bfloat16_params)
    exact, bfloat16_logits = (
        run(name, tiny.TOKENS, rounded_params),
        run(name, tiny.TOKENS, bfloat16_params),
    )
    assert bfloat16_logits.dtype == np.float32
    assert 0 < relative(bfloat16_logits, exact) < 0.03


def test_nnx_wraps_a_model_with_equal_logits():
    from flax import nnx

    row = tiny.TABLE["gpt2"]
    wrapped = nnx.bridge.ToNNX(row.model, rngs=nnx.Rngs(0)).lazy_init(tiny.TOKENS)
    params = nnx.to_pure_dict(nnx.state(wrapped, nnx.Param))
    params = jax.tree.map(jnp.asarray, params)
    expected = np.asarray(row.model.apply({"params": params}, tiny.TOKENS))
    assert (np.asarray(wrapped(tiny.TOKENS)) == expected).all()
    assert np.abs(expected).max() > 0
