"""Packed rows hold every document once per epoch, whole or cut as in other rows."""

import itertools
from functools import partial

import numpy as np
import pytest

from tests.data.tiny_corpus import numbered
from train.data.batches.packed_documents import PackedSentences, PackedSpans, PackedWindows
from train.objectives.span_corruption import packed_raw_length, packed_room, raw_length

L, B, CLS, SEP, MOST = 32, 4, 1, 2, 5
SOURCES = {
    "windows": PackedWindows(length=L, most=MOST),
    "sentences": PackedSentences(length=L, most=MOST, cls=CLS, sep=SEP),
    "spans": PackedSpans(
        length=L,
        most=MOST,
        raw_length=raw_length(L),
        row_length=packed_raw_length(L),
        needed=partial(packed_room, L),
    ),
}


def corpus():
    return numbered(300, longest=4, sentence=14)


def rows(batches, steps):
    for step in steps:
        batch = batches(step)
        for place in range(len(batch["tokens"])):
            yield {name: x[place] for name, x in batch.items()}


def pieces(row):
    """Yield the tokens of each document of a row, without special tokens."""
    for number in range(1, row["documents"].max() + 1):
        tokens = row["tokens"][row["documents"] == number]
        yield tokens[~np.isin(tokens, (CLS, SEP))]


def epoch(name, number, text):
    batches = SOURCES[name].train(text, B, seed=3)
    count = batches.num_examples
    steps = range((number + 1) * count // B + 1)
    return list(itertools.islice(rows(batches, steps), number * count, (number + 1) * count))


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("number", [0, 2])
def test_every_token_is_in_one_row_of_an_epoch(name, number):
    text = corpus()
    seen = [piece for row in epoch(name, number, text) for piece in pieces(row)]
    flat = np.concatenate(seen)
    assert len(np.unique(flat)) == len(flat)
    missing = np.setdiff1d(text.tokens, flat)
    if name == "spans":  # a piece of one token has no span
        starts = text.documents[np.searchsorted(text.documents, missing - 10, "right") - 1]
        assert ((missing - 10 - starts) % raw_length(L) == 0).all()
        assert np.isin(missing - 10 + 1, text.documents).all()
    else:
        assert not len(missing)
    for piece in seen:  # the next tokens of one document, in order
        np.testing.assert_array_equal(piece, np.arange(piece[0], piece[0] + len(piece)))
        inside = text.documents - text.documents[0] + 10
        assert not ((inside > piece[0]) & (inside <= piece[-1])).any()


@pytest.mark.parametrize("name", SOURCES)
def test_a_document_that_fits_is_whole_and_a_longer_one_is_cut_as_in_other_rows(name):
    text = corpus()
    starts = {int(piece[0]): len(piece) for row in epoch(name, 0, text) for piece in pieces(row)}
    most = {"windows": L, "sentences": L - 2, "spans": raw_length(L)}[name]
    sentences = set((text.sentences + 10).tolist())
    cut = 0
    for start, stop in itertools.pairwise((text.documents + 10).tolist()):
        if stop - start <= most:
            assert starts.get(start, 1) == stop - start
            continue
        cut += 1
        while start < stop - 1:
            if name == "sentences":
                assert start in sentences
            else:
                assert starts[start] == min(most, stop - start)
            start += starts[start]
    assert cut > 20


def test_the_target_of_a_token_is_the_next_of_the_text_whatever_follows_in_the_row():
    text = corpus()
    predicted = 0
    for row in epoch("windows", 1, text):
        np.testing.assert_array_equal(row["targets"][row["mask"]], row["tokens"][row["mask"]] + 1)
        assert (row["documents"] > 0)[row["mask"]].all()
        predicted += row["mask"].sum()
    assert predicted == text.num_tokens - 1


def test_words_start_where_they_do_in_the_text_and_where_a_piece_starts():
    text = corpus()
    starts = text.word_starts(text.start, text.stop)
    for row in epoch("sentences", 0, text):
        assert not row["words"][~row["mask"] | np.isin(row["tokens"], (CLS, SEP))].any()
        for number in range(1, row["documents"].max() + 1):
            inside = np.flatnonzero(row["documents"] == number)[1:-1]
            assert row["words"][inside[0]]
            np.testing.assert_array_equal(
                row["words"][inside[1:]], starts[row["tokens"][inside[1:]] - 10]
            )


@pytest.mark.parametrize("name", SOURCES)
def test_a_batch_depends_on_seed_and_step_alone_and_is_shared_by_processes(name):
    text = corpus()
    batches = SOURCES[name].train(text, B, seed=3)
    step = batches.num_examples // B  # it reads from two epochs
    again, other = (SOURCES[name].train(corpus(), B, seed)(step) for seed in (3, 4))
    parts = [SOURCES[name].train(text, B, 3, (index, 2))(step) for index in range(2)]
    for key, x in batches(step).items():
        np.testing.assert_array_equal(x, again[key])
        np.testing.assert_array_equal(x, np.concatenate([part[key] for part in parts]))
    assert (other["tokens"] != again["tokens"]).any()
    prefetched = batches.prefetched(step)
    np.testing.assert_array_equal(next(prefetched)["tokens"], again["tokens"])


@pytest.mark.parametrize("name", SOURCES)
def test_evaluation_reads_every_document_once(name):
    text = corpus()
    batches = SOURCES[name].evaluate(text, B)
    seen = [piece for row in rows(batches, range(len(batches))) for piece in pieces(row)]
    counted = sum(map(len, seen))
    assert len(np.unique(np.concatenate(seen))) == counted
    assert counted > 0.99 * text.num_tokens


def test_a_text_without_anything_to_pack_is_refused():
    single = numbered(3, longest=1, sentence=1)
    with pytest.raises(ValueError, match="no document to pack"):
        SOURCES["spans"].train(single, B, 0)
