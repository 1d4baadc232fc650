"""Constraints on the next token, one at a time, against those of transformers."""

import jax
import numpy as np
import pytest

from zoo.inference.constraints import Opening, constrain, constraints

torch = pytest.importorskip("torch")
processors = pytest.importorskip("transformers.generation.logits_process")

V, END, PROMPT, ROOM = 7, 2, 5, 12
EACH = [
    ({"repetition_penalty": 1.7}, processors.RepetitionPenaltyLogitsProcessor(1.7)),
    ({"repetition_penalty": 0.6}, processors.RepetitionPenaltyLogitsProcessor(0.6)),
    *(
        ({"no_repeat_ngram_size": n}, processors.NoRepeatNGramLogitsProcessor(n))
        for n in (1, 2, 3, 30)
    ),
    *(
        ({"bad_words_ids": words}, processors.NoBadWordsLogitsProcessor(words, END))
        for words in ([[4]], [[1, 5]], [[END], [3], [6, 0], [1, 1, 4], [0, 3, 5, 6, 2, 1, 4, 4, 5]])
    ),
    ({"min_new_tokens": 3}, processors.MinNewTokensLengthLogitsProcessor(PROMPT, 3, END)),
    ({"suppress_tokens": [0, 6]}, processors.SuppressTokensLogitsProcessor([0, 6])),
]
run = jax.jit(constrain)


@pytest.mark.parametrize(("options", "theirs"), EACH)
def test_logits_equal_those_of_transformers(options, theirs):
    random = np.random.default_rng(0)
    rules = constraints(V, END, ROOM, **options)
    tokens_BM = random.integers(0, V, (99, PROMPT + ROOM)).astype(np.int32)
    logits_BV = random.normal(size=(99, V)).astype(np.float32)
    has_changed = False
    for n in (0, 1, 2, 5, ROOM - 1):
        text_BM = tokens_BM[:, : PROMPT + n]
        expected = theirs(torch.from_numpy(text_BM).long(), torch.from_numpy(logits_BV)).numpy()
        for padding in (0, 3):
            prompt_BL = np.pad(tokens_BM[:, :PROMPT], ((0, 0), (padding, 0)))
            before = Opening(prompt_BL, np.full(99, padding))
            actual = run(rules, logits_BV, before, tokens_BM[:, PROMPT:], n, END)
            assert np.array_equal(actual, expected)
        has_changed |= not np.array_equal(expected, logits_BV)
    assert has_changed == (options.get("no_repeat_ngram_size") != 30)


def test_a_prompt_shorter_than_an_n_gram_or_a_bad_word_matches_nothing():
    tokens_BN = np.zeros((1, ROOM), np.int32)
    before = Opening(np.full((1, 3), 1, np.int32), np.array([2]))  # padding is no token
    rules = constraints(V, END, ROOM, no_repeat_ngram_size=3, bad_words_ids=[[1, 1, 4]])
    logits_BV = np.zeros((1, V), np.float32)
    assert np.array_equal(run(rules, logits_BV, before, tokens_BN, 0, END), logits_BV)


def test_numbers_need_no_new_program():
    run.clear_cache()
    inputs = np.zeros((1, V), np.float32), Opening(np.ones((1, 3), np.int32), np.array([0]))
    for penalty, words in ((1.2, [[3, 4]]), (1.9, [[5, 6, 1], [0, 1]])):
        rules = constraints(
            V, END, ROOM, repetition_penalty=penalty, bad_words_ids=words, min_new_tokens=2
        )
        run(rules, *inputs, np.zeros((1, ROOM), np.int32), 1, END)
    assert run._cache_size() == 1
    assert jax.tree.leaves(constraints(V, END, ROOM)) == []  # nothing is computed if all are off
