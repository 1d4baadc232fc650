"""Every document has a place, and rows are full."""

import numpy as np
import pytest

from train.data.packing import pack


def lengths(count=5000, seed=0):
    draw = np.random.default_rng(seed).lognormal(3.0, 0.6, count)
    return np.clip(draw.astype(int), 1, 128)


def rows(order, packing):
    return [order(number) for number in range(packing.num_rows)]


@pytest.mark.parametrize("most", [1, 3, 16])
def test_every_document_is_in_one_row_with_room_for_it_in_every_epoch(most):
    lengths_N = lengths()
    packing = pack(lengths_N, 128, most)
    epochs = [packing.in_order(), *(packing.shuffled(0, epoch) for epoch in range(3))]
    for epoch in epochs:
        documents = rows(epoch, packing)
        assert sorted(np.concatenate(documents)) == list(range(len(lengths_N)))
        assert all(1 <= len(row) <= most for row in documents)
        assert max(lengths_N[row].sum() for row in documents) <= 128


def test_rows_of_short_documents_are_full():
    lengths_N = lengths()
    assert lengths_N.sum() > 0.98 * 128 * pack(lengths_N, 128, 32).num_rows
    # The best possible: 3 + 5, 4 + 4, 2 + 6.
    assert pack(np.array([3, 4, 6, 5, 2, 4]), 8, 8).num_rows == 3


def test_rows_are_as_few_as_those_of_best_fit_one_by_one():
    lengths_N = lengths(400)
    spaces: list[int] = []
    for length in sorted(lengths_N.tolist(), reverse=True):
        fitting = [space for space in spaces if space >= length]
        if fitting:
            spaces.remove(min(fitting))
        spaces.append(min(fitting, default=128) - length)
    assert pack(lengths_N, 128, 400).num_rows <= len(spaces) + 1


def test_an_epoch_depends_on_the_seed_and_its_number_alone():
    packing = pack(lengths(), 128, 16)
    first, again = packing.shuffled(1, 2), pack(lengths(), 128, 16).shuffled(1, 2)
    assert all((first(row) == again(row)).all() for row in range(packing.num_rows))
    for other in (packing.shuffled(1, 3), packing.shuffled(2, 2)):
        shared = [
            {frozenset(row) for row in rows(x, packing) if len(row) > 1} for x in (first, other)
        ]
        assert len(shared[0] & shared[1]) < 0.05 * len(shared[0])
