"""Neighbors, analogies and similarities of vectors that are written by hand."""

import numpy as np
import pytest

import zoo
from tests.inference.tiny_words import VECTORS, by_hand, with_ngrams
from zoo.inference import neighbors as module
from zoo.models import bert
from zoo.tokenizers import units

WORDS = by_hand()


def cosine(x, y) -> float:
    return float(np.dot(x, y) / np.linalg.norm(x) / np.linalg.norm(y))


def test_neighbors_are_sorted_by_cosine_without_the_word_itself():
    expected = {
        word: cosine(VECTORS["king"], x)
        for word, x in VECTORS.items()
        if word not in ("king", "nothing")
    }
    result = zoo.neighbors(WORDS, "king")
    assert [word for word, _ in result] == sorted(expected, key=lambda word: -expected[word])
    np.testing.assert_allclose([x for _, x in result], sorted(expected.values())[::-1], atol=1e-6)
    assert zoo.neighbors(WORDS, "king", 2) == result[:2]


def test_special_tokens_zero_vectors_and_spare_rows_are_no_neighbors():
    found = {word for word, _ in zoo.neighbors(WORDS, "bank", 100)}
    assert found == set(VECTORS) - {"bank", "nothing"}


def test_the_special_tokens_of_other_vocabularies_are_no_neighbors():
    vectors = {"<s>": (1.0, 1.0, 0.1), "<eos>": (1.0, 1.0, 0.1), **VECTORS}
    loaded = by_hand(vectors)
    assert zoo.neighbors(loaded, "king") == zoo.neighbors(WORDS, "king")


def test_an_index_gives_the_same_in_chunks(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 3)
    index = zoo.word_index(WORDS)
    assert index.words == [word for word in VECTORS if word != "nothing"]
    np.testing.assert_allclose(np.linalg.norm(index.units_ND, axis=1), 1, atol=1e-6)
    assert zoo.neighbors(index, "king") == zoo.neighbors(WORDS, "king")
    assert zoo.analogy(index, "man", "king", "woman") == zoo.analogy(WORDS, "man", "king", "woman")
    assert zoo.similarity(index, "man", "king") == zoo.similarity(WORDS, "man", "king")


def test_woman_is_to_queen_as_man_to_king():
    ((word, value),) = zoo.analogy(WORDS, "man", "king", "woman")
    assert word == "queen"
    x = [np.array(VECTORS[word]) / np.linalg.norm(VECTORS[word]) for word in ("king", "man")]
    woman = np.array(VECTORS["woman"]) / np.linalg.norm(VECTORS["woman"])
    assert value == pytest.approx(cosine(x[0] - x[1] + woman, VECTORS["queen"]), abs=1e-6)
    found = [word for word, _ in zoo.analogy(WORDS, "man", "king", "woman", 9)]
    assert set(found) == {"queen", "kingdom", "bank", "river"}


def test_similarity_is_the_cosine():
    value = zoo.similarity(WORDS, "king", "queen")
    assert value == pytest.approx(cosine(VECTORS["king"], VECTORS["queen"]), abs=1e-6)
    assert zoo.similarity(WORDS, "king", "king") == pytest.approx(1, abs=1e-6)


def test_an_unknown_word_is_answered_with_similar_spellings():
    with pytest.raises(ValueError, match=r"'kimg' is not in the vocabulary; did you mean 'king'"):
        zoo.neighbors(WORDS, "kimg")
    with pytest.raises(ValueError, match="'zzz' is not in the vocabulary: use another word"):
        zoo.similarity(WORDS, "king", "zzz")


def test_a_word_that_is_there_in_lower_case_is_hinted_at():
    with pytest.raises(ValueError, match="'King' is not in the vocabulary, but 'king' is: use"):
        zoo.analogy(WORDS, "man", "King", "woman")


def test_a_zero_vector_has_no_neighbors():
    with pytest.raises(ValueError, match="the vector of 'nothing' is 0"):
        zoo.neighbors(WORDS, "nothing")


def test_vectors_that_are_not_finite_are_named():
    broken = by_hand(VECTORS | {"river": (np.nan, 0.0, 1.0)})
    with pytest.raises(ValueError, match="the vector of 'river' is not finite"):
        zoo.neighbors(broken, "king")


def test_fasttext_composes_unknown_words():
    loaded = with_ngrams()
    assert zoo.neighbors(loaded, "runningg", 1)[0][0] == "running"
    ids = np.array([-1])
    expected = loaded.model.word_vectors(loaded.params, ["unheardof"], ids)[0]
    known = loaded.model.word_vectors(loaded.params, ["bank"], np.array([5]))[0]
    assert zoo.similarity(loaded, "unheardof", "bank") == pytest.approx(cosine(expected, known))


def test_fasttext_without_ngrams_refuses_unknown_words():
    with pytest.raises(ValueError, match="'runningg' is not in the vocabulary"):
        zoo.neighbors(with_ngrams(max_n=0), "runningg")


def test_a_word_without_ngrams_is_refused():
    vocabulary = ("running", "run")
    with pytest.raises(ValueError, match="the vector of '' is 0"):
        zoo.neighbors(with_ngrams(vocabulary), "")


def test_models_without_word_vectors_are_refused():
    tiny = bert.BertPretraining(bert.Config(vocab_size=3, width=8, num_layers=1))
    loaded = zoo.Loaded(tiny, {}, units.words(["<unk>", "</s>", "a"]))
    with pytest.raises(ValueError, match="BertPretraining has no vectors of words by themselves"):
        zoo.neighbors(loaded, "a")
    with pytest.raises(ValueError, match="the number of words must be at least 1, not 0"):
        zoo.neighbors(WORDS, "king", 0)


def test_one_hot_vectors_sum_to_the_bag_of_words():
    text = "king queen king unheard"
    ids = WORDS.tokenizer.encode(text).ids
    rows = zoo.one_hot(WORDS, text)
    assert (rows.shape, rows.dtype) == ((4, len(VECTORS) + 4), np.float32)
    assert rows.argmax(1).tolist() == ids
    assert rows.sum() == 4
    np.testing.assert_array_equal(zoo.bag_of_words(WORDS, text), rows.sum(0))
    assert zoo.bag_of_words(WORDS.tokenizer, text).shape == (len(VECTORS) + 2,)
    assert zoo.one_hot(WORDS, "").shape == (0, len(VECTORS) + 4)
