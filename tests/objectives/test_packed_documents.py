"""Documents that are packed into rows have the loss and the gradients of documents in own rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from train.objectives.causal import PackedCausal
from train.objectives.masked import MaskedLanguageModeling
from train.objectives.span_corruption import (
    PackedSpanCorruption,
    SpanCorruption,
    packed_raw_length,
    packed_room,
    packed_target_length,
    raw_length,
)
from train.step import corrupt, random_params
from zoo.models import bert
from zoo.params import flatten, unflatten

FORWARD, BACKWARD = 1e-5, 1e-4
L = 24
SIZES = ((5, 9, 3, 6), (12, 11), (2, 2, 2, 7, 8), (20,))
SPAN_SIZES = ((5, 9), (12,), (2, 7), (20,))  # fewer, as targets need room too
MASKED = MaskedLanguageModeling(tiny.V, mask=3, specials=(1, 2), num_predictions=6, rate=0.3)
SPANS = PackedSpanCorruption(tiny.V - 1, 1, L, 5)


def packed_rows(sizes, length=L):
    """Return rows of documents of the given sizes: "tokens", "documents", "mask", "targets"."""
    draw = np.random.default_rng(0)
    documents = np.zeros((len(sizes), length), np.int32)
    for row, of_row in zip(documents, sizes, strict=True):
        row[: sum(of_row)] = np.repeat(np.arange(1, len(of_row) + 1), of_row)
    tokens, targets = draw.integers(4, tiny.V - 10, (2, *documents.shape)).astype(np.int32)
    return {"tokens": tokens, "documents": documents, "mask": documents > 0, "targets": targets}


def corrupted(objective, rows):
    """Return rows as the training step corrupts them."""
    function = jax.jit(lambda rows: corrupt(objective, jax.random.key(1), rows))
    return jax.tree.map(np.asarray, function(rows))


def apart(batch):
    """Return a corrupted batch with a row for each document, and its weights."""
    ((term, weights),) = batch["weights"].items()
    flat = {name: x for name, x in batch.items() if name != "weights"} | {"weights": weights}
    if "predictions" in batch:
        rows = [masked_apart(*place, flat) for place in places(batch)]
    else:
        rows = [moved_apart(*place, flat) for place in places(batch)]
    separate = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return separate | {"weights": {term: separate["weights"]}}


def places(batch):
    for row, documents in enumerate(batch["documents"]):
        yield from ((row, number) for number in range(1, documents.max() + 1))


def moved_apart(row, number, flat):
    """Return one document alone: its inputs, and its targets where those are packed too."""
    new = {}
    targets = "target_documents" if "target_documents" in flat else "documents"
    for name, x in flat.items():
        of_targets = name in ("targets", "decoder_inputs", "weights", "target_documents")
        ids = flat[targets if of_targets else "documents"][row]
        part = x[row][ids == number]
        new[name] = np.pad(part, (0, len(ids) - len(part)))
    new["documents"] = np.int32(new["documents"] > 0)
    new.pop("target_documents", None)
    return new


def masked_apart(row, number, flat):
    """Return one document alone, with its predictions, moved to where its tokens now are."""
    documents, predictions = flat["documents"][row], flat["predictions"][row]
    is_in = documents[predictions] == number
    tokens = flat["tokens"][row][documents == number]
    size, start = len(tokens), np.flatnonzero(documents == number)[0]
    return {
        "tokens": np.pad(tokens, (0, len(documents) - size)),
        "documents": np.int32(np.arange(len(documents)) < size),
        "predictions": np.where(is_in, predictions - start, 0),
        "targets": flat["targets"][row],
        "weights": np.where(is_in, flat["weights"][row], 0),
    }


def loss_and_gradient(model, objective, params, batch):
    def loss(params):
        key = jax.random.key(0)
        terms, _ = objective.loss(model, unflatten(params), batch, (), key, train=False)
        return next(iter(terms.values())).loss

    return jax.jit(jax.value_and_grad(loss))(params)


CASES = {
    **{name: PackedCausal(0) for name in ("gpt2", "gpt3", "bytenet")},
    **{name: MASKED for name in ("bert", "roberta")},
    **{name: SPANS for name in ("t5", "t5_v1_1")},
}


@pytest.mark.parametrize("name", CASES)
def test_the_loss_and_its_gradient_are_those_of_documents_in_rows_of_their_own(name):
    objective, model, sizes, length = CASES[name], tiny.TABLE[name].model, SIZES, L
    if name == "bert":
        model = bert.BertLM(model.config)
    if objective is SPANS:
        sizes, length = SPAN_SIZES, packed_raw_length(L)
    params = flatten(random_params(model, 0))
    batch = corrupted(objective, packed_rows(sizes, length))
    separate = apart(batch)
    assert len(separate["tokens"]) == sum(map(len, sizes))
    loss, gradient = loss_and_gradient(model, objective, params, batch)
    expected, expected_gradient = loss_and_gradient(model, objective, params, separate)
    assert expected > 10
    np.testing.assert_allclose(loss, expected, rtol=FORWARD)
    for path, x in expected_gradient.items():
        np.testing.assert_allclose(gradient[path], x, atol=BACKWARD, err_msg=path)
    assert max(jnp.abs(x).max() for x in expected_gradient.values()) > 100 * BACKWARD


def test_spans_are_removed_from_each_document_as_if_it_had_a_row_of_its_own():
    rows = packed_rows(SPAN_SIZES, packed_raw_length(L))
    packed = corrupted(SPANS, rows)
    alone = jax.jit(SpanCorruption(SPANS.first_sentinel, SPANS.end).corrupt)
    for row, number in places(rows):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(1), row), SPANS.most)
        text = rows["tokens"][row][rows["documents"][row] == number]
        longest = raw_length(L)
        example = {
            "tokens": np.pad(text, (0, longest - len(text))),
            "mask": np.arange(longest) < len(text),
        }
        single = alone(keys[number - 1], example)
        is_input, is_target = single["documents"] > 0, single["weights"]["token"] > 0
        for name, ids, is_real in (
            ("tokens", "documents", is_input),
            ("targets", "target_documents", is_target),
            ("decoder_inputs", "target_documents", is_target),
        ):
            np.testing.assert_array_equal(
                packed[name][row][packed[ids][row] == number], single[name][is_real]
            )


@pytest.mark.parametrize("length", [16, 128])
def test_rows_with_room_for_their_documents_lose_no_token_when_spans_are_removed(length):
    draw = np.random.default_rng(0)
    longest, most = raw_length(length), 20
    filled = []
    for low, high in ((2, 4), (2, 20), (10, longest), (longest, longest)):
        sizes, room = [], 0
        while True:
            size = min(int(draw.integers(low, high + 1)), longest)
            room += packed_room(length, size)
            if room > length or len(sizes) == most:
                break
            sizes.append(size)
        filled.append(sizes)
    rows = packed_rows(filled, packed_raw_length(length))
    rows["tokens"] = np.where(rows["mask"], 100 + np.arange(rows["mask"].shape[1]), 0)
    batch = corrupted(PackedSpanCorruption(999, 1, length, most), rows)
    assert batch["targets"].shape[1] == packed_target_length(length)
    for sizes, inputs, targets in zip(filled, batch["tokens"], batch["targets"], strict=True):
        ids = np.concatenate([inputs, targets])
        kept = ids[(ids >= 100) & (ids < 950)]
        np.testing.assert_array_equal(np.sort(kept), 100 + np.arange(sum(sizes)))
        assert (inputs == 1).sum() == (targets == 1).sum() == len(sizes)
