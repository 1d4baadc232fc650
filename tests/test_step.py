"""The gradient step does not depend on padding, row order or gradient accumulation."""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.tiny_run import CONFIG, wide_params
from train.objectives.causal import Causal
from train.objectives.objective import Term
from train.step import (
    State,
    add_up,
    corrupt,
    join_rows,
    make_begin,
    make_evaluate,
    make_step,
    random_params,
    split_rows,
)
from zoo.models import gpt2

MODEL = gpt2.Model(replace(CONFIG, dropout=0.0))
OBJECTIVE = Causal(63)
PLAIN = optax.sgd(1.0)  # the parameters move by exactly the gradient


def batch(rows=8, length=16, seed=0):
    """Rows of different lengths, one of them with a single token and nothing to predict."""
    random = np.random.default_rng(seed)
    lengths = random.integers(2, length + 2, rows)
    lengths[0] = 1
    mask = np.arange(length + 1) < lengths[:, None]
    return {"tokens": np.int32(random.integers(64, size=(rows, length + 1)) * mask), "mask": mask}


def take_step(batch, **fields):
    """Take one step and return (gradient, metrics)."""
    settings = {"seed": 0, "dtype": "float32"} | fields
    step = make_step(MODEL, OBJECTIVE, PLAIN, optax.constant_schedule(1.0), **settings)
    state = State(jnp.int32(0), wide_params(), PLAIN.init(wide_params()), ())
    after, metrics = jax.jit(step)(state, batch)
    assert after.step == 1
    return jax.tree.map(jnp.subtract, state.params, after.params), metrics


@pytest.fixture(scope="module")
def full_batch_step():
    return take_step(batch())


def assert_close(actual, expected):
    """Compare gradients and metrics; both gradients were rounded to parameters of about 0.2."""
    (gradient, metrics), (expected_gradient, expected_metrics) = actual, expected
    for actual_leaf, expected_leaf in zip(
        jax.tree.leaves(gradient), jax.tree.leaves(expected_gradient), strict=True
    ):
        np.testing.assert_allclose(actual_leaf, expected_leaf, rtol=1e-5, atol=3e-7)
    assert metrics.keys() == expected_metrics.keys()
    for name, value in expected_metrics.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5)


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_accumulation_equals_one_batch_even_if_padding_differs(parts, full_batch_step):
    counts = batch()["mask"][:, 1:].reshape(8 // parts, parts, -1).sum((0, 2))
    assert len(set(counts.tolist())) > 1  # otherwise a mean of means would pass too
    assert_close(take_step(batch(), accumulate=parts), full_batch_step)


def test_rows_of_padding_change_neither_loss_nor_gradient(full_batch_step):
    padded = {name: np.concatenate([x, np.zeros_like(x)]) for name, x in batch().items()}
    assert_close(take_step(padded), full_batch_step)
    assert_close(take_step(padded, accumulate=4), full_batch_step)


def test_longer_padding_changes_neither_loss_nor_gradient(full_batch_step):
    wider = {name: np.pad(x, [(0, 0), (0, 5)]) for name, x in batch().items()}
    assert_close(take_step(wider), full_batch_step)


def test_the_order_of_the_rows_changes_neither_loss_nor_gradient(full_batch_step):
    order = np.random.default_rng(1).permutation(8)
    assert_close(take_step({name: x[order] for name, x in batch().items()}), full_batch_step)


def test_loss_and_accuracy_are_means_over_all_predictions_of_the_batch(full_batch_step):
    example = corrupt(OBJECTIVE, jax.random.key(0), batch())
    logits_BLV = MODEL.apply({"params": wide_params()}, example["tokens"], example["documents"])
    logs_BLV = np.float64(jax.nn.log_softmax(logits_BLV))
    losses, right = [], []
    for row, mask_L in enumerate(batch()["mask"]):
        for position in range(mask_L.sum() - 1):
            target = batch()["tokens"][row, position + 1]
            losses.append(-logs_BLV[row, position, target])
            right.append(logs_BLV[row, position].argmax() == target)
    gradient, metrics = full_batch_step
    np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(metrics["token_accuracy"], np.mean(right), rtol=1e-6)
    norm = np.sqrt(sum(np.square(np.float64(g)).sum() for g in jax.tree.leaves(gradient)))
    np.testing.assert_allclose(metrics["gradient_norm"], norm, rtol=1e-5)
    assert metrics["learning_rate"] == 1


def test_bfloat16_gives_nearly_the_gradient_of_float32_in_float32(full_batch_step):
    gradient, metrics = take_step(batch(), dtype="bfloat16")
    np.testing.assert_allclose(metrics["loss"], full_batch_step[1]["loss"], rtol=5e-3)
    assert metrics["loss"] != full_batch_step[1]["loss"]
    for leaf in jax.tree.leaves(gradient):
        assert leaf.dtype == jnp.float32
        assert np.isfinite(leaf).all()
    gradient_vector, float32_vector = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(g)])
                for g in (gradient, full_batch_step[0]))  # fmt: skip
    assert np.linalg.norm(gradient_vector - float32_vector) < 0.02 * np.linalg.norm(float32_vector)


