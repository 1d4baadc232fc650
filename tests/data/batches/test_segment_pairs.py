"""Pairs follow the rules of the papers, whatever is drawn."""

import itertools

import numpy as np
import pytest

from tests.data.tiny_corpus import numbered, prepared
from train.data.batches import segment_pairs

L, B, CLS, SEP = 32, 8, 1, 2
ROOM = L - 3
DRAWN = {"cls": CLS, "sep": SEP}


@pytest.fixture(scope="module")
def whole():
    return numbered()


@pytest.fixture(scope="module")
def train(whole):
    return segment_pairs.NextSegmentPairs(length=L, **DRAWN).train(whole, B, seed=3)


def rows(batches, steps):
    for step in steps:
        batch = batches(step)
        for i in range(len(batch["tokens"])):
            yield {key: value[i] for key, value in batch.items()}


def taken_apart(row) -> tuple[list[int], list[int]]:
    """The places in the text of A and of B."""
    tokens = row["tokens"].tolist()
    first = tokens.index(SEP)
    second = tokens.index(SEP, first + 1)
    assert tokens[0] == CLS
    return [i - 10 for i in tokens[1:first]], [i - 10 for i in tokens[first + 1 : second]]


def document_of(whole, place: int) -> int:
    return int(np.searchsorted(whole.documents, place, "right")) - 1


def slow_chunks(whole, targets) -> list[tuple[int, int]]:
    """The chunks as the original code makes them, sentence by sentence; in places of the text."""
    chunks = []
    for number, (start, stop) in enumerate(itertools.pairwise(whole.documents.tolist())):
        ends = [s for s in whole.sentences.tolist() if start < s <= stop]
        for end in ends:
            if end - start >= targets[number] or end == stop:
                chunks.append((start, end))
                start = end
    return chunks


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


# The chunks


def test_chunks_are_those_of_a_slow_loop_over_sentences(whole):
    chunks = segment_pairs.split_into_chunks(whole, L, seed=3)
    expected = slow_chunks(whole, chunks.targets)
    assert list(itertools.pairwise(whole.sentences[chunks.starts].tolist())) == expected


def test_one_document_in_ten_has_shorter_chunks():
    targets = segment_pairs.split_into_chunks(numbered(20_000, longest=2), L, seed=3).targets
    short = targets[targets < ROOM]
    assert 0.08 < len(short) / len(targets) < 0.11
    assert short.min() == 2
    assert short.max() == ROOM - 1
    assert abs(short.mean() - (ROOM + 1) / 2) < 0.5


def test_a_very_long_document_counts_as_several():
    sections = segment_pairs._sections(np.array([0, 3, 3 + 2 * 1024, 3 + 5 * 1024 + 1]))
    assert sections.tolist() == [0, 3, 1027, 2051, 3075, 4099, 5123, 5124]


# The rows


def test_a_batch_has_the_stated_arrays(train):
    assert {k: (v.shape, v.dtype) for k, v in train(0).items()} == {
        "tokens": ((B, L), np.int32),
        "segments": ((B, L), np.int32),
        "mask": ((B, L), bool),
        "words": ((B, L), bool),
        "next": ((B,), np.int32),
    }


def test_segments_masks_and_words_fit_the_tokens(whole, train):
    for row in rows(train, range(100)):
        a, b = taken_apart(row)
        assert a
        assert b
        used = len(a) + len(b) + 3
        assert row["segments"].tolist() == [0] * (len(a) + 2) + [1] * (len(b) + 1) + [0] * (
            L - used
        )
        assert row["mask"].tolist() == [True] * used + [False] * (L - used)
        assert not row["tokens"][used:].any()
        starts = whole.word_starts(0, len(whole.tokens)).tolist()
        expected = [False, True, *(starts[i] for i in a[1:]), False]
        expected += [True, *(starts[i] for i in b[1:]), False]
        assert row["words"].tolist() == expected + [False] * (L - used)


