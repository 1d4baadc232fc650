"""Label prediction: every update against the formula of each loss in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import shapes
from train.objectives.bag_of_words import OUTPUTS, LabelPrediction
from train.objectives.row_objective import RowObjective
from train.optimization import rows
from train.row_step import make_row_step
from train.step import State
from zoo.layers import huffman

V, C, D, K = 12, 5, 4, 3
COUNTS = np.array([9, 6, 3, 3, 1])
LEARNING_RATE = 0.3
TEXTS = [[1, 4, 4, 7, 0], [2, 4], [11]]  # one with a row twice
LABELS = [1, 4, 0]
NEGATIVES = [[0, 3, 3], [1, 0, 2], [2, 1, 4]]
losses = pytest.mark.parametrize("loss", OUTPUTS)


def make_batch(longest=6):
    table = np.full((len(TEXTS), longest), -1, np.int32)
    for number, text in enumerate(TEXTS):
        table[number, : len(text)] = text
    batch = {"rows": table, "label": LABELS, "negatives": NEGATIVES}
    return {name: jnp.array(x, jnp.int32) for name, x in batch.items()}


def make_tables():
    draw = np.random.default_rng(0)
    return {"rows": draw.normal(size=(V, D)), "outputs": draw.normal(size=(C, D))}


def updated_by(loss, batch):
    """Return the tables after one step, and the loss that it reports."""
    objective = LabelPrediction(OUTPUTS[loss](COUNTS))
    assert isinstance(objective, RowObjective)
    optimizer = rows.sgd(lambda step: LEARNING_RATE)
    step = make_row_step(
        None, objective, optimizer, lambda step: LEARNING_RATE, seed=0, dtype="float32"
    )
    params = {name: jnp.asarray(x, jnp.float32) for name, x in make_tables().items()}
    state, metrics = jax.jit(step)(State(jnp.int32(0), params, optimizer.init(params), ()), batch)
    return state.params, float(metrics["loss"])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def loss_and_errors(loss, y_CD, x_D, label, negatives):
    """Return the loss of a text, and the output and the error of each of its predictions."""
    if loss == "softmax":
        p_C = np.exp(y_CD @ x_D)
        p_C /= p_C.sum()
        return -np.log(p_C[label]), [(c, p_C[c] - (c == label)) for c in range(C)]
    if loss == "one-vs-all":
        binary = [(c, c == label) for c in range(C)]
    elif loss == "negative-sampling":
        binary = [(label, True), *((c, False) for c in negatives)]
    else:
        nodes_CH, signs_CH = huffman.tree(COUNTS)
        path = zip(nodes_CH[label], signs_CH[label], strict=True)
        binary = [(node, sign > 0) for node, sign in path if sign]
    total, errors = 0.0, []
    for c, is_true in binary:
        p = sigmoid(y_CD[c] @ x_D)
        total -= np.log(p if is_true else 1 - p)
        errors.append((c, p - is_true))
    return total, errors


@losses
def test_texts_change_the_tables_one_after_another_by_the_formula(loss):
    expected, total = make_tables(), 0.0
    for text, label, negatives in zip(TEXTS, LABELS, NEGATIVES, strict=True):
        x_D = expected["rows"][text].mean(0)
        text_loss, errors = loss_and_errors(loss, expected["outputs"], x_D, label, negatives)
        gradient_D = sum(error * expected["outputs"][c] for c, error in errors)
        for c, error in errors:
            expected["outputs"][c] -= LEARNING_RATE * error * x_D
        for row in text:
            expected["rows"][row] -= LEARNING_RATE * gradient_D / len(text)
        total += text_loss
    params, reported = updated_by(loss, make_batch())
    for name, table in expected.items():
        np.testing.assert_allclose(params[name], table, atol=2e-6)
    np.testing.assert_allclose(reported, total / len(TEXTS), rtol=1e-5)


@losses
def test_padding_changes_nothing(loss):
    batch = make_batch(16)
    empty = {
        name: jnp.full_like(x[:1], -1 if name != "negatives" else 0) for name, x in batch.items()
    }
    more = {name: jnp.concatenate([batch[name], empty[name]]) for name in batch}
    (expected, loss_before), (params, loss_after) = (
        updated_by(loss, one) for one in (make_batch(5), more)
    )
    np.testing.assert_allclose(loss_after, loss_before, rtol=1e-6)
    for name in params:
        np.testing.assert_allclose(params[name], expected[name], atol=1e-6)


@losses
def test_shapes_agree_with_names(loss):
    objective, batch = LabelPrediction(OUTPUTS[loss](COUNTS)), make_batch()
    with shapes.checked() as places:
        block = objective.block(batch, jnp.int32(0))
        ids = objective.rows(block)
        gathered = {name: jnp.asarray(make_tables()[name])[at] for name, at in ids.items()}
        objective.loss(None, gathered, block, (), jax.random.key(0), train=True)
    assert any("bag_of_words.py" in place for place in places)
