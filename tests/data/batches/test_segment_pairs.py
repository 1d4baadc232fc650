"""Segment pairs follow the rules of the papers, whatever the random numbers."""

import itertools

import numpy as np
import pytest

from tests.data.tiny_corpus import numbered, prepared
from train.data.batches import segment_pairs

L, B, CLS, SEP = 32, 8, 1, 2
CAPACITY = L - 3
SPECIALS = {"cls": CLS, "sep": SEP}


@pytest.fixture(scope="module")
def corpus():
    return numbered()


@pytest.fixture(scope="module")
def train(corpus):
    return segment_pairs.NextSegmentPairs(length=L, **SPECIALS).train(corpus, B, seed=3)


def rows(batches, steps):
    for step in steps:
        batch = batches(step)
        for i in range(len(batch["tokens"])):
            yield {key: value[i] for key, value in batch.items()}


def segments_of_row(row) -> tuple[list[int], list[int]]:
    """Return the positions in the text of A and of B."""
    tokens = row["tokens"].tolist()
    first = tokens.index(SEP)
    second = tokens.index(SEP, first + 1)
    assert tokens[0] == CLS
    return [i - 10 for i in tokens[1:first]], [i - 10 for i in tokens[first + 1 : second]]


def document_at(corpus, position: int) -> int:
    return int(np.searchsorted(corpus.documents, position, "right")) - 1


def slow_chunks(corpus, targets) -> list[tuple[int, int]]:
    """Return the chunks, as token positions, by the loop over sentences of the original code."""
    chunks = []
    for number, (start, stop) in enumerate(itertools.pairwise(corpus.documents.tolist())):
        ends = [s for s in corpus.sentences.tolist() if start < s <= stop]
        for end in ends:
            if end - start >= targets[number] or end == stop:
                chunks.append((start, end))
                start = end
    return chunks


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


# The chunks


def test_chunks_are_those_of_a_slow_loop_over_sentences(corpus):
    chunks = segment_pairs.split_into_chunks(corpus, L, seed=3)
    expected = slow_chunks(corpus, chunks.targets)
    assert list(itertools.pairwise(corpus.sentences[chunks.starts].tolist())) == expected


def test_one_document_in_ten_has_shorter_chunks():
    targets = segment_pairs.split_into_chunks(numbered(20_000, longest=2), L, seed=3).targets
    short = targets[targets < CAPACITY]
    assert 0.08 < len(short) / len(targets) < 0.11
    assert short.min() == 2
    assert short.max() == CAPACITY - 1
    assert abs(short.mean() - (CAPACITY + 1) / 2) < 0.5


def test_a_very_long_document_is_split_into_sections():
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


def test_segments_masks_and_words_fit_the_tokens(corpus, train):
    for row in rows(train, range(100)):
        a, b = segments_of_row(row)
        assert a
        assert b
        used = len(a) + len(b) + 3
        assert row["segments"].tolist() == [0] * (len(a) + 2) + [1] * (len(b) + 1) + [0] * (
            L - used
        )
        assert row["mask"].tolist() == [True] * used + [False] * (L - used)
        assert not row["tokens"][used:].any()
        starts = corpus.word_starts(0, len(corpus.tokens)).tolist()
        expected = [False, True, *(starts[i] for i in a[1:]), False]
        expected += [True, *(starts[i] for i in b[1:]), False]
        assert row["words"].tolist() == expected + [False] * (L - used)


def test_a_and_b_are_contiguous_and_b_follows_or_comes_from_another_document(corpus, train):
    ends = set(corpus.sentences.tolist())
    for row in rows(train, range(100)):
        a, b = segments_of_row(row)
        assert a == list(range(a[0], a[-1] + 1))
        assert b == list(range(b[0], b[-1] + 1))
        full = len(a) + len(b) == CAPACITY  # so it may have been shortened
        assert full or (a[0] in ends and a[-1] + 1 in ends and b[0] in ends and b[-1] + 1 in ends)
        if row["next"]:
            assert document_at(corpus, a[0]) != document_at(corpus, b[0])
        else:
            assert document_at(corpus, a[0]) == document_at(corpus, b[0])
            assert b[0] > a[-1]
            assert full or b[0] == a[-1] + 1