def test_a_and_b_are_contiguous_and_b_follows_or_comes_from_another_document(whole, train):
    ends = set(whole.sentences.tolist())
    for row in rows(train, range(100)):
        a, b = taken_apart(row)
        assert a == list(range(a[0], a[-1] + 1))
        assert b == list(range(b[0], b[-1] + 1))
        full = len(a) + len(b) == ROOM  # so it may have been shortened
        assert full or (a[0] in ends and a[-1] + 1 in ends and b[0] in ends and b[-1] + 1 in ends)
        if row["next"]:
            assert document_of(whole, a[0]) != document_of(whole, b[0])
        else:
            assert document_of(whole, a[0]) == document_of(whole, b[0])
            assert b[0] > a[-1]
            assert full or b[0] == a[-1] + 1


def test_half_of_the_pairs_are_random_and_all_of_those_with_one_sentence(whole):
    batches = segment_pairs.NextSegmentPairs(length=L, **DRAWN).train(whole, B, 0)
    chunks = segment_pairs.split_into_chunks(whole, L, 0)
    sentences = np.diff(chunks.starts)
    found = []
    for epoch in range(30):
        steps = range(epoch * batches.num_examples // B, (epoch + 1) * batches.num_examples // B)
        found += [int(row["next"]) for row in rows(batches, steps)]
    single = (sentences == 1).mean()
    expected = single + (1 - single) / 2
    assert abs(np.mean(found) - expected) < 4 * np.sqrt(0.25 / len(found))


def test_half_of_the_pairs_are_turned_round_and_no_text_but_that_of_the_chunk(whole):
    batches = segment_pairs.OrderedPairs(length=L, cls=CLS, sep=SEP).train(whole, B, 0)
    turned = []
    for row in rows(batches, range(200)):
        a, b = taken_apart(row)
        if document_of(whole, a[0]) != document_of(whole, b[0]):
            assert row["order"] == 1  # the chunk was a single sentence
        else:
            assert (a[0] > b[0]) == row["order"]
            turned.append(int(row["order"]))
    assert len(turned) > 500
    assert abs(np.mean(turned) - 0.5) < 4 * np.sqrt(0.25 / len(turned))


def test_a_following_segment_follows_and_some_rows_have_none(whole):
    batches = segment_pairs.AdjacentPairs(length=L, cls=CLS, sep=SEP).train(whole, B, 0)
    chunks = segment_pairs.split_into_chunks(whole, L, 0)
    single, count = 0, 0
    for row in rows(batches, range(200)):
        assert set(row) == {"tokens", "segments", "mask", "words"}
        count += 1
        if (row["tokens"] == SEP).sum() == 1:
            single += 1
            assert not row["segments"].any()
        else:
            a, b = taken_apart(row)
            assert document_of(whole, a[0]) == document_of(whole, b[0])
            assert b[0] > a[-1]
    one_sentence = (np.diff(chunks.starts) == 1).mean()
    expected = one_sentence + (1 - one_sentence) * segment_pairs.SINGLE
    assert abs(single / count - expected) < 4 * np.sqrt(0.25 / count)


def test_the_longer_segment_is_shortened_on_either_side(whole, train):
    sides = {"front": 0, "back": 0}
    ends = set(whole.sentences.tolist())
    for row in rows(train, range(200)):
        a, b = taken_apart(row)
        if len(a) + len(b) == ROOM and len(b) > len(a) + 1:
            # Only b lost tokens: a is whole sentences.
            assert a[0] in ends
            assert a[-1] + 1 in ends
            sides["front"] += b[0] not in ends
            sides["back"] += b[-1] + 1 not in ends
    assert min(sides.values()) > 20
    assert 0.7 < sides["front"] / sides["back"] < 1.4


def test_drops_are_those_of_one_token_at_a_time():
    for a, b, room in itertools.product(range(1, 12), range(1, 12), range(2, 24)):
        left_a, left_b = a, b
        while left_a + left_b > room:
            if left_a > left_b:
                left_a -= 1
            else:
                left_b -= 1
        assert segment_pairs.drops(a, b, room) == (a - left_a, b - left_b)


# The order


def test_an_epoch_has_every_chunk_once(whole, train):
    chunks = whole.sentences[segment_pairs.split_into_chunks(whole, L, 3).starts].tolist()
    steps = range(-(-train.num_examples // B))
    found = []
    for row in itertools.islice(rows(train, steps), train.num_examples):
        # A is never shortened away, so its first token tells the chunk.
        found.append(int(np.searchsorted(chunks, taken_apart(row)[0][0], "right")) - 1)
    assert sorted(found) == list(range(len(chunks) - 1))


def test_every_epoch_is_drawn_anew(train):
    def epoch(number):
        start = number * train.num_examples
        steps = range(start // B, -(-(start + train.num_examples) // B))
        found = list(rows(train, steps))[start % B :][: train.num_examples]
        return {tuple(row["tokens"].tolist()) for row in found}

    assert len(epoch(0) & epoch(1)) < 0.2 * train.num_examples


def test_a_batch_is_a_function_of_seed_and_step_for_any_number_of_processes(whole, train):
    again = segment_pairs.NextSegmentPairs(length=L, **DRAWN).train(whole, B, 3)
    other = segment_pairs.NextSegmentPairs(length=L, **DRAWN).train(whole, B, 4)
    for step in (500, 0, 500, 10**8):
        assert same(again(step), train(step))
        assert not same(other(step), train(step))
    assert all(
        same(batch, train(77 + i))
        for i, batch in enumerate(itertools.islice(train.prefetched(77), 10))
    )
    for count in (2, 4):
        made = [
            segment_pairs.NextSegmentPairs(length=L, **DRAWN).train(whole, B, 3, process=(p, count))
            for p in range(count)
        ]
        for step in (0, 9):
            parts = [process(step) for process in made]
            joined = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
            assert same(joined, train(step))


@pytest.mark.parametrize("count", [1, 2])
def test_evaluation_has_every_chunk_once_in_order_and_never_changes(whole, count):
    chunks = whole.sentences[segment_pairs.split_into_chunks(whole, L, 0).starts].tolist()
    number = len(chunks) - 1
    for rows_each in (1, 5, 6, number, number + 1):
        batch = rows_each * count
        made = [
            segment_pairs.NextSegmentPairs(length=L, **DRAWN).evaluate(
                whole, batch, process=(p, count)
            )
            for p in range(count)
        ]
        assert len(made[0]) == -(-number // batch)
        found = []
        for step in range(len(made[0])):
            for process in made:
                for row in rows(process, [step]):
                    if row["mask"].any():
                        found.append(taken_apart(row)[0][0])
                    else:
                        assert not any(np.any(value) for value in row.values())
        assert [int(np.searchsorted(chunks, i, "right")) - 1 for i in found] == list(range(number))
        again = segment_pairs.NextSegmentPairs(length=L, **DRAWN).evaluate(
            whole, batch, process=(0, count)
        )
        assert same(again(0), made[0](0))


def test_a_single_document_still_gives_pairs():
    whole = numbered(1, longest=40, seed=1)
    batch = segment_pairs.NextSegmentPairs(length=L, **DRAWN).train(whole, B, 0)(0)
    assert set(batch["next"].tolist()) == {0, 1}


def test_it_works_on_a_real_corpus_and_its_parts(tmp_path):
    made = prepared(tmp_path, "wordpiece")
    train, held_out = made.split(0.1)
    bound = int(held_out.sentences[0])
    text = made.tokens.tolist()
    for part, batches in (
        (
            text[:bound],
            segment_pairs.NextSegmentPairs(length=64, cls=2, sep=3).train(train, B, 0),
        ),
        (
            text[bound:],
            segment_pairs.NextSegmentPairs(length=64, cls=2, sep=3).evaluate(held_out, B),
        ),
    ):
        known = " ".join(map(str, part))
        for row in rows(batches, range(min(5, len(batches)))):
            if row["mask"].any():
                a = row["tokens"][1 : row["tokens"].tolist().index(3)]
                assert f" {' '.join(map(str, a))} " in f" {known} "


def test_what_cannot_be_is_refused(whole):
    with pytest.raises(ValueError, match=r"has \d+ tokens, a pair of length 9000 needs 8997"):
        segment_pairs.NextSegmentPairs(length=9000, **DRAWN).train(numbered(3), B, 0)
    with pytest.raises(ValueError, match="length 4 has no room"):
        segment_pairs.NextSegmentPairs(length=4, **DRAWN).train(whole, B, 0)
