"""Causal language modelling against a loop over documents and positions, in float64."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from tests.tiny_run import CONFIG, wide_params
from train.objectives.causal import Causal
from train.step import corrupt
from zoo.models import gpt2

E = 63  # the end-of-document token
MODEL = gpt2.Model(CONFIG)
OBJECTIVE = Causal(E)


def batch(*rows):
    """Return windows like those of train.data.batches.windows, padded on the right."""
    longest = max(map(len, rows))
    tokens = np.zeros((len(rows), longest), np.int32)
    for number, row in enumerate(rows):
        tokens[number, : len(row)] = row
    mask = np.arange(longest) < np.array([[len(row)] for row in rows])
    return {"tokens": tokens, "mask": mask}


def loss(params, batch):
    example = corrupt(OBJECTIVE, jax.random.key(0), batch)
    terms, carry = OBJECTIVE.loss(MODEL, params, example, (), jax.random.key(0), train=False)
    assert carry == ()
    return terms["token"], example["weights"]["token"].sum()


ROWS = (
    [5, 6, 7, E, 8, 9, 10, 11, E, 12, 13],
    [E, 1, 2, 3, 4, 5, 6, 7, 8, 9, E],
    [20, 21, E, E, 22, 23],
)


def test_loss_and_accuracy_are_those_of_each_document_alone_token_by_token():
    weights = wide_params()
    expected_loss = expected_right = count = 0
    for row in ROWS:
        starts = [0, *(i for i, token in enumerate(row) if token == E and i > 0), len(row)]
        for a, b in itertools.pairwise(starts):
            logits_LV = MODEL.apply({"params": weights}, jnp.array([row[a:b]]))[0]
            for end in range(a, min(b, len(row) - 1)):
                logits_V = logits_LV[end - a]
                exponentials = np.exp(np.float64(logits_V) - float(logits_V.max()))
                expected_loss -= np.log(exponentials[row[end + 1]] / exponentials.sum())
                expected_right += int(np.argmax(logits_V)) == row[end + 1]
                count += 1
    term, weight = loss(weights, batch(*ROWS))
    assert count == weight == sum(len(row) - 1 for row in ROWS)
    np.testing.assert_allclose(term.loss, expected_loss, rtol=1e-5)
    assert term.right == expected_right


def test_documents_packed_into_a_window_do_not_see_each_other():
    weights = wide_params()
    row = [1, 2, 3, E, 4, 5, 6, E, 7, 8, 9]
    changed_row = [1, 2, 3, E, 40, 50, 60, E, 7, 8, 9]

    def logits_LV(row, params=weights):
        example = corrupt(OBJECTIVE, jax.random.key(0), batch(row))
        return MODEL.apply({"params": params}, example["tokens"], example["documents"])[0]

    differs = np.abs(logits_LV(row) - logits_LV(changed_row)).max(-1) > 0
    assert differs.tolist() == [False] * 4 + [True] * 3 + [False] * 3

    def gradient(row):
        """Return the gradient of the predictions inside the third document."""
        return jax.grad(lambda p: jax.nn.log_softmax(logits_LV(row, p)[7:])[:, 1].sum())(weights)

    for leaf, changed_leaf in zip(
        jax.tree.leaves(gradient(row)), jax.tree.leaves(gradient(changed_row)), strict=True
    ):
        np.testing.assert_array_equal(leaf, changed_leaf)


def test_positions_start_anew_in_every_document():
    weights = wide_params()
    example = corrupt(OBJECTIVE, jax.random.key(0), batch([1, 2, 3, E, 4, 5, 6, 7]))
    packed = MODEL.apply({"params": weights}, example["tokens"], example["documents"])
    single_document = MODEL.apply({"params": weights}, jnp.array([[E, 4, 5, 6]]))
    np.testing.assert_allclose(packed[0, 3:7], single_document[0], rtol=1e-5, atol=1e-5)


def test_the_end_of_document_starts_the_next_document_and_is_predicted_by_the_last():
    example = OBJECTIVE.corrupt(jax.random.key(0), {k: v[0] for k, v in batch(ROWS[0]).items()})
    assert example["documents"].tolist() == [1, 1, 1, 2, 2, 2, 2, 2, 3, 3]
    assert example["targets"].tolist() == ROWS[0][1:]
    assert example["weights"]["token"].tolist() == [1] * 10


def test_padding_is_neither_input_nor_predicted():
    example = corrupt(OBJECTIVE, jax.random.key(0), batch(*ROWS))
    assert example["documents"][2].tolist() == [1, 1, 2, 3, 3, 3, 0, 0, 0, 0]
    assert example["weights"]["token"][2].tolist() == [1] * 5 + [0] * 5
    unpadded, _ = loss(wide_params(), batch(ROWS[2]))
    rows = [ROWS[2], [1] * 11]
    padded_batch = batch(*rows)
    padded_batch["mask"][1] = False
    padded, weight = loss(wide_params(), padded_batch)
    assert weight == 5
    np.testing.assert_allclose(padded.loss, unpadded.loss, rtol=1e-6)
