"""Rows of full sentences hold all of the text, and nothing else."""

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
def test_the_rows_are_the_text_in_order_with_a_separator_at_every_document_boundary(sentence):
    corpus = numbered(300, longest=5, sentence=sentence)
    batches = full_sentences.FullSentences(length=L, cls=CLS, sep=SEP).evaluate(corpus, B)
    ends, borders = set(corpus.sentences.tolist()), set(corpus.documents[1:-1].tolist())
    position, full = int(corpus.sentences[0]), 0
    for row in rows(batches, range(len(batches))):
        tokens = kept(row)
        if len(tokens) == 0:  # padding after the last row
            continue
        assert tokens[0] == CLS
        assert tokens[-1] == SEP
        start = position
        for token in tokens[1:-1]:
            if position in borders and position > start and token == SEP:
                borders.remove(position)
                continue
            assert token == corpus.tokens[position]
            position += 1
        borders.discard(position)
        if sentence < L - 2:
            assert position in ends
            full += len(tokens) > L - 9
    assert position == corpus.sentences[-1]
    assert not borders
    assert sentence > L or full > 0.9 * batches.num_examples


def test_no_row_has_space_for_one_more_sentence():
    corpus = numbered(300, longest=5, sentence=9)
    bounds = full_sentences.row_bounds(corpus, L)
    for start, stop in itertools.pairwise(bounds[:-1]):
        sentence = int(np.searchsorted(corpus.sentences, stop))
        next_stop = int(corpus.sentences[sentence + 1])
        boundaries = ((corpus.documents > start) & (corpus.documents < next_stop)).sum()
        assert next_stop - start + boundaries > L - 2


def test_training_has_every_row_once_per_epoch_and_starts_at_any_step():
    corpus = numbered()
    batches = full_sentences.FullSentences(length=L, cls=CLS, sep=SEP).train(corpus, B, 3)
    in_order = full_sentences.FullSentences(length=L, cls=CLS, sep=SEP).evaluate(corpus, 1)
    steps = batches.num_examples // B
    epoch_rows = {tuple(row["tokens"]) for row in rows(batches, range(steps))}
    assert epoch_rows <= {tuple(row["tokens"]) for row in rows(in_order, range(len(in_order)))}
    assert len(epoch_rows) == steps * B
    batch_again = full_sentences.FullSentences(length=L, cls=CLS, sep=SEP).train(corpus, B, 3)(7)
    assert (batch_again["tokens"] == batches(7)["tokens"]).all()


def test_an_impossible_length_is_an_error_of_one_line():
    with pytest.raises(ValueError, match=r"a row of length 9000 needs 8998: give more text"):
        full_sentences.FullSentences(length=9000, cls=CLS, sep=SEP).train(numbered(3), B, 0)
    with pytest.raises(ValueError, match=r"use at least 3"):
        full_sentences.FullSentences(length=2, cls=CLS, sep=SEP).train(numbered(30), B, 0)
