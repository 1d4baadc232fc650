"""Contiguous windows: every row of a batch reads on through its own part of the text."""

import itertools

import numpy as np
import pytest

from tests.data.tiny_corpus import numbered
from train.data.batches import contiguous

L, B = 16, 4


@pytest.fixture(scope="module")
def text():
    return numbered()


def test_a_row_continues_where_it_stopped(text):
    batches = contiguous.ContiguousWindows(length=L).train(text, B, seed=0)
    for step in range(5):
        now, then = batches(step), batches(step + 1)
        assert (now["tokens"][:, -1] == then["tokens"][:, 0]).all()
        assert (np.diff(now["tokens"]) == 1).all()
        assert now["fresh"].all() == (step == 0)
        assert not then["fresh"].any()


def test_an_epoch_predicts_every_full_window_once_then_starts_again(text):
    batches = contiguous.ContiguousWindows(length=L).train(text, B, seed=0)
    steps = batches.num_examples // B
    predicted = np.concatenate([batches(step)["tokens"][:, 1:].ravel() for step in range(steps)])
    assert len(set(predicted)) == len(predicted) == batches.num_examples * L
    next_epoch = batches(steps)
    assert next_epoch["fresh"].all()
    assert (next_epoch["tokens"] == batches(0)["tokens"]).all()


def test_evaluation_predicts_every_token_but_the_first_once(text):
    batches = contiguous.ContiguousWindows(length=L).evaluate(text, B)
    all_batches = [batches(number) for number in range(len(batches))]
    predicted = np.concatenate([b["tokens"][:, 1:][b["mask"][:, 1:]] for b in all_batches])
    assert sorted(predicted) == sorted(text.tokens[1:])
    for now, then in itertools.pairwise(all_batches):
        continues = then["mask"][:, 0]
        assert (now["tokens"][continues, -1] == then["tokens"][continues, 0]).all()
    assert all_batches[0]["fresh"].all()


def test_processes_together_see_what_one_process_sees(text):
    one_process = contiguous.ContiguousWindows(length=L).train(text, B, seed=0)
    processes = [
        contiguous.ContiguousWindows(length=L).train(text, B, seed=0, process=(p, 2))
        for p in range(2)
    ]
    for step in (0, 3):
        rows = np.concatenate([process(step)["tokens"] for process in processes])
        assert (rows == one_process(step)["tokens"]).all()


def test_a_text_too_short_for_every_row_is_refused(text):
    with pytest.raises(ValueError, match="give more text, a smaller batch or a shorter length"):
        contiguous.ContiguousWindows(length=512).train(text, 64, seed=0)
