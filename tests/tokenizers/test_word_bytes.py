"""ELMo reads a word as bytes between marks, with the ids of the released models."""

import numpy as np

from zoo.tokenizers import word_bytes


def test_a_word_is_its_bytes_plus_one_between_marks():
    row_C = word_bytes.spell(["né"])[0]
    assert row_C.dtype == np.int32
    assert list(row_C[:6]) == [259, 111, 196, 170, 260, 261]  # n is 110; é is 195, 169 in UTF-8
    assert (row_C[5:] == 261).all()
    assert len(row_C) == 50


def test_the_marks_of_a_sentence_are_rows_around_its_words():
    rows_WC = word_bytes.spell_sentence(["a", "b"])
    assert rows_WC.shape == (4, 50)
    assert list(rows_WC[0, :4]) == [259, 257, 260, 261]
    assert list(rows_WC[3, :4]) == [259, 258, 260, 261]
    assert (rows_WC[1:3] == word_bytes.spell(["a", "b"])).all()


def test_no_id_is_zero_which_pads_rows_of_words():
    rows_WC = word_bytes.spell_sentence(["a", "\x00", "long" * 20, ""])
    assert rows_WC.min() == 1  # the byte 0
    assert rows_WC.max() < word_bytes.NUM_IDS


def test_bytes_after_the_48th_are_cut_and_such_words_are_listed():
    exact, longer, letters = "x" * 48, "x" * 49, "é" * 25  # of two bytes each
    rows_WC = word_bytes.spell([exact, longer, letters])
    assert (rows_WC[0] == rows_WC[1]).all()
    assert (rows_WC[:, -1] == 260).all()
    assert word_bytes.truncated(["a", exact, longer, letters]) == [longer, letters]


def test_a_vocabulary_names_the_marks_of_a_sentence():
    rows_VC = word_bytes.spell_vocabulary(["<unk>", "</s>", "the", "<eos>"], "</s>", "<eos>")
    marks_2C = word_bytes.spell_sentence([])
    assert (rows_VC[1] == marks_2C[0]).all()
    assert (rows_VC[3] == marks_2C[1]).all()
    assert (rows_VC[[0, 2]] == word_bytes.spell(["<unk>", "the"])).all()