def test_a_batch_with_nothing_to_predict_changes_no_parameter():
    nothing = {name: np.zeros_like(x) for name, x in batch().items()}
    gradient, metrics = take_step(nothing)
    assert metrics["loss"] == 0
    assert not any(np.any(g) for g in jax.tree.leaves(gradient))


class Drawing:
    """An objective that exposes the random numbers of each row."""

    def corrupt(self, key, example):
        return example | {"drawn": jax.random.bits(key, (4,))}


def test_random_numbers_of_a_row_depend_only_on_its_position_in_the_global_batch():
    key = jax.random.key(3)
    drawn = corrupt(Drawing(), key, batch())["drawn"]
    assert len(np.unique(drawn)) == drawn.size
    for replica in range(4):
        replica_batch = {name: x[2 * replica : 2 * replica + 2] for name, x in batch().items()}
        replica_drawn = corrupt(Drawing(), key, replica_batch, replica)["drawn"]
        np.testing.assert_array_equal(replica_drawn, drawn[2 * replica : 2 * replica + 2])
    drawn_with_other_key = corrupt(Drawing(), jax.random.key(4), batch())["drawn"]
    assert not (drawn_with_other_key == drawn).any()


class Weighted(NamedTuple):
    """Two terms, each with its own predictions, and a carry that sums the tokens of each row."""

    factors = {"all": 1.0, "first": 50.0}

    def corrupt(self, key, example):
        mask = example["mask"].astype(jnp.float32)
        return example | {"weights": {"all": mask, "first": mask[:1]}}

    def initial_carry(self, model, batch_size):
        return {"seen": jnp.zeros(batch_size)}

    def loss(self, model, params, batch, carry, key, *, train):
        values = params["a"] * batch["tokens"] * batch["weights"]["all"]
        terms = {
            "all": Term(values.sum(), jnp.float32(0)),
            "first": Term((params["b"] * batch["weights"]["first"]).sum(), jnp.float32(3)),
        }
        return terms, {"seen": carry["seen"] + batch["tokens"].sum(1)}


class Pair:
    """A model with two parameters."""

    def init(self, key, tokens):
        return {"params": {"a": jnp.ones(()), "b": jnp.ones(())}}


@pytest.mark.parametrize("accumulate", [1, 4])
def test_every_term_is_a_mean_over_its_own_weights_and_the_carry_stays_with_its_row(accumulate):
    parts = Pair(), Weighted(), PLAIN
    state = make_begin(*parts, 8)(random_params(parts[0], 0), 0)
    step = make_step(
        *parts, optax.constant_schedule(1.0), seed=0, dtype="float32", accumulate=accumulate
    )
    seen = np.zeros(8)
    for number in range(3):
        rows = batch(seed=number)
        before = state
        state, metrics = jax.jit(step)(state, rows)
        seen += rows["tokens"].sum(1)
        mean = rows["tokens"].sum() / rows["mask"].sum()
        np.testing.assert_allclose(before.params["a"] - state.params["a"], mean, rtol=1e-5)
        np.testing.assert_allclose(before.params["b"] - state.params["b"], 50, rtol=1e-6)
        np.testing.assert_allclose(metrics["all_loss"], before.params["a"] * mean, rtol=1e-5)
        np.testing.assert_allclose(metrics["first_loss"], before.params["b"], rtol=1e-6)
        expected_loss = metrics["all_loss"] + 50 * metrics["first_loss"]
        np.testing.assert_allclose(metrics["loss"], expected_loss, rtol=1e-6)
        np.testing.assert_array_equal(state.carry["seen"], seen)
    assert state.step == 3


def test_split_rows_are_joined_again_and_every_part_has_rows_of_every_device():
    rows = {"x": np.arange(24).reshape(12, 2)}
    parts = split_rows(rows, 3)
    assert parts["x"].shape == (3, 4, 2)
    for part in parts["x"]:
        assert sorted(part[:, 0] // 2 // 3) == [0, 1, 2, 3]  # of four devices with three rows each
    np.testing.assert_array_equal(join_rows(parts)["x"], rows["x"])


def test_evaluation_counts_every_prediction_once_for_any_batch_size():
    all_rows = batch(12)
    evaluate = jax.jit(make_evaluate(MODEL, OBJECTIVE, dtype="float32"))
    results = []
    for size in (12, 4, 2):
        parts = [{n: x[i : i + size] for n, x in all_rows.items()} for i in range(0, 12, size)]

        class Batches(list):
            __call__ = list.__getitem__

        results.append(add_up(OBJECTIVE, evaluate, wide_params(), Batches(parts), ()))
    assert results[0].keys() == {"loss", "token_accuracy"}
    for result in results[1:]:
        for name, value in results[0].items():
            np.testing.assert_allclose(result[name], value, rtol=1e-6)
