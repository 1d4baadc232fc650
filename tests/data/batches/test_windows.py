"""Windows give every token once an epoch, in an order that is a function of seed and step alone."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from tests.data.tiny_corpus import prepared
from train.data.batches import windows

L, B = 16, 8


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("corpus"), end_of_document=699)


@pytest.fixture(scope="module")
def train(whole):
    return windows.Windows(length=L).train(whole, B, seed=7)


def part(whole, count: int):
    """The first documents of a corpus, which are about `count` windows long."""
    sentence = int(np.searchsorted(whole.sentences, count * L + 1))
    return replace(whole, sentences=whole.sentences[: sentence + 1])


def rows(batches, steps: int) -> list[tuple]:
    return [tuple(row) for step in range(steps) for row in batches(step)["tokens"].tolist()]


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


def test_a_batch_has_the_stated_arrays(train):
    batch = train(0)
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
        "tokens": ((B, L + 1), np.int32),
        "mask": ((B, L + 1), bool),
    }
    assert batch["mask"].all()


def test_a_row_is_a_piece_of_the_text(whole, train):
    text = whole.tokens.tolist()
    starts = {tuple(text[i : i + L + 1]) for i in range(0, len(text) - L, L)}
    assert all(tuple(row) in starts for step in range(20) for row in train(step)["tokens"].tolist())


def test_an_epoch_predicts_every_token_of_every_full_window_once(whole, train):
    found = rows(train, -(-train.num_examples // B))
    text = whole.tokens.tolist()
    expected = [tuple(text[i : i + L + 1]) for i in range(0, len(text) - L, L)]
    assert len(expected) == train.num_examples
    assert sorted(found[: train.num_examples]) == sorted(expected)


def test_every_epoch_has_another_order(train):
    found = rows(train, 2 * train.num_examples // B)
    first, second = found[: train.num_examples], found[train.num_examples :]
    assert first[: len(second)] != second
    assert len(set(second)) > 0.99 * len(set(first))


def test_a_batch_is_a_function_of_seed_and_step(whole, train):
    again = windows.Windows(length=L).train(whole, B, seed=7)
    other = windows.Windows(length=L).train(whole, B, seed=8)
    for step in (900, 3, 0, 3, 10**9):
        assert same(again(step), train(step))
        assert not same(other(step), train(step))


def test_the_prefetched_batches_are_the_same_from_any_step(train):
    for start in (0, 5, 1234):
        batches = itertools.islice(train.prefetched(start), 12)
        assert all(same(batch, train(start + i)) for i, batch in enumerate(batches))


def test_no_thread_is_left_behind(whole):
    import threading

    before = threading.active_count()
    for _ in range(50):
        batches = windows.Windows(length=L).evaluate(part(whole, 20), B).prefetched()
        next(batches)
        del batches
    assert threading.active_count() <= before + 8


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_global_batch_is_the_same_for_any_number_of_processes(whole, train, count):
    processes = [windows.Windows(length=L).train(whole, B, 7, (p, count)) for p in range(count)]
    for step in (0, 41, 10**6):
        rows = np.concatenate([process(step)["tokens"] for process in processes])
        assert np.array_equal(rows, train(step)["tokens"])
    assert {process.num_examples for process in processes} == {train.num_examples}


def test_rows_that_processes_cannot_share_are_refused(whole):
    with pytest.raises(ValueError, match="8 rows cannot be shared by 3 processes"):
        windows.Windows(length=L).train(whole, B, 0, (0, 3))


@pytest.mark.parametrize("extra", [0, 1, B - 1])
@pytest.mark.parametrize("count", [1, 2])
def test_evaluation_predicts_every_token_exactly_once(whole, extra, count):
    whole = part(whole, 5 * B + extra)
    # Cut so that the number of windows modulo the batch is the one under test.
    stop = 5 * B * L + extra * L - 3 if extra else 5 * B * L - 3
    whole = replace(whole, sentences=np.append(whole.sentences[whole.sentences < stop], stop))
    processes = [windows.Windows(length=L).evaluate(whole, B, (p, count)) for p in range(count)]
    assert processes[0].num_examples == 5 * B + extra
    assert len(processes[0]) == 5 + (extra > 0)
    predicted = []
    for step in range(len(processes[0])):
        for process in processes:
            batch = process(step)
            assert batch["tokens"].shape == (B // count, L + 1)
            predicted += batch["tokens"][:, 1:][batch["mask"][:, 1:]].tolist()
            assert (batch["tokens"][~batch["mask"]] == 0).all()
    assert predicted == whole.tokens[1:stop].tolist()


def test_a_part_of_a_corpus_stays_within_its_bounds(whole):
    train, held_out = whole.split(0.2)
    batches = windows.Windows(length=L).evaluate(held_out, B)
    found = np.concatenate([batches(step)["tokens"][:, 0] for step in range(len(batches))])
    start = int(held_out.sentences[0])
    assert found[: batches.num_examples].tolist() == whole.tokens[start:-1:L].tolist()
    assert windows.Windows(length=L).train(train, B, 0).num_examples == (start - 1) // L


def test_a_text_shorter_than_one_window_is_refused(whole):
    short = part(whole, 2)
    with pytest.raises(ValueError, match=r"has \d+ tokens, a window of length 500 needs 501"):
        windows.Windows(length=500).train(short, B, 0)
    assert windows.Windows(length=500).evaluate(short, B).num_examples == 1
