"""Rows of words keep the order of the text, leave out frequent words, and end at lines."""

from dataclasses import replace

import numpy as np
import pytest

from tests.data.tiny_corpus import numbered
from train.data.batches.subsampled import SubsampledWords
from zoo.tokenizers import subwords

LENGTH, WINDOW, BLOCK = 50, 3, 8
CORPUS = numbered(num_documents=4)
V = CORPUS.vocab_size
KEEP = np.ones(V, np.float32)
SOURCE = SubsampledWords(
    length=LENGTH,
    window=WINDOW,
    block_size=BLOCK,
    keep=KEEP,
    line_ends=(),
    negatives=5,
    noise=np.arange(1, V + 1) / V,
)


def words(batch, row=0):
    return batch["words"][row, WINDOW : WINDOW + batch["size"][row]]


def test_all_rows_have_every_token_once():
    batches = SOURCE.evaluate(CORPUS, 2)
    read = [words(batches(step), row) for step in range(len(batches)) for row in range(2)]
    assert np.concatenate(read).tolist() == CORPUS.read(CORPUS.start, CORPUS.stop).tolist()


def test_arrays_have_the_stated_shapes():
    batch = SOURCE.train(CORPUS, 4, seed=0)(0)
    blocks = -(-LENGTH // BLOCK)
    shapes = {name: x.shape for name, x in batch.items()}
    around = blocks * BLOCK + 2 * WINDOW
    assert shapes == {
        "size": (4,),
        "words": (4, around),
        "lines": (4, around),
        "reach": (4, blocks * BLOCK),
        "negatives": (4, blocks, 5),
    }
    assert all(x.dtype == np.int32 for x in batch.values())
    padding = np.arange(around)
    for row in range(4):
        is_word = (padding >= WINDOW) & (padding < WINDOW + batch["size"][row])
        assert np.array_equal(batch["lines"][row] >= 0, is_word)


def test_windows_reach_one_to_the_most_words_equally_often():
    batches = SOURCE.train(CORPUS, 8, seed=0)
    reach = np.concatenate([batches(step)["reach"].ravel() for step in range(40)])
    assert set(reach.tolist()) == {1, 2, 3}
    np.testing.assert_allclose(np.bincount(reach)[1:] / len(reach), 1 / 3, atol=0.02)


def test_words_stay_with_their_probability_and_others_never():
    keep = KEEP * 0.3
    keep[15] = 0
    batches = replace(SOURCE, keep=keep).train(CORPUS, 8, seed=0)
    sizes = [batches(step)["size"] for step in range(60)]
    rows = -(-CORPUS.num_tokens // LENGTH)
    assert np.mean(sizes) == pytest.approx(0.3 * CORPUS.num_tokens / rows, rel=0.05)
    assert not any(15 in words(batches(step), row) for step in range(20) for row in range(8))


def test_noise_has_its_distribution():
    share = np.zeros(V)
    share[[11, 12]] = 0.25, 0.75
    batches = replace(SOURCE, noise=np.cumsum(share)).train(CORPUS, 8, seed=0)
    drawn = np.concatenate([batches(step)["negatives"].ravel() for step in range(20)])
    assert set(drawn.tolist()) == {11, 12}
    assert np.mean(drawn == 12) == pytest.approx(0.75, abs=0.03)


def test_a_line_ends_before_its_last_token_is_left_out():
    end = CORPUS.read(CORPUS.start + 5, CORPUS.start + 6)[0]
    keep = KEEP.copy()
    keep[end] = 0
    batch = replace(SOURCE, keep=keep, line_ends=(int(end),)).evaluate(CORPUS, 1)(0)
    lines = batch["lines"][0, WINDOW : WINDOW + batch["size"][0]]
    assert lines.tolist() == [0] * 5 + [1] * (LENGTH - 6)


def test_a_batch_is_a_function_of_seed_and_step():
    first, again = (SOURCE.train(CORPUS, 4, seed=3) for _ in range(2))
    other = SOURCE.train(CORPUS, 4, seed=4)
    for name in ("words", "reach", "negatives"):
        assert np.array_equal(first(7)[name], again(7)[name])
        assert not np.array_equal(first(7)[name], other(7)[name])


@pytest.mark.parametrize("whole_context", [False, True])
def test_rows_of_n_grams_belong_to_the_words_of_a_block(whole_context):
    spelled = [f"word{number}" for number in range(V)]
    of_words = subwords.word_rows(spelled, np.arange(V), V, buckets=30, min_n=3, max_n=4)
    source = replace(SOURCE, subwords=of_words, whole_context=whole_context, subwords_per_word=20)
    batch = source.evaluate(CORPUS, 1)(0)
    for block in range(-(-LENGTH // BLOCK)):
        owners, rows = batch["owners"][0, block], batch["subwords"][0, block]
        for place in range(BLOCK + 2 * WINDOW):
            at = block * BLOCK + place
            is_word = WINDOW <= at < WINDOW + batch["size"][0]
            is_centre = WINDOW <= place < WINDOW + BLOCK
            if is_word and (whole_context or is_centre):
                word = batch["words"][0, at]
                expected = of_words.rows[of_words.first[word] : of_words.first[word + 1]]
                assert rows[owners == place].tolist() == expected.tolist()
            elif not whole_context:
                assert not (owners == place).any()