def test_half_of_the_pairs_are_random_and_so_are_all_chunks_of_one_sentence(corpus):
    batches = segment_pairs.NextSegmentPairs(length=L, **SPECIALS).train(corpus, B, 0)
    chunks = segment_pairs.split_into_chunks(corpus, L, 0)
    sentences = np.diff(chunks.starts)
    is_random = []
    for epoch in range(30):
        steps = range(epoch * batches.num_examples // B, (epoch + 1) * batches.num_examples // B)
        is_random += [int(row["next"]) for row in rows(batches, steps)]
    single = (sentences == 1).mean()
    expected = single + (1 - single) / 2
    assert abs(np.mean(is_random) - expected) < 4 * np.sqrt(0.25 / len(is_random))


def test_half_of_the_pairs_are_swapped_and_keep_the_text_of_their_chunk(corpus):
    batches = segment_pairs.OrderedPairs(length=L, cls=CLS, sep=SEP).train(corpus, B, 0)
    swapped = []
    for row in rows(batches, range(200)):
        a, b = segments_of_row(row)
        if document_at(corpus, a[0]) != document_at(corpus, b[0]):
            assert row["order"] == 1  # the chunk was a single sentence
        else:
            assert (a[0] > b[0]) == row["order"]
            swapped.append(int(row["order"]))
    assert len(swapped) > 500
    assert abs(np.mean(swapped) - 0.5) < 4 * np.sqrt(0.25 / len(swapped))


def test_a_following_segment_follows_and_some_rows_have_none(corpus):
    batches = segment_pairs.AdjacentPairs(length=L, cls=CLS, sep=SEP).train(corpus, B, 0)
    chunks = segment_pairs.split_into_chunks(corpus, L, 0)
    single, count = 0, 0
    for row in rows(batches, range(200)):
        assert set(row) == {"tokens", "segments", "mask", "words"}
        count += 1
        if (row["tokens"] == SEP).sum() == 1:
            single += 1
            assert not row["segments"].any()
        else:
            a, b = segments_of_row(row)
            assert document_at(corpus, a[0]) == document_at(corpus, b[0])
            assert b[0] > a[-1]
    one_sentence = (np.diff(chunks.starts) == 1).mean()
    expected = one_sentence + (1 - one_sentence) * segment_pairs.SINGLE
    assert abs(single / count - expected) < 4 * np.sqrt(0.25 / count)


def test_the_longer_segment_is_truncated_on_either_side(corpus, train):
    sides = {"front": 0, "back": 0}
    ends = set(corpus.sentences.tolist())
    for row in rows(train, range(200)):
        a, b = segments_of_row(row)
        if len(a) + len(b) == CAPACITY and len(b) > len(a) + 1:
            # Only b lost tokens: a consists of complete sentences.
            assert a[0] in ends
            assert a[-1] + 1 in ends
            sides["front"] += b[0] not in ends
            sides["back"] += b[-1] + 1 not in ends
    assert min(sides.values()) > 20
    assert 0.7 < sides["front"] / sides["back"] < 1.4


def test_dropped_tokens_are_those_of_a_loop_over_single_tokens():
    for a, b, capacity in itertools.product(range(1, 12), range(1, 12), range(2, 24)):
        left_a, left_b = a, b
        while left_a + left_b > capacity:
            if left_a > left_b:
                left_a -= 1
            else:
                left_b -= 1
        assert segment_pairs.drops(a, b, capacity) == (a - left_a, b - left_b)


# The order


def test_an_epoch_has_every_chunk_once(corpus, train):
    chunks = corpus.sentences[segment_pairs.split_into_chunks(corpus, L, 3).starts].tolist()
    steps = range(-(-train.num_examples // B))
    chunk_indices = []
    for row in itertools.islice(rows(train, steps), train.num_examples):
        # A is never empty, so its first token identifies the chunk.
        chunk_indices.append(int(np.searchsorted(chunks, segments_of_row(row)[0][0], "right")) - 1)
    assert sorted(chunk_indices) == list(range(len(chunks) - 1))


def test_every_epoch_has_other_random_numbers(train):
    def epoch(number):
        start = number * train.num_examples
        steps = range(start // B, -(-(start + train.num_examples) // B))
        epoch_rows = list(rows(train, steps))[start % B :][: train.num_examples]
        return {tuple(row["tokens"].tolist()) for row in epoch_rows}

    assert len(epoch(0) & epoch(1)) < 0.2 * train.num_examples


def test_a_batch_is_a_function_of_seed_and_step_for_any_number_of_processes(corpus, train):
    same_seed = segment_pairs.NextSegmentPairs(length=L, **SPECIALS).train(corpus, B, 3)
    other_seed = segment_pairs.NextSegmentPairs(length=L, **SPECIALS).train(corpus, B, 4)
    for step in (500, 0, 500, 10**8):
        assert equal(same_seed(step), train(step))
        assert not equal(other_seed(step), train(step))
    assert all(
        equal(batch, train(77 + i))
        for i, batch in enumerate(itertools.islice(train.prefetched(77), 10))
    )
    for count in (2, 4):
        processes = [
            segment_pairs.NextSegmentPairs(length=L, **SPECIALS).train(
                corpus, B, 3, process=(p, count)
            )
            for p in range(count)
        ]
        for step in (0, 9):
            parts = [process(step) for process in processes]
            joined = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
            assert equal(joined, train(step))


@pytest.mark.parametrize("count", [1, 2])
def test_evaluation_has_every_chunk_once_in_order_and_never_changes(corpus, count):
    chunks = corpus.sentences[segment_pairs.split_into_chunks(corpus, L, 0).starts].tolist()
    number = len(chunks) - 1
    for rows_per_process in (1, 5, 6, number, number + 1):
        batch = rows_per_process * count
        processes = [
            segment_pairs.NextSegmentPairs(length=L, **SPECIALS).evaluate(
                corpus, batch, process=(p, count)
            )
            for p in range(count)
        ]
        assert len(processes[0]) == -(-number // batch)
        starts = []
        for step in range(len(processes[0])):
            for process in processes:
                for row in rows(process, [step]):
                    if row["mask"].any():
                        starts.append(segments_of_row(row)[0][0])
                    else:
                        assert not any(np.any(value) for value in row.values())
        assert [int(np.searchsorted(chunks, i, "right")) - 1 for i in starts] == list(range(number))
        batches_again = segment_pairs.NextSegmentPairs(length=L, **SPECIALS).evaluate(
            corpus, batch, process=(0, count)
        )
        assert equal(batches_again(0), processes[0](0))


def test_a_single_document_still_gives_pairs():
    corpus = numbered(1, longest=40, seed=1)
    batch = segment_pairs.NextSegmentPairs(length=L, **SPECIALS).train(corpus, B, 0)(0)
    assert set(batch["next"].tolist()) == {0, 1}


def test_pairs_of_a_real_corpus_stay_within_its_parts(tmp_path):
    corpus = prepared(tmp_path, "wordpiece")
    train, held_out = corpus.split(0.1)
    bound = int(held_out.sentences[0])
    text = corpus.tokens.tolist()
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


def test_an_impossible_length_is_refused(corpus):
    with pytest.raises(ValueError, match=r"has \d+ tokens, a pair of length 9000 needs 8997"):
        segment_pairs.NextSegmentPairs(length=9000, **SPECIALS).train(numbered(3), B, 0)
    with pytest.raises(ValueError, match="length 4 has no room"):
        segment_pairs.NextSegmentPairs(length=4, **SPECIALS).train(corpus, B, 0)


@pytest.mark.parametrize("pairs", [segment_pairs.NextSegmentPairs, segment_pairs.OrderedPairs])
def test_a_note_says_that_documents_of_one_sentence_give_no_label_to_learn(pairs):
    (note,) = pairs(length=L, **SPECIALS).notes(numbered(60, longest=1))
    assert note.startswith("every document is a single sentence, so all pairs are random")
    assert not pairs(length=L, **SPECIALS).notes(numbered(60, longest=2))
    adjacent = segment_pairs.AdjacentPairs(length=L, **SPECIALS)
    assert not adjacent.notes(numbered(60, longest=1))
