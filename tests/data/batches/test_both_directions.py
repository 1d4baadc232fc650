"""Rows of both directions read the text and its reversal."""

import numpy as np

from tests.data.corpus.test_reversed import END, corpus
from train.data.batches.both_directions import WindowsOfBothDirections
from train.data.batches.contiguous import ContiguousWindows
from train.data.corpus.reversed import Reversed

TEXT = corpus("/abcd/ef/ghijklmnop/")
WINDOWS = WindowsOfBothDirections(length=3, end_of_document=END)
FORWARD = ContiguousWindows(length=3)


def check(batches, forward, backward, count):
    for number in range(count):
        expected = forward(number) | {f"backward_{k}": x for k, x in backward(number).items()}
        batch = batches(number)
        assert set(batch) == set(expected)
        for name, array in expected.items():
            np.testing.assert_array_equal(batch[name], array)


def test_a_batch_has_the_windows_of_both_directions():
    view = Reversed.of(TEXT, END)
    batches = WINDOWS.train(TEXT, 2, 0)
    assert batches.num_examples == FORWARD.train(TEXT, 2, 0).num_examples
    check(batches, FORWARD.train(TEXT, 2, 0), FORWARD.train(view, 2, 0), 5)
    held_out = WINDOWS.evaluate(TEXT, 2)
    assert len(held_out) == len(FORWARD.evaluate(TEXT, 2))
    check(held_out, FORWARD.evaluate(TEXT, 2), FORWARD.evaluate(view, 2), len(held_out))


def test_each_process_has_its_rows():
    whole = WINDOWS.train(TEXT, 2, 0)(1)
    parts = [WINDOWS.train(TEXT, 2, 0, (process, 2))(1) for process in (0, 1)]
    for name, array in whole.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), array)


def test_batches_can_be_read_from_any_step():
    batches = WINDOWS.train(TEXT, 2, 0)
    following = next(iter(batches.prefetched(2)))
    for name, array in batches(2).items():
        np.testing.assert_array_equal(following[name], array)
