"""Schedules, weight-decay masks and optimizers against the equations of their papers, in NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train.optimization import optimizers, schedules, weight_decay
from train.recipes import recipe

PEAK = 3e-3
# float32 against float64: 2 ** -23 per rounding, a few roundings per step, ten steps.
RELATIVE, ABSOLUTE = 5e-6, 2e-7

SCHEDULES = {
    "constant": (schedules.constant(PEAK), lambda t: PEAK),
    "linear": (
        schedules.linear(PEAK, 10, 100, 1e-3),
        lambda t: PEAK * t / 10 if t < 10 else PEAK + (1e-3 - PEAK) * min(t - 10, 90) / 90,
    ),
    "linear without warm-up": (
        schedules.linear(PEAK, 0, 100),
        lambda t: PEAK * (1 - min(t, 100) / 100),
    ),
    "bert_linear": (
        schedules.bert_linear(PEAK, 10, 100),
        lambda t: PEAK * t / 10 if t < 10 else PEAK * (1 - min(t, 100) / 100),
    ),
    "bert_linear without warm-up": (
        schedules.bert_linear(PEAK, 0, 100),
        lambda t: PEAK * (1 - min(t, 100) / 100),
    ),
    "electra_linear": (
        schedules.electra_linear(PEAK, 10, 100),
        lambda t: PEAK * min(t / 10, 1) * (1 - min(t, 100) / 100),
    ),
    "electra_linear without warm-up": (
        schedules.electra_linear(PEAK, 0, 100),
        lambda t: PEAK * (1 - min(t, 100) / 100),
    ),
    "cosine": (
        schedules.cosine(PEAK, 10, 100, 3e-4),
        lambda t: (
            PEAK * t / 10
            if t < 10
            else 3e-4 + (PEAK - 3e-4) * (1 + math.cos(math.pi * min(t - 10, 90) / 90)) / 2
        ),
    ),
    "cosine without warm-up": (
        schedules.cosine(PEAK, 0, 100),
        lambda t: PEAK * (1 + math.cos(math.pi * min(t, 100) / 100)) / 2,
    ),
    "inverse_square_root": (
        schedules.inverse_square_root(PEAK, 10),
        lambda t: PEAK * 10**0.5 * min(t**-0.5, t * 10**-1.5) if t else 0.0,
    ),
    "held_inverse_square_root": (
        schedules.held_inverse_square_root(PEAK, 10),
        lambda t: PEAK * (10 / max(t, 10)) ** 0.5,
    ),
    "inverse_square_root without warm-up": (
        schedules.inverse_square_root(PEAK, 0),
        lambda t: PEAK * max(t, 1) ** -0.5,
    ),
    "slanted_triangular": (
        schedules.slanted_triangular(PEAK, 100),
        lambda t: PEAK * (1 + 31 * (t / 10 if t < 10 else 1 - (min(t, 100) - 10) / (10 * 9))) / 32,
    ),
    "slanted_triangular without warm-up": (
        schedules.slanted_triangular(PEAK, 100, cut=0.0),
        lambda t: PEAK * (1 + 31 * (1 - min(t, 100) / 100)) / 32,
    ),
    "one_cycle": (
        schedules.one_cycle(PEAK, 100),
        lambda t: (
            _half_cosine(PEAK / 25, PEAK, t / 25)
            if t < 25
            else _half_cosine(PEAK, PEAK / 1e5, (min(t, 100) - 25) / 75)
        ),
    ),
}


def _half_cosine(start, end, fraction):
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_follow_their_formulas_at_every_step(name):
    schedule, formula = SCHEDULES[name]
    steps = np.arange(131)
    ours = jax.jit(jax.vmap(schedule))(jnp.asarray(steps, jnp.int32))
    np.testing.assert_allclose(ours, [formula(int(t)) for t in steps], rtol=1e-5, atol=PEAK * 2e-7)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_support_python_integers_and_steps_beyond_float32(name):
    schedule, formula = SCHEDULES[name]
    assert float(schedule(7)) == pytest.approx(formula(7), rel=1e-5)
    assert math.isfinite(float(schedule(jnp.int32(2**31 - 1))))


def test_staircase_divides_the_learning_rate_at_every_step():
    schedule = schedules.staircase(2.0, 30, 10, 4.0)
    learning_rates = [float(schedule(step)) for step in (0, 29, 30, 39, 40, 50)]
    np.testing.assert_allclose(learning_rates, [2.0, 2.0, 0.5, 0.5, 0.125, 0.03125], rtol=1e-6)


def test_sgd_follows_the_clipped_gradient():
    optimizer = optimizers.sgd(schedules.constant(0.5), clip=1.0)
    gradient = {"a": jnp.array([3.0, 4.0])}
    updates, _ = optimizer.update(gradient, optimizer.init(gradient), gradient)
    np.testing.assert_allclose(updates["a"], [-0.3, -0.4], rtol=1e-6)


def test_adagrad_divides_by_the_root_of_the_sum_of_squares():
    optimizer = optimizers.adagrad(schedules.constant(0.5), initial_accumulator=2.0, clip=None)
    gradients = [jnp.array([1.0, 0.0]), jnp.array([-2.0, 3.0])]
    state = optimizer.init(gradients[0])
    first, state = optimizer.update(gradients[0], state, gradients[0])
    np.testing.assert_allclose(first, [-0.5 / 3**0.5, 0.0], rtol=1e-6)
    second, _ = optimizer.update(gradients[1], state, gradients[0])
    np.testing.assert_allclose(second, [1 / 7**0.5, -1.5 / 11**0.5], rtol=1e-6)


def test_the_adagrad_of_elmo_is_that_of_a_gradient_times_the_length_of_a_row():
    ours = recipe("elmo-original").optimizer(schedules.constant(0.2), decay_mask=None)
    theirs = optimizers.adagrad(schedules.constant(0.2), initial_accumulator=1.0, clip=10.0)
    our_state, their_state = ours.init(jnp.zeros(3)), theirs.init(jnp.zeros(3))
    for gradient in (jnp.array([0.01, 0.2, -0.02]), jnp.array([3.0, 0.0, 1.0])):
        ours_now, our_state = ours.update(gradient, our_state)
        theirs_now, their_state = theirs.update(20 * gradient, their_state)
        np.testing.assert_allclose(ours_now, theirs_now, rtol=1e-5)


def test_slanted_triangular_stays_above_its_end_where_the_papers_equation_does_not():
    schedule = schedules.slanted_triangular(PEAK, 19)  # cut at int(1.9) = 1
    learning_rates = [float(schedule(t)) for t in range(25)]
    assert min(learning_rates) == pytest.approx(PEAK / 32)
    assert learning_rates[19:] == pytest.approx([PEAK / 32] * 6)
    assert learning_rates[1] == max(learning_rates) == pytest.approx(PEAK)


@pytest.mark.parametrize(
    "make",
    [
        lambda: schedules.linear(PEAK, 100, 100),
        lambda: schedules.bert_linear(PEAK, 101, 100),
        lambda: schedules.electra_linear(PEAK, 100, 100),
        lambda: schedules.cosine(PEAK, -1, 100),
        lambda: schedules.cosine(PEAK, 0, 0),
        lambda: schedules.slanted_triangular(PEAK, 10, cut=1.0),
        lambda: schedules.one_cycle(PEAK, 3),
    ],
)
def test_a_schedule_with_too_few_steps_is_an_error_of_one_line(make):
    with pytest.raises(ValueError, match=r"^[^\n]*steps[^\n]*$"):
        make()


# Masks


def _params():
    def dense(*shape):
        return {"kernel": np.ones(shape), "bias": np.ones(shape[1:])}

    def norm():
        return {"scale": np.ones(4), "bias": np.ones(4)}

    def block():
        attention = {name: dense(4, 2, 2) for name in ("query", "key", "value")}
        attention |= {"content_bias": np.ones((2, 2)), "output": {"kernel": np.ones((2, 2, 4))}}
        mlp = {"up": dense(4, 8), "down": dense(8, 4)}
        return {"attention": attention, "attention_norm": norm(), "mlp": mlp, "mlp_norm": norm()}

    return {
        "token_embedding": {"embedding": np.ones((16, 4))},
        "blocks_0": block(),
        "blocks_1": block(),
        "norm": norm(),
    }


def test_exactly_the_biases_and_norms_are_undecayed():
    params = _params()
    mask = weight_decay.undecayed(weight_decay.BIASES_AND_NORMS)(params)
    assert jax.tree.structure(mask) == jax.tree.structure(params)
    undecayed = {
        jax.tree_util.keystr(keys, simple=True, separator="/")
        for keys, decayed in jax.tree.leaves_with_path(mask)
        if not decayed
    }
    block = [f"attention/{name}/bias" for name in ("query", "key", "value")]
    block += ["mlp/up/bias", "mlp/down/bias"]
    block += [
        f"{norm}/{leaf}" for norm in ("attention_norm", "mlp_norm") for leaf in ("scale", "bias")
    ]
    expected = {f"blocks_{layer}/{path}" for layer in (0, 1) for path in block}
    assert undecayed == expected | {"norm/scale", "norm/bias"}


def test_a_pattern_that_matches_nothing_is_named():
    with pytest.raises(ValueError, match=r"LayerNorm.*gamma") as error:
        weight_decay.undecayed((r"bias$", r"LayerNorm", r"gamma$"))(_params())
    assert "bias$" not in str(error.value)
    assert "\n" not in str(error.value)


def test_the_table_counts_every_parameter_once():
    shapes = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, _params()))
    head, decayed, undecayed = weight_decay.table(shapes, weight_decay.BIASES_AND_NORMS)
    assert head.split() == ["weight", "decay", "leaves", "parameters", "paths"]
    # Per block: 64 in attention, 4 in content_bias, 64 in the MLP; 12 + 12 in biases, 16 in norms.
    assert decayed.split()[:3] == ["decayed", str(1 + 2 * 7), str(64 + 2 * (64 + 4 + 64))]
    assert undecayed.split()[:4] == ["not", "decayed", str(2 + 2 * 9), str(8 + 2 * (12 + 12 + 16))]
    assert "blocks_*/attention/key/bias" in undecayed
    assert "blocks_0" not in decayed + undecayed
    assert undecayed.endswith("and 7 more")


# Optimizers

SHAPES = {
    "wide": {"kernel": (128, 160), "bias": (160,)},
    "heads": {"kernel": (130, 3, 128)},
    "norm": {"scale": (8,), "bias": (8,)},
    "zero": {"kernel": (5, 7)},
}
MASK = weight_decay.undecayed(weight_decay.BIASES_AND_NORMS)
LEARNING_RATE = lambda t: PEAK * (1 + t) / 10


def _problem():
    """Return float64 parameters and ten gradients, some with a norm above 1 and some below."""
    rng = np.random.default_rng(0)
    leaf = lambda scale: lambda shape: scale * rng.standard_normal(shape)
    is_shape = lambda node: isinstance(node, tuple)
    params = jax.tree.map(leaf(0.1), SHAPES, is_leaf=is_shape)
    params["zero"]["kernel"] *= 0
    gradients = [
        jax.tree.map(leaf(scale), SHAPES, is_leaf=is_shape) for scale in np.linspace(1e-3, 1e-2, 10)
    ]
    return params, gradients


def _ours(optimizer):
    params, gradients = _problem()
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    state = optimizer.init(params)

    @jax.jit
    def step(params, state, gradient):
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    for gradient in gradients:
        gradient = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), gradient)
        params, state = step(params, state, gradient)
        yield params


def _flat(tree):
    return {"/".join(k.key for k in keys): leaf for keys, leaf in jax.tree.leaves_with_path(tree)}


def _reference(update, clip):
    """Take ten steps: update(path, p, g, state, t) -> new p; state is one dict per tensor."""
    params, gradients = _problem()
    params, state = _flat(params), {path: {} for path in _flat(params)}
    for t, gradient in enumerate(gradients):
        gradient = _flat(gradient)
        norm = math.sqrt(sum((g**2).sum() for g in gradient.values()))
        if clip is not None and norm > clip:
            gradient = {path: g * clip / norm for path, g in gradient.items()}
        params = {
            path: update(path, p, gradient[path], state[path], t) for path, p in params.items()
        }
        yield params


def _assert_same_path(optimizer, update, clip):
    for ours, reference in zip(_ours(optimizer), _reference(update, clip), strict=True):
        for path, p in _flat(ours).items():
            np.testing.assert_allclose(p, reference[path], RELATIVE, ABSOLUTE, err_msg=path)


def _is_decayed(path):
    return path.split("/")[-1] == "kernel"


def _moments(state, g, b1=0.9, b2=0.999):
    state["m"] = b1 * state.get("m", 0) + (1 - b1) * g
    state["v"] = b2 * state.get("v", 0) + (1 - b2) * g**2
    return state["m"], state["v"]


def test_ten_adamw_steps_are_those_of_the_paper():
    def update(path, p, g, state, t):
        m, v = _moments(state, g)
        m, v = m / (1 - 0.9 ** (t + 1)), v / (1 - 0.999 ** (t + 1))
        decay = 0.1 * p if _is_decayed(path) else 0
        return p - LEARNING_RATE(t) * (m / (np.sqrt(v) + 1e-8) + decay)

    _assert_same_path(optimizers.adamw(LEARNING_RATE, decay=0.1, decay_mask=MASK), update, clip=1.0)
    _assert_same_path(
        optimizers.adamw(LEARNING_RATE, decay=0.1, decay_mask=MASK, clip=None), update, clip=None
    )


def _bert_update(path, p, g, state, t):
    m, v = _moments(state, g)
    decay = 0.1 * p if _is_decayed(path) else 0
    return p - LEARNING_RATE(t) * (m / (np.sqrt(v) + 1e-6) + decay)


def test_ten_bert_steps_have_no_bias_correction():
    optimizer = optimizers.adamw_bert(LEARNING_RATE, decay=0.1, decay_mask=MASK)
    _assert_same_path(optimizer, _bert_update, clip=1.0)


def test_ten_lamb_steps_scale_only_decayed_parameters():
    def update(path, p, g, state, t):
        step = (p - _bert_update(path, p, g, state, t)) / LEARNING_RATE(t)
        step_norm, parameter_norm = np.linalg.norm(step), np.linalg.norm(p)
        ratio = (
            parameter_norm / step_norm
            if _is_decayed(path) and parameter_norm > 0 and step_norm > 0
            else 1
        )
        return p - LEARNING_RATE(t) * ratio * step

    _assert_same_path(optimizers.lamb(LEARNING_RATE, decay=0.1, decay_mask=MASK), update, clip=1.0)


def test_muon_keeps_the_singular_vectors_of_a_layers_kernel_and_levels_its_singular_values():
    shapes = {
        "blocks_0": {
            "attention": {"query": {"kernel": (24, 2, 6)}, "output": {"kernel": (2, 6, 24)}},
            "mlp": {"up": {"kernel": (24, 40)}},
        },
        "token_embedding": {"embedding": (16, 24)},
    }
    rng = np.random.default_rng(0)
    is_shape = lambda node: isinstance(node, tuple)
    draw = lambda shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)
    gradient = jax.tree.map(draw, shapes, is_leaf=is_shape)
    optimizer = optimizers.muon(schedules.constant(PEAK), decay=0.0, clip=None)
    params = jax.tree.map(jnp.zeros_like, gradient)
    updates, state = optimizer.update(gradient, optimizer.init(params), params)
    layer, expected = _flat(updates["blocks_0"]), _flat(gradient["blocks_0"])
    for path, inputs in (
        ("attention/query/kernel", 24),
        ("attention/output/kernel", 12),
        ("mlp/up/kernel", 24),
    ):
        left, _, right = np.linalg.svd(expected[path].reshape(inputs, -1), full_matrices=False)
        rotated = left.T @ layer[path].reshape(inputs, -1) @ right.T
        scale = PEAK * 0.2 * max(layer[path].reshape(inputs, -1).shape) ** 0.5
        np.testing.assert_allclose(rotated, np.diag(np.diag(rotated)), atol=1e-4 * scale)
        # Five Newton-Schulz steps bring singular values to 0.7 to 1.2 (Jordan et al. 2024).
        assert np.all((-np.diag(rotated) / scale > 0.6) & (-np.diag(rotated) / scale < 1.3)), path
    adam = optax.nadam(PEAK)
    theirs, _ = adam.update(gradient["token_embedding"], adam.init(params["token_embedding"]))
    ours = updates["token_embedding"]["embedding"]
    np.testing.assert_allclose(ours, theirs["embedding"], rtol=1e-5)
    again, _ = optimizer.update(jax.tree.map(jnp.zeros_like, gradient), state, params)
    assert jnp.abs(again["blocks_0"]["mlp"]["up"]["kernel"]).max() > 0  # momentum


def test_muon_decays_what_the_mask_names():
    params = {"blocks_0": {"mlp": {"up": {"kernel": jnp.ones((4, 4)), "bias": jnp.ones(4)}}}}
    optimizer = optimizers.muon(schedules.constant(0.5), decay=0.1, decay_mask=_decay_kernels)
    updates, _ = optimizer.update(
        jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params
    )
    up = updates["blocks_0"]["mlp"]["up"]
    np.testing.assert_allclose(up["kernel"], -0.05, rtol=1e-6)
    np.testing.assert_array_equal(up["bias"], 0.0)


def _decay_kernels(params):
    return jax.tree.map_with_path(lambda path, _: path[-1].key == "kernel", params)


def test_muon_refuses_a_model_without_layers_of_a_transformer():
    with pytest.raises(ValueError, match="use adamw"):
        optimizers.muon(schedules.constant(0.5)).init({"token_embedding": jnp.ones((4, 4))})


def test_lamb_without_a_mask_scales_every_tensor():
    def update(path, p, g, state, t):
        m, v = _moments(state, g)
        step = m / (np.sqrt(v) + 1e-6) + 0.1 * p
        ratio = np.linalg.norm(p) / np.linalg.norm(step) if np.linalg.norm(p) else 1
        return p - LEARNING_RATE(t) * ratio * step

    _assert_same_path(optimizers.lamb(LEARNING_RATE, decay=0.1), update, clip=1.0)


@pytest.mark.parametrize("smallest_scale", [1e-3, None])
def test_ten_adafactor_steps_are_those_of_the_paper(smallest_scale):
    def update(path, p, g, state, t):
        b2 = 1 - (t + 1) ** -0.8
        axes = {"wide/kernel": (0, 1), "heads/kernel": (0, 2)}.get(path)
        square = g**2 + 1e-30
        if axes:
            row, column = (square.mean(axis, keepdims=True) for axis in axes)
            row = state["row"] = b2 * state.get("row", 0) + (1 - b2) * row
            column = state["column"] = b2 * state.get("column", 0) + (1 - b2) * column
            v = row * column / row.mean(axes[1], keepdims=True)
        else:
            v = state["v"] = b2 * state.get("v", 0) + (1 - b2) * square
        step = g / np.sqrt(v)
        step = step / max(1, np.sqrt((step**2).mean()))
        scale = 1 if smallest_scale is None else max(np.sqrt((p**2).mean()), smallest_scale)
        return p - LEARNING_RATE(t) * scale * step

    _assert_same_path(optimizers.adafactor(LEARNING_RATE, smallest_scale), update, clip=None)


def test_adafactor_keeps_means_of_rows_and_columns_only():
    params = {"wide": jnp.zeros((128, 160)), "narrow": jnp.zeros((127, 160))}
    state = optimizers.adafactor(LEARNING_RATE).init(params)
    sizes = {k: sum(part[k].size for part in state[0][1:]) for k in params}
    assert sizes["wide"] == 128 + 160 + 1
    assert sizes["narrow"] == 127 * 160 + 2


def test_ten_adamw_steps_are_those_of_torch():
    torch = pytest.importorskip("torch")
    params, gradients = _problem()
    tensors = {path: torch.tensor(p, requires_grad=True) for path, p in _flat(params).items()}
    groups = [
        {
            "params": [x for path, x in tensors.items() if _is_decayed(path) is decayed],
            "weight_decay": decay,
        }
        for decayed, decay in ((True, 0.1), (False, 0.0))
    ]
    torch_optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8)
    optimizer = optimizers.adamw(LEARNING_RATE, decay=0.1, decay_mask=MASK)
    for t, (ours, gradient) in enumerate(zip(_ours(optimizer), gradients, strict=True)):
        for group in torch_optimizer.param_groups:
            group["lr"] = LEARNING_RATE(t)
        for path, g in _flat(gradient).items():
            tensors[path].grad = torch.tensor(g)
        torch.nn.utils.clip_grad_norm_(tensors.values(), 1.0)
        torch_optimizer.step()
        for path, p in _flat(ours).items():
            # torch divides by norm + 1e-6 when it clips.
            np.testing.assert_allclose(p, tensors[path].detach(), 2e-5, ABSOLUTE, err_msg=path)


def test_clipping_scales_down_long_gradients_and_keeps_short_ones():
    optimizer = optimizers._chain(2.0)
    state = optimizer.init({})
    long = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])}
    clipped, _ = optimizer.update(long, state)
    np.testing.assert_allclose(np.concatenate(jax.tree.leaves(clipped)), [1.2, 0, 1.6], rtol=1e-6)
    short = jax.tree.map(lambda g: g / 5, long)
    unclipped, _ = optimizer.update(short, state)
    jax.tree.map(np.testing.assert_array_equal, unclipped, short)


@pytest.mark.parametrize("make", [optimizers.adamw, optimizers.adamw_bert, optimizers.lamb])
def test_the_first_step_of_a_warm_up_changes_only_the_moments(make):
    params = {"kernel": jnp.ones((3, 3))}
    optimizer = make(schedules.linear(PEAK, 10, 100))
    state = optimizer.init(params)
    updates, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state, params)
    assert not np.any(updates["kernel"])
    assert np.all(state[1].mu["kernel"] > 0)


@pytest.mark.parametrize(
    "make", [optimizers.adamw, optimizers.adamw_bert, optimizers.lamb, optimizers.adafactor]
)
def test_state_stays_float32_under_bfloat16_gradients(make):
    params = {"kernel": jnp.ones((128, 128)), "bias": jnp.ones(128)}
    optimizer = make(schedules.constant(PEAK))
    state = optimizer.init(params)
    gradients = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    _, after = optimizer.update(gradients, state, params)
    types = jax.tree.map(lambda x: x.dtype, after)
    assert types == jax.tree.map(lambda x: x.dtype, state)
    assert {t for t in jax.tree.leaves(types) if t != jnp.int32} == {jnp.dtype("float32")}
