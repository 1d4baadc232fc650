"""The penalties on the outputs of a recurrent language model."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import tiny
from train.objectives.causal_stateful import StatefulCausal
from train.objectives.regularized_causal import RegularizedCausal
from train.step import State, corrupt, make_step, total
from zoo.params import flatten

END, B, L = 60, 4, 12
MODEL = tiny.TABLE["awd_lstm"].model
OBJECTIVE = RegularizedCausal(END, activation=2.0, temporal=3.0)


def batch(real=(L + 1,) * B, end_at=None):
    tokens_BL = np.random.default_rng(0).integers(0, END, (B, L + 1))
    if end_at is not None:
        tokens_BL[:, end_at] = END
    mask_BL = np.arange(L + 1) < np.array(real)[:, None]
    return {"tokens": tokens_BL * mask_BL, "mask": mask_BL, "fresh": np.ones(B, bool)}


def terms(rows, objective=OBJECTIVE):
    example = corrupt(objective, jax.random.key(0), rows)
    carry = MODEL.initial_states(len(rows["tokens"]))
    run = lambda params: objective.loss(
        MODEL, params, example, carry, jax.random.key(0), train=False
    )
    computed, _ = jax.jit(run)(tiny.wide(MODEL))
    return computed, {name: x.sum() for name, x in example["weights"].items()}


def outputs(rows):
    example = corrupt(OBJECTIVE, jax.random.key(0), rows)
    inputs = example["tokens"], example["documents"]
    run = lambda params: MODEL.apply({"params": params}, *inputs, method="outputs")[1]
    return np.asarray(jax.jit(run)(tiny.wide(MODEL)), np.float64)


def test_penalties_are_means_over_all_elements():
    computed, weights = terms(batch())
    x_BLD = outputs(batch())
    activation = (x_BLD**2).mean()
    temporal = ((x_BLD[:, 1:] - x_BLD[:, :-1]) ** 2).mean()
    assert computed["activation"].loss / weights["activation"] == pytest.approx(
        activation, rel=1e-5
    )
    assert computed["temporal"].loss / weights["temporal"] == pytest.approx(temporal, rel=1e-5)
    token = computed["token"].loss / weights["token"]
    expected = token + 2.0 * activation + 3.0 * temporal
    assert float(total(OBJECTIVE, computed, weights)) == pytest.approx(float(expected), rel=1e-5)


def test_the_reported_loss_is_that_of_the_tokens_alone():
    computed, weights = terms(batch())
    plain, plain_weights = terms(batch(), StatefulCausal(END))
    assert OBJECTIVE.reported_term == "token"
    assert computed["token"].loss == plain["token"].loss
    assert weights["token"] == plain_weights["token"]


def test_padding_has_no_penalty():
    padded, weights = terms(batch(real=(L + 1, 6, 1, 0)))
    x_BLD = outputs(batch())
    kept = [x_BLD[0], x_BLD[1, :6], x_BLD[2, :1]]
    assert weights["activation"] == L + 6 + 1
    assert weights["temporal"] == L - 1 + 5
    assert padded["activation"].loss == pytest.approx(
        sum((x**2).mean(-1).sum() for x in kept), rel=1e-5
    )
    assert padded["temporal"].loss == pytest.approx(
        sum((np.diff(x, axis=0) ** 2).mean(-1).sum() for x in kept), rel=1e-5
    )


def test_a_change_between_two_documents_has_no_penalty():
    computed, weights = terms(batch(end_at=5))
    x_BLD = outputs(batch(end_at=5))
    changes_BL = (np.diff(x_BLD, axis=1) ** 2).mean(-1)
    assert weights["temporal"] == B * (L - 2)
    assert computed["temporal"].loss == pytest.approx(
        changes_BL.sum() - changes_BL[:, 4].sum(), rel=1e-5
    )


def test_accumulation_changes_nothing():
    rates = {name: 0.0 for name in vars(MODEL.config) if name.endswith("dropout")}
    model = type(MODEL)(type(MODEL.config)(**{**vars(MODEL.config), **rates}))
    optimizer, rows = optax.sgd(1.0), batch(real=(L + 1, 6, 9, 3))
    state = State(
        jnp.int32(0), tiny.wide(model), optimizer.init(tiny.wide(model)), model.initial_states(B)
    )
    results = []
    for parts in (1, 2):
        step = make_step(
            model,
            OBJECTIVE,
            optimizer,
            lambda step: 1.0,
            seed=0,
            dtype="float32",
            accumulate=parts,
        )
        results.append(jax.jit(step)(state, rows))
    (whole, metrics), (split, split_metrics) = results
    assert split_metrics["loss"] == pytest.approx(float(metrics["loss"]), rel=1e-5)
    for path, array in flatten(whole.params).items():
        np.testing.assert_allclose(array, flatten(split.params)[path], atol=1e-5)
