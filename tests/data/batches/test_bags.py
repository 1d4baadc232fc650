"""Texts as bags of rows with a label."""

import numpy as np

from train.data.batches.bags import Bags
from zoo.tokenizers.subwords import Rows

TEXTS = Rows(np.array([0, 2, 3, 6, 7]), np.array([4, 1, 2, 5, 5, 0, 3], np.int32))
LABELS = np.array([0, 2, 1, 0], np.int32)


def make_bags(batch, seed=0, negatives=0, noise=(4.0, 1.0, 1.0)):
    settings = {"batch": batch, "seed": seed, "negatives": negatives, "noise": np.array(noise)}
    return Bags(texts=TEXTS, labels=LABELS, **settings)


def test_every_epoch_has_every_text_once():
    batches = make_bags(3)
    for epoch in range(2):
        texts = [
            (tuple(rows[rows >= 0].tolist()), int(label))
            for batch in (batches(2 * epoch), batches(2 * epoch + 1))
            for rows, label in zip(batch["rows"], batch["label"], strict=True)
        ]
        nothing = ((), -1)
        assert sorted(texts) == [
            nothing,
            nothing,
            ((2,), 2),
            ((3,), 0),
            ((4, 1), 0),
            ((5, 5, 0), 1),
        ]


def test_negative_samples_are_other_labels_by_their_weights():
    batch = make_bags(4, negatives=400)(0)
    by_label = dict(zip(batch["label"].tolist(), batch["negatives"], strict=True))
    assert set(by_label[0]) == {1, 2}
    assert set(by_label[1]) == {0, 2}
    assert 0.74 < np.mean(by_label[1] == 0) < 0.86
    assert 0.42 < np.mean(by_label[0] == 1) < 0.58


def test_batches_depend_on_the_step_and_the_seed_alone():
    batches = make_bags(4, negatives=40)
    later = batches.prefetched(5)
    for name, x in batches(5).items():
        np.testing.assert_array_equal(x, make_bags(4, negatives=40)(5)[name])
    np.testing.assert_array_equal(next(later)["negatives"], batches(5)["negatives"])
    for other in (batches(4), make_bags(4, seed=1, negatives=40)(5)):
        assert (other["negatives"] != batches(5)["negatives"]).any()
