"""Windows whose length varies from step to step."""

from dataclasses import replace

import numpy as np
import pytest

from tests.data.tiny_corpus import numbered
from train.data.batches.variable_windows import Lengths, VariableWindows

L, B = 14, 4


@pytest.fixture(scope="module")
def text():
    return numbered(num_documents=300)


def windows(text, seed=0):
    return VariableWindows(length=L).train(text, B, seed)


def test_lengths_are_a_handful_around_the_base_and_its_half():
    lengths = Lengths(70, 200_000, 0).drawn
    assert set(lengths) <= set(range(10, 91, 10))
    assert (lengths >= 60).mean() == pytest.approx(0.95, abs=0.02)
    assert (lengths[lengths <= 50]).mean() == pytest.approx(35, abs=2)
    assert lengths[lengths >= 60].mean() == pytest.approx(70, abs=0.5)
    assert 200_000 - 10 < lengths.sum() <= 200_000


def test_every_epoch_has_the_same_lengths_in_another_order():
    lengths = Lengths(70, 20_000, 0)
    first, second = lengths.epoch(0), lengths.epoch(1)
    assert sorted(first) == sorted(second)
    assert not (first == second).all()
    assert (lengths.first(lengths.steps + 5) == np.append(first, second[:5])).all()
    assert not np.array_equal(replace(lengths, seed=1).epoch(0), first)


def test_a_row_continues_where_it_stopped(text):
    batches = windows(text)
    steps = VariableWindows(length=L).lengths(text, B, 0).steps
    sizes = set()
    for step in range(2 * steps - 1):
        now, then = batches(step), batches(step + 1)
        assert now["mask"].all()
        assert (np.diff(now["tokens"]) == 1).all()
        assert now["fresh"].all() == (step % steps == 0)
        assert now["fresh"].any() == (step % steps == 0)
        if (step + 1) % steps:
            assert (now["tokens"][:, -1] == then["tokens"][:, 0]).all()
        else:
            assert (then["tokens"][:, 0] == batches(0)["tokens"][:, 0]).all()
        sizes.add(now["tokens"].shape[1])
    assert 3 <= len(sizes) <= 9


def test_an_epoch_predicts_every_token_once_but_the_rest_of_the_streams(text):
    batches, lengths = windows(text), VariableWindows(length=L).lengths(text, B, 0)
    predicted = np.concatenate([batches(n)["tokens"][:, 1:].ravel() for n in range(lengths.steps)])
    assert len(set(predicted)) == len(predicted) == B * lengths.drawn.sum()
    assert 0 <= text.num_tokens - 1 - len(predicted) < B * (lengths.base // 7 + 1)


def test_the_batches_of_any_step_do_not_depend_on_the_steps_before(text):
    expected, batches = windows(text), windows(text)
    for step, batch in zip(range(50, 54), batches.prefetched(50), strict=False):
        assert (batch["tokens"] == expected(step)["tokens"]).all()


def test_processes_together_see_what_one_process_sees(text):
    source = VariableWindows(length=L)
    parts = [source.train(text, B, 0, (index, 2)) for index in range(2)]
    for step in (0, 3):
        together = np.concatenate([part(step)["tokens"] for part in parts])
        assert (together == windows(text)(step)["tokens"]).all()


def test_evaluation_has_windows_of_the_base_length(text):
    batches = VariableWindows(length=L).evaluate(text, B)
    assert {batches(n)["tokens"].shape for n in range(len(batches))} == {(B, L + 1)}


def test_a_text_that_is_too_short_is_an_error(text):
    with pytest.raises(ValueError, match="give more text, a smaller batch or a shorter length"):
        VariableWindows(length=text.num_tokens).train(text, B, 0)
