"""Columns give every row of a batch a walk down its own part of the text."""

import itertools

import numpy as np
import pytest

from tests.data.tiny_corpus import numbered
from train.data.batches import contiguous

L, B = 16, 4


@pytest.fixture(scope="module")
def text():
    return numbered()


def test_a_row_goes_on_where_it_stopped(text):
    batches = contiguous.ContiguousWindows(length=L).train(text, B, seed=0)
    for step in range(5):
        now, then = batches(step), batches(step + 1)
        assert (now["tokens"][:, -1] == then["tokens"][:, 0]).all()
        assert (np.diff(now["tokens"]) == 1).all()
        assert now["fresh"].all() == (step == 0)
        assert not then["fresh"].any()


def test_an_epoch_predicts_every_full_window_once_and_the_next_begins_again(text):
    batches = contiguous.ContiguousWindows(length=L).train(text, B, seed=0)
    steps = batches.num_examples // B
    seen = np.concatenate([batches(step)["tokens"][:, 1:].ravel() for step in range(steps)])
    assert len(set(seen)) == len(seen) == batches.num_examples * L
    again = batches(steps)
    assert again["fresh"].all()
    assert (again["tokens"] == batches(0)["tokens"]).all()


def test_evaluation_predicts_every_token_but_the_first_once(text):
    batches = contiguous.ContiguousWindows(length=L).evaluate(text, B)
    found = [batches(number) for number in range(len(batches))]
    seen = np.concatenate([b["tokens"][:, 1:][b["mask"][:, 1:]] for b in found])
    assert sorted(seen) == sorted(text.tokens[1:])
    for now, then in itertools.pairwise(found):
        goes_on = then["mask"][:, 0]
        assert (now["tokens"][goes_on, -1] == then["tokens"][goes_on, 0]).all()
    assert found[0]["fresh"].all()


def test_processes_see_together_what_one_sees(text):
    whole = contiguous.ContiguousWindows(length=L).train(text, B, seed=0)
    parts = [
        contiguous.ContiguousWindows(length=L).train(text, B, seed=0, process=(p, 2))
        for p in range(2)
    ]
    for step in (0, 3):
        rows = np.concatenate([part(step)["tokens"] for part in parts])
        assert (rows == whole(step)["tokens"]).all()


def test_a_text_too_short_for_every_row_is_refused(text):
    with pytest.raises(ValueError, match="give more text, a smaller batch or a shorter length"):
        contiguous.ContiguousWindows(length=512).train(text, 64, seed=0)
