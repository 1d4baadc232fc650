"""Every run sees every row once per epoch, in few shapes of batches."""

import numpy as np

from train.data.batches.epochs import MIN_BATCHES, epochs
from zoo.inference import length_buckets


def test_every_row_is_seen_once_per_epoch_by_every_run_in_its_own_order():
    lengths = np.random.default_rng(0).integers(1, 60, 500)
    order = epochs(lengths, 64, 16, (3, 4))
    for epoch in range(2):
        steps = [order(epoch * order.steps + step) for step in range(order.steps)]
        for run in range(2):
            epoch_rows = np.concatenate([indices[run] for _, indices in steps])
            assert sorted(epoch_rows[epoch_rows >= 0]) == list(range(500))
        for length, indices in steps:
            assert (lengths[indices[indices >= 0]] <= length).all()
    first, second = (np.stack([order(s)[1][run] for s in range(order.steps)]) for run in range(2))
    assert (first != second).any()
    batch = epochs(lengths, 64, 16, (3, 4))(order.steps + 2)
    assert batch[0] == order(order.steps + 2)[0]
    assert (batch[1] == order(order.steps + 2)[1]).all()


def test_a_bucket_with_few_rows_is_merged_into_the_next():
    enough = MIN_BATCHES * 16
    lengths = [5] * (enough - 1) + [9] + [20] * enough + [33] * 3
    order = epochs(lengths, 64, 16, (0,))
    assert {length: len(rows) for length, rows in order.buckets.items()} == {
        12: enough,
        24: enough,
        48: 3,
    }


def test_few_rows_share_one_bucket_that_holds_the_longest():
    order = epochs([3, 9, 21], 1 << 30, 16, (0,))  # a recurrent model has no maximum length
    assert list(order.buckets) == [24]
    assert list(epochs([3, 29], 30, 16, (0,)).buckets) == [30]


def test_an_accelerator_has_fewer_shapes(monkeypatch):
    lengths = [5] * 20 * 16 + [20] * 20 * 16
    assert list(epochs(lengths, 64, 16, (0,)).buckets) == [8, 24]
    monkeypatch.setattr(length_buckets.jax, "default_backend", lambda: "gpu")
    assert list(epochs(lengths, 64, 16, (0,)).buckets) == [24]
    assert list(epochs(lengths * 20, 64, 16, (0,)).buckets) == [8, 24]
