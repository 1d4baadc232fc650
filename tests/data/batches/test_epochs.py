"""Every run sees every row once per epoch, in few shapes of batches."""

import itertools

import numpy as np

from train.data.batches.epochs import COMPILING, epochs
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


def cost(lengths, batch, chosen):
    """The padded tokens of an epoch, and those that compiling a step is worth for each length."""
    rows = np.bincount(np.searchsorted(chosen, lengths), minlength=len(chosen))
    padded = -(-rows // batch) * batch * chosen
    return padded.sum() + len(chosen) * COMPILING * batch * lengths.mean()


def test_no_other_buckets_cost_less():
    for seed in range(5):
        random = np.random.default_rng(seed)
        lengths = random.choice([2, 3, 5, 9, 14, 20, 33, 60], 60, p=random.dirichlet(np.ones(8)))
        used = np.unique(lengths)
        others = [
            [*some, used[-1]]
            for count in range(len(used))
            for some in itertools.combinations(used[:-1], count)
        ]
        buckets = list(epochs(lengths, 64, 1, (0,)).buckets)
        assert cost(lengths, 1, np.array(buckets)) == min(
            cost(lengths, 1, np.array(other)) for other in others
        )


def test_a_length_of_few_rows_has_no_bucket_of_its_own():
    lengths = [5] * 500 + [6] * 50 + [40] * 500
    assert {length: len(rows) for length, rows in epochs(lengths, 64, 4, (0,)).buckets.items()} == {
        6: 550,
        40: 500,
    }


def test_few_rows_share_one_bucket_that_holds_the_longest():
    order = epochs([3, 9, 21], 1 << 30, 16, (0,))  # a recurrent model has no maximum length
    assert list(order.buckets) == [21]


def test_an_accelerator_has_fewer_and_rounder_lengths(monkeypatch):
    lengths = [5] * 20 * 16 + [20] * 20 * 16
    assert list(epochs(lengths, 64, 16, (0,)).buckets) == [5, 20]
    monkeypatch.setattr(length_buckets.jax, "default_backend", lambda: "gpu")
    assert list(epochs(lengths, 64, 16, (0,)).buckets) == [24]
    assert list(epochs(lengths, 20, 16, (0,)).buckets) == [20]
    assert list(epochs(lengths * 20, 64, 16, (0,)).buckets) == [8, 24]
