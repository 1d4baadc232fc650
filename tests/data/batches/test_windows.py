"""Windows predict every token once per epoch, in an order set only by seed and step."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from tests.data.tiny_corpus import prepared
from train.data.batches import windows

L, B = 16, 8


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("corpus"), end_of_document=699)


@pytest.fixture(scope="module")
def train(corpus):
    return windows.Windows(length=L).train(corpus, B, seed=7)


def first_documents(corpus, count: int):
    """Return the first documents of a corpus, about `count` windows long."""
    sentence = int(np.searchsorted(corpus.sentences, count * L + 1))
    return replace(corpus, sentences=corpus.sentences[: sentence + 1])


def rows(batches, steps: int) -> list[tuple]:
    return [tuple(row) for step in range(steps) for row in batches(step)["tokens"].tolist()]


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


def test_a_batch_has_the_stated_arrays(train):
    batch = train(0)
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
        "tokens": ((B, L + 1), np.int32),
        "mask": ((B, L + 1), bool),
    }
    assert batch["mask"].all()


def test_a_row_is_a_piece_of_the_text(corpus, train):
    text = corpus.tokens.tolist()
    starts = {tuple(text[i : i + L + 1]) for i in range(0, len(text) - L, L)}
    assert all(tuple(row) in starts for step in range(20) for row in train(step)["tokens"].tolist())


def test_an_epoch_predicts_every_token_of_every_full_window_once(corpus, train):
    epoch_rows = rows(train, -(-train.num_examples // B))
    text = corpus.tokens.tolist()
    expected = [tuple(text[i : i + L + 1]) for i in range(0, len(text) - L, L)]
    assert len(expected) == train.num_examples
    assert sorted(epoch_rows[: train.num_examples]) == sorted(expected)


def test_every_epoch_has_another_order(train):
    two_epochs = rows(train, 2 * train.num_examples // B)
    first, second = two_epochs[: train.num_examples], two_epochs[train.num_examples :]
    assert first[: len(second)] != second
    assert len(set(second)) > 0.99 * len(set(first))


def test_a_batch_is_a_function_of_seed_and_step(corpus, train):
    same_seed = windows.Windows(length=L).train(corpus, B, seed=7)
    other_seed = windows.Windows(length=L).train(corpus, B, seed=8)
    for step in (900, 3, 0, 3, 10**9):
        assert equal(same_seed(step), train(step))
        assert not equal(other_seed(step), train(step))


def test_the_prefetched_batches_are_the_same_from_any_step(train):
    for start in (0, 5, 1234):
        batches = itertools.islice(train.prefetched(start), 12)
        assert all(equal(batch, train(start + i)) for i, batch in enumerate(batches))


def test_no_thread_is_left_behind(corpus):
    import threading

    before = threading.active_count()
    for _ in range(50):
        batches = windows.Windows(length=L).evaluate(first_documents(corpus, 20), B).prefetched()
        next(batches)
        del batches
    assert threading.active_count() <= before + 8


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_global_batch_is_the_same_for_any_number_of_processes(corpus, train, count):
    processes = [windows.Windows(length=L).train(corpus, B, 7, (p, count)) for p in range(count)]
    for step in (0, 41, 10**6):
        rows = np.concatenate([process(step)["tokens"] for process in processes])
        assert np.array_equal(rows, train(step)["tokens"])
    assert {process.num_examples for process in processes} == {train.num_examples}


def test_rows_that_processes_cannot_share_are_refused(corpus):
    with pytest.raises(ValueError, match="8 rows cannot be shared by 3 processes"):
        windows.Windows(length=L).train(corpus, B, 0, (0, 3))


@pytest.mark.parametrize("extra", [0, 1, B - 1])
@pytest.mark.parametrize("count", [1, 2])
def test_evaluation_predicts_every_token_exactly_once(corpus, extra, count):
    corpus = first_documents(corpus, 5 * B + extra)
    # Truncated so that the number of windows modulo the batch is the one under test.
    stop = 5 * B * L + extra * L - 3 if extra else 5 * B * L - 3
    corpus = replace(corpus, sentences=np.append(corpus.sentences[corpus.sentences < stop], stop))
    processes = [windows.Windows(length=L).evaluate(corpus, B, (p, count)) for p in range(count)]
    assert processes[0].num_examples == 5 * B + extra
    assert len(processes[0]) == 5 + (extra > 0)
    predicted = []
    for step in range(len(processes[0])):
        for process in processes:
            batch = process(step)
            assert batch["tokens"].shape == (B // count, L + 1)
            predicted += batch["tokens"][:, 1:][batch["mask"][:, 1:]].tolist()
            assert (batch["tokens"][~batch["mask"]] == 0).all()
    assert predicted == corpus.tokens[1:stop].tolist()


def test_a_part_of_a_corpus_stays_within_its_bounds(corpus):
    train, held_out = corpus.split(0.2)
    batches = windows.Windows(length=L).evaluate(held_out, B)
    first_tokens = np.concatenate([batches(step)["tokens"][:, 0] for step in range(len(batches))])
    start = int(held_out.sentences[0])
    assert first_tokens[: batches.num_examples].tolist() == corpus.tokens[start:-1:L].tolist()
    assert windows.Windows(length=L).train(train, B, 0).num_examples == (start - 1) // L


def test_a_text_shorter_than_one_window_is_refused(corpus):
    short = first_documents(corpus, 2)
    with pytest.raises(ValueError, match=r"has \d+ tokens, a window of length 500 needs 501"):
        windows.Windows(length=500).train(short, B, 0)
    assert windows.Windows(length=500).evaluate(short, B).num_examples == 1
