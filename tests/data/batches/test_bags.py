"""Texts as bags of rows with a label."""

import numpy as np

from train.data.batches.bags import Bags
from zoo.tokenizers.subwords import Rows

TEXTS = Rows(np.array([0, 2, 3, 6, 7]), np.array([4, 1, 2, 5, 5, 0, 3], np.int32))
LABELS = np.array([0, 2, 1, 0], np.int32)


def make_bags(negatives=0, noise=(4.0, 1.0, 1.0)):
    return Bags(texts=TEXTS, labels=LABELS, negatives=negatives, noise=np.array(noise))


def test_every_epoch_has_every_text_once():
    batches = make_bags().train(2, seed=3)
    for epoch in range(2):
        texts = [
            (tuple(rows[rows >= 0].tolist()), int(label))
            for batch in (batches(2 * epoch), batches(2 * epoch + 1))
            for rows, label in zip(batch["rows"], batch["label"], strict=True)
        ]
        assert sorted(texts) == [((2,), 2), ((3,), 0), ((4, 1), 0), ((5, 5, 0), 1)]


def test_negative_samples_are_other_labels_by_their_probabilities():
    batch = make_bags(negatives=400).train(4, seed=0)(0)
    by_label = dict(zip(batch["label"].tolist(), batch["negatives"], strict=True))
    assert set(by_label[0]) == {1, 2}
    assert set(by_label[1]) == {0, 2}
    assert 0.74 < np.mean(by_label[1] == 0) < 0.86
    assert 0.42 < np.mean(by_label[0] == 1) < 0.58


def test_negative_samples_are_redrawn_in_every_epoch():
    batches = make_bags(negatives=40).train(4, seed=0)
    draws = [batches(step)["negatives"][batches(step)["label"] == 2] for step in (0, 1)]
    assert (draws[0] != draws[1]).any()
