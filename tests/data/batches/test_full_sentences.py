"""Rows of whole sentences hold the text, the whole of it, and nothing else."""

import itertools

import numpy as np
import pytest

from tests.data.tiny_corpus import numbered
from train.data.batches import full_sentences

L, B, CLS, SEP = 32, 4, 1, 2


def kept(row):
    return row["tokens"][row["mask"]]


def rows(batches, steps):
    for step in steps:
        batch = batches(step)
        for i in range(len(batch["tokens"])):
            yield {name: value[i] for name, value in batch.items()}


@pytest.mark.parametrize("sentence", [9, 80])
def test_the_rows_are_the_text_in_order_with_a_mark_at_every_border(sentence):
    whole = numbered(300, longest=5, sentence=sentence)
    batches = full_sentences.FullSentences(length=L, cls=CLS, sep=SEP).evaluate(whole, B)
    ends, borders = set(whole.sentences.tolist()), set(whole.documents[1:-1].tolist())
    at, full = int(whole.sentences[0]), 0
    for row in rows(batches, range(len(batches))):
        found = kept(row)
        if len(found) == 0:  # beyond the last row
            continue
        assert found[0] == CLS
        assert found[-1] == SEP
        start = at
        for token in found[1:-1]:
            if at in borders and at > start and token == SEP:
                borders.remove(at)
                continue
            assert token == whole.tokens[at]
            at += 1
        borders.discard(at)
        if sentence < L - 2:
            assert at in ends
            full += len(found) > L - 9
    assert at == whole.sentences[-1]
    assert not borders
    assert sentence > L or full > 0.9 * batches.num_examples


def test_no_row_could_have_taken_one_sentence_more():
    whole = numbered(300, longest=5, sentence=9)
    bounds = full_sentences.row_bounds(whole, L)
    for start, stop in itertools.pairwise(bounds[:-1]):
        place = int(np.searchsorted(whole.sentences, stop))
        more = int(whole.sentences[place + 1])
        inside = ((whole.documents > start) & (whole.documents < more)).sum()
        assert more - start + inside > L - 2


def test_training_has_every_row_once_an_epoch_and_starts_anywhere():
    whole = numbered()
    batches = full_sentences.FullSentences(length=L, cls=CLS, sep=SEP).train(whole, B, 3)
    held = full_sentences.FullSentences(length=L, cls=CLS, sep=SEP).evaluate(whole, 1)
    steps = batches.num_examples // B
    seen = {tuple(row["tokens"]) for row in rows(batches, range(steps))}
    assert seen <= {tuple(row["tokens"]) for row in rows(held, range(len(held)))}
    assert len(seen) == steps * B
    again = full_sentences.FullSentences(length=L, cls=CLS, sep=SEP).train(whole, B, 3)(7)
    assert (again["tokens"] == batches(7)["tokens"]).all()


def test_what_cannot_be_is_said_in_one_line():
    with pytest.raises(ValueError, match=r"a row of length 9000 needs 8998: give more text"):
        full_sentences.FullSentences(length=9000, cls=CLS, sep=SEP).train(numbered(3), B, 0)
    with pytest.raises(ValueError, match=r"use at least 3"):
        full_sentences.FullSentences(length=2, cls=CLS, sep=SEP).train(numbered(30), B, 0)
