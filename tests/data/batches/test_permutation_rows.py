"""Rows for XLNet advance through the text, so the memory of a step holds the preceding tokens."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from tests.data.tiny_corpus import numbered, prepared
from train.data.batches import permutation_rows

L, B, REUSE, CLS, SEP = 32, 4, 12, 1, 2
CAPACITY = L - REUSE - 3
OPTIONS = {"reuse": REUSE, "cls": CLS, "sep": SEP}


@pytest.fixture(scope="module", params=[12, 40])
def corpus(request):
    """Return a corpus with sentences shorter than a row, and one with longer sentences too."""
    return numbered(sentence=request.param)


@pytest.fixture(scope="module")
def train(corpus):
    return permutation_rows.PermutationRows(length=L, **OPTIONS).train(corpus, B, seed=3)


def parts_of_row(tokens) -> tuple[list[int], list[int], list[int]]:
    """Return the positions in the text of the reused tokens, of A and of B."""
    tokens = [int(token) for token in tokens]
    first = tokens.index(SEP)
    assert tokens[-2:] == [SEP, CLS]
    assert tokens.count(SEP) == 2
    assert tokens.count(CLS) == 1
    positions = [token - 10 for token in tokens]
    return positions[:REUSE], positions[REUSE:first], positions[first + 1 : -2]


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


def slow_segments(corpus, start: int, a_stop: int, b_start: int | None):
    """Return A and B as the loops of the original code do, given its random numbers."""
    ends = set(corpus.sentences.tolist())
    stop = start + 1
    while not (stop in ends and stop - start >= CAPACITY):
        stop += 1
    b_stop = stop
    if b_start is None:
        b_start = a_stop
    else:
        b_stop = b_start + max(1, CAPACITY - (a_stop - start))
        while b_start not in ends:
            b_start -= 1
        while b_stop not in ends:
            b_stop += 1
    while a_stop - start + b_stop - b_start > CAPACITY:
        if a_stop - start > b_stop - b_start:
            a_stop -= 1
        else:
            b_stop -= 1
    return list(range(start, a_stop)), list(range(b_start, b_stop))


def test_a_batch_has_the_stated_arrays(train):
    assert {k: (v.shape, v.dtype) for k, v in train(0).items()} == {
        "tokens": ((B, L), np.int32),
        "segments": ((B, L), np.int32),
        "mask": ((B, L), bool),
        "words": ((B, L), bool),
        "fresh": ((B,), bool),
    }


def test_every_row_is_full_and_its_parts_are_contiguous(corpus, train):
    for step in range(100):
        batch = train(step)
        assert batch["mask"].all()
        for tokens, segments in zip(batch["tokens"], batch["segments"], strict=True):
            reused, a, b = parts_of_row(tokens)
            assert reused + a == list(range(reused[0], reused[0] + REUSE + len(a)))
            assert b == list(range(b[0], b[0] + len(b)))
            assert len(a) + len(b) == CAPACITY
            expected = [0] * (REUSE + len(a) + 1) + [1] * (len(b) + 1) + [2]
            assert segments.tolist() == expected


def test_a_and_b_are_those_of_a_slow_loop(corpus, train):
    ends = corpus.sentences.tolist()
    continued, possible = 0, 0
    for step in range(150):
        for tokens in train(step)["tokens"]:
            reused, a, b = parts_of_row(tokens)
            start = reused[-1] + 1
            choices = [s for s in ends if start < s < start + CAPACITY]
            last = next(s for s in ends if s >= start + CAPACITY)
            follows = [slow_segments(corpus, start, s, None) for s in choices]
            not_following = [
                slow_segments(corpus, start, s, b_start)
                for s in choices or [last]
                # The start of b, or any position within its first sentence, may have been drawn.
                for b_start in range(b[0], next(s for s in ends if s > b[0]))
                if b_start + max(1, CAPACITY - (s - start)) <= ends[-1]
            ]
            assert (a, b) in follows + not_following
            continued += (a, b) in follows
            possible += bool(follows)
    assert 0.4 < continued / possible < 0.6


def test_words_start_where_those_of_the_text_do_and_at_every_part(corpus, train):
    starts = corpus.word_starts(0, len(corpus.tokens)).tolist()
    batch = train(5)
    for tokens, words in zip(batch["tokens"], batch["words"], strict=True):
        expected = []
        for part in parts_of_row(tokens):
            expected += [True, *(starts[i] for i in part[1:]), False]
        del expected[REUSE]  # no separator follows the reused tokens
        assert words.tolist() == [*expected, False]


def test_rows_advance_by_the_reused_tokens_until_they_are_fresh(corpus, train):
    steps = train.num_examples // B
    before = None
    for step in range(3 * steps):
        batch = train(step)
        assert batch["fresh"].tolist() == [step % steps == 0] * B
        starts = batch["tokens"][:, 0]
        if step % steps:
            assert (starts == before + REUSE).all()
        before = starts


def test_an_epoch_covers_the_text_once(corpus, train):
    steps = train.num_examples // B
    starts = np.concatenate([train(step)["tokens"][:, 0] - 10 for step in range(steps)])
    starts = sorted(starts.tolist())
    assert starts[0] < REUSE
    assert np.diff(starts).tolist() == [REUSE] * (len(starts) - 1)
    assert len(corpus.tokens) - starts[-1] < L + (B + 1) * REUSE


def test_every_epoch_has_another_start_and_other_random_numbers(train):
    steps = train.num_examples // B
    starts = {int(train(epoch * steps)["tokens"][0, 0]) - 10 for epoch in range(40)}
    assert len(starts) > REUSE // 2
    assert max(starts) < REUSE
    later_epoch = next(
        e for e in range(1, 99) if train(e * steps)["tokens"][0, 0] == train(0)["tokens"][0, 0]
    )
    assert not equal(train(later_epoch * steps), train(0))


def test_a_batch_is_a_function_of_seed_and_step_for_any_number_of_processes(corpus, train):
    same_seed = permutation_rows.PermutationRows(length=L, **OPTIONS).train(corpus, B, 3)
    other_seed = permutation_rows.PermutationRows(length=L, **OPTIONS).train(corpus, B, 4)
    for step in (500, 0, 500, 10**8):
        assert equal(same_seed(step), train(step))
        assert not equal(other_seed(step), train(step))
    assert all(
        equal(batch, train(77 + i))
        for i, batch in enumerate(itertools.islice(train.prefetched(77), 10))
    )
    for count in (2, 4):
        processes = [
            permutation_rows.PermutationRows(length=L, **OPTIONS).train(
                corpus, B, 3, process=(p, count)
            )
            for p in range(count)
        ]
        for step in (0, 9, 1000):
            parts = [process(step) for process in processes]
            joined = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
            assert equal(joined, train(step))


@pytest.mark.parametrize("count", [1, 2])
def test_evaluation_has_every_position_once_in_order(corpus, count):
    number = (len(corpus.tokens) - (L - 3)) // REUSE + 1
    for batch in (2, 6, 10, number + number % 2, number + number % 2 + 2):
        processes = [
            permutation_rows.PermutationRows(length=L, **OPTIONS).evaluate(
                corpus, batch, process=(p, count)
            )
            for p in range(count)
        ]
        assert len(processes[0]) == -(-number // batch)
        assert processes[0].num_examples == number
        all_starts, before = [], None
        for step in range(len(processes[0])):
            parts = [process(step) for process in processes]
            rows = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
            real = rows["mask"].all(1)
            assert (real == rows["mask"].any(1)).all()
            assert (rows["fresh"][real] == (step == 0)).all()
            assert not any(np.any(value[~real]) for value in rows.values())
            starts = rows["tokens"][:, 0] - 10
            assert step == 0 or (starts[real] == before[real] + REUSE).all()
            before = starts
            all_starts += starts[real].tolist()
        assert sorted(all_starts) == list(range(0, number * REUSE, REUSE))
        batches_again = permutation_rows.PermutationRows(length=L, **OPTIONS).evaluate(
            corpus, batch, process=(0, count)
        )
        assert equal(batches_again(0), processes[0](0))


def test_rows_stay_within_a_part_of_a_real_corpus(tmp_path):
    corpus = prepared(tmp_path, "unigram", end_of_document=7)
    train, held_out = corpus.split(0.1)
    options = {"reuse": 32, "cls": 3, "sep": 4}
    assert (
        permutation_rows.PermutationRows(length=64, **options).train(train, B, 0).num_examples % B
        == 0
    )
    batches = permutation_rows.PermutationRows(length=64, **options).evaluate(held_out, B)
    start = int(held_out.sentences[0])
    assert batches(0)["tokens"][0, :32].tolist() == corpus.tokens[start : start + 32].tolist()


def test_the_shortest_sufficient_text_is_accepted():
    corpus = numbered(1, longest=40, seed=1)
    needed = L - 3 + B * REUSE - 1
    for length, fits in ((needed, True), (needed - 1, False)):
        bounds = np.append(corpus.sentences[corpus.sentences < length], length)
        part = replace(corpus, sentences=bounds)
        if fits:
            batches = permutation_rows.PermutationRows(length=L, **OPTIONS).train(part, B, 0)
            assert batches.num_examples == B
            for step in range(200):  # every shift
                assert batches(step)["mask"].all()
        else:
            message = rf"has {length} tokens, 4 rows of length 32 need {needed}"
            with pytest.raises(ValueError, match=message):
                permutation_rows.PermutationRows(length=L, **OPTIONS).train(part, B, 0)


def test_an_impossible_length_is_refused(corpus):
    with pytest.raises(ValueError, match=r"has \d+ tokens, a row of length 9000 needs 8997"):
        permutation_rows.PermutationRows(length=9000, **OPTIONS).evaluate(numbered(3), B)
    with pytest.raises(ValueError, match="reuses 30 tokens has no room"):
        permutation_rows.PermutationRows(length=L, reuse=30, cls=CLS, sep=SEP).train(corpus, B, 0)
