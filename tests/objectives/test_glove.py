"""The loss of GloVe is that of a loop over the pairs of the batch, in both orders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.objectives.glove import WeightedLeastSquares
from train.row_step import make_row_evaluate
from zoo.models import glove

V, D, N = 12, 5, 4
CONFIG = glove.Config(vocab_size=V, width=D)
MODEL = glove.Model(CONFIG)
OBJECTIVE = WeightedLeastSquares(N, x_max=3.0)


def wide_params():
    draw = np.random.default_rng(0)
    shapes = {"words": D, "contexts": D, "word_bias": 1, "context_bias": 1}
    return {
        k: jnp.asarray(draw.normal(0, 1, (V, width)), jnp.float32) for k, width in shapes.items()
    }


def batch():
    """Return two rows of two blocks, the second of them with one pair of a word with itself."""
    draw = np.random.default_rng(1)
    size = np.array([8, 3], np.int32)
    there = np.arange(8) < size[:, None]
    first = np.where(there, draw.integers(0, 5, (2, 8)), 0).astype(np.int32)
    second = np.where(there, first + draw.integers(1, 7, (2, 8)), 0).astype(np.int32)
    second[1, 1] = first[1, 1]
    count = np.where(there, draw.exponential(3, (2, 8)), 0).astype(np.float32)
    return {"size": size, "first": first, "second": second, "count": count}


def records(batch):
    """Yield the records of the original program: each pair in both orders, if they differ."""
    for i, j, x in zip(
        *(batch[name].ravel() for name in ("first", "second", "count")), strict=True
    ):
        if x > 0:
            yield from {(i, j, x), (j, i, x)}


def loss(params, i, j, x):
    """Return the loss of one record in float64."""
    p = {name: np.asarray(table, np.float64) for name, table in params.items()}
    dot = p["words"][i] @ p["contexts"][j]
    error = dot + p["word_bias"][i, 0] + p["context_bias"][j, 0] - np.log(np.float64(x))
    return min(1, (np.float64(x) / 3) ** 0.75) * error**2 / 2


def test_the_loss_is_the_sum_over_all_pairs_in_both_orders():
    params, rows = wide_params(), batch()
    evaluate = make_row_evaluate(MODEL, OBJECTIVE, dtype="float32")
    (terms, weights), _ = evaluate(params, rows, (), 0)
    losses = [loss(params, *record) for record in records(rows)]
    assert weights["pair"] == len(losses) == 2 * 11 - 1
    np.testing.assert_allclose(terms["pair"].loss, sum(losses), rtol=1e-5)


def test_the_model_of_the_loss_is_that_of_the_architecture():
    params, block = wide_params(), OBJECTIVE.block(batch(), 0)
    rows = {name: params[name][ids] for name, ids in OBJECTIVE.rows(block).items()}
    count = block["count"]
    assert (count > 0).sum() == 2 * 7 - 1
    ids = block["words"].ravel(), block["contexts"].ravel()
    predicted = MODEL.apply({"params": params}, *ids, method="log_counts").reshape(count.shape)
    exact = block | {"count": jnp.where(count > 0, jnp.exp(predicted), 0)}
    terms, _ = OBJECTIVE.loss(MODEL, rows, exact, (), jax.random.key(0), train=True)
    assert terms["pair"].loss == pytest.approx(0, abs=1e-6)


def test_padding_has_no_gradient():
    params, rows = wide_params(), batch()
    block = OBJECTIVE.block(rows, 1)
    ids = OBJECTIVE.rows(block)

    def total(gathered):
        terms, _ = OBJECTIVE.loss(MODEL, gathered, block, (), jax.random.key(0), train=True)
        return terms["pair"].loss

    gradient = jax.grad(total)({name: params[name][at] for name, at in ids.items()})
    for array in gradient.values():
        assert (array[0] != 0).all()
        assert (array[1] == 0).all()
