"""Analogies and similarities, by hand and against gensim."""

import itertools

import numpy as np
import pytest

import zoo
from tests.inference.tiny_words import by_hand, with_ngrams
from train.metrics import word_vectors
from zoo.models import word2vec
from zoo.tokenizers import units

INDEX = zoo.word_index(by_hand())
QUESTIONS = """\
: family
man king woman queen
Woman Queen Man King
man king woman kingdom
man king woman princess

: gram1-adverbs
river bank man woman
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(text, name="data.txt"):
    with open(name, "w", encoding="utf-8") as file:
        file.write(text)
    return name


def random_index(words, width=6, seed=0) -> zoo.WordIndex:
    """Return an index of words with random vectors, most frequent word first."""
    x_VD = np.random.default_rng(seed).normal(size=(len(words) + 2, width)).astype(np.float32)
    model = word2vec.Word2Vec(word2vec.Config(vocab_size=len(words) + 2, width=width))
    tokenizer = units.words(["<unk>", "</s>", *words])
    return zoo.word_index(zoo.Loaded(model, {"words": x_VD}, tokenizer))


def test_analogies_are_counted_by_section_and_kind_whatever_their_case():
    result = word_vectors.analogies(INDEX, write(QUESTIONS))
    assert result == {
        "family": (2, 3, 1),
        "gram1-adverbs": (0, 1, 0),
        "semantic": (2, 3, 1),
        "syntactic": (0, 1, 0),
        "total": (2, 4, 1),
    }
    assert result["total"].fraction == 0.5
    assert word_vectors.Accuracy(0, 0, 3).fraction == 0


def test_only_the_most_frequent_words_count():
    result = word_vectors.analogies(INDEX, write(QUESTIONS), most_frequent=4)
    assert result["total"] == (2, 2, 3)  # man, woman, king, queen
    with pytest.raises(ValueError, match="must be at least 1, not 0"):
        word_vectors.analogies(INDEX, write(QUESTIONS), most_frequent=0)


def test_chunks_change_nothing(monkeypatch):
    whole = word_vectors.analogies(INDEX, write(QUESTIONS))
    monkeypatch.setattr(word_vectors, "CHUNK", 1)
    assert word_vectors.analogies(INDEX, write(QUESTIONS)) == whole


def test_wrong_lines_are_named():
    with pytest.raises(ValueError, match=r"data.txt, line 2: expected four words, got 3"):
        word_vectors.analogies(INDEX, write(": family\nman king woman"))
    with pytest.raises(ValueError, match=r"data.txt has no analogies"):
        word_vectors.analogies(INDEX, write("\n"))
    with pytest.raises(ValueError, match=r"line 1: expected two words and a score .* 'man king'"):
        word_vectors.similarity(INDEX, write("man king"))
    with pytest.raises(ValueError, match=r"line 1: expected two words and a score"):
        word_vectors.similarity(INDEX, write("man\tking\thigh"))
    with pytest.raises(ValueError, match="both words of 1 of 2 pairs, but a correlation needs"):
        word_vectors.similarity(INDEX, write("man\tking\t1\nman\tprince\t2"))


def test_correlations_are_those_of_the_cosines_and_unknown_pairs_are_left_out():
    pairs = "# words\nman\tWoman\t1\nking\tqueen\t2\nbank\triver\t9\nking\tprince\t5\n"
    result = word_vectors.similarity(INDEX, write(pairs))
    assert (result.spearman, result.pairs, result.skipped) == (pytest.approx(1), 3, 1)
    assert 0.5 < result.pearson < 1


def test_fasttext_leaves_no_pair_out():
    index = zoo.word_index(with_ngrams())
    pairs = "running\tbank\t1\nRunning\tunheard\t2\nUnheard\trun\t3\n"
    result = word_vectors.similarity(index, write(pairs))
    assert (result.pairs, result.skipped) == (3, 0)


def test_files_of_analogies_are_recognized_by_their_sections():
    assert word_vectors.has_sections(write(QUESTIONS))
    assert not word_vectors.has_sections(write("man\tking\t1\n"))


def keyed_vectors(index):
    keyedvectors = pytest.importorskip("gensim.models.keyedvectors")
    vectors = keyedvectors.KeyedVectors(index.units_ND.shape[1])
    vectors.add_vectors(index.words, index.units_ND * 3)
    return vectors


# Some words twice, in different case, as in a vocabulary that was not lower-cased.
CASED = [f"w{number}" for number in range(60)] + [f"W{number}" for number in range(0, 60, 3)]


@pytest.mark.parametrize("most_frequent", [300_000, 45])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_metrics_equal_those_of_gensim(most_frequent):
    random = np.random.default_rng(1)
    index = random_index(CASED, width=3)
    theirs = keyed_vectors(index)
    lines = []
    for section in ("capitals", "gram2-opposite"):
        lines.append(f": {section}")
        for _ in range(300):
            a, b, c = random.choice(66, 3, replace=False)  # those above 59 are unknown
            near = [word for word, _ in zoo.neighbors(index, f"w{min(b, 59)}", 2)]
            lines.append(f"w{a} W{b} w{c} {random.choice(near)}")
    file = write("\n".join(lines), "analogies.txt")
    ours = word_vectors.analogies(index, file, most_frequent)
    score, sections = theirs.evaluate_word_analogies(file, restrict_vocab=most_frequent)
    assert ours["total"].fraction == pytest.approx(score)
    assert 0 < score < 1
    for section in sections[:-1]:
        correct, wrong = len(section["correct"]), len(section["incorrect"])
        assert ours[section["section"]][:2] == (correct, correct + wrong)

    # No pair twice and no word with itself: rounding would rank equal cosines differently.
    chosen = random.permutation(list(itertools.combinations(range(66), 2)))[:80]
    pairs = [f"w{a}\tW{b}\t{(a * b) % 11}" for a, b in chosen]
    file = write("\n".join(pairs), "pairs.txt")
    pearson, spearman, unknown = theirs.evaluate_word_pairs(file, restrict_vocab=most_frequent)
    result = word_vectors.similarity(index, file, most_frequent)
    assert result.pearson == pytest.approx(pearson.statistic, abs=1e-5)
    assert result.spearman == pytest.approx(spearman.statistic, abs=1e-5)
    assert 100 * result.skipped / (result.pairs + result.skipped) == pytest.approx(unknown)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_neighbors_and_analogies_equal_those_of_gensim():
    index = random_index([f"w{number}" for number in range(200)])
    theirs = keyed_vectors(index)
    for ours, expected in (
        (zoo.neighbors(index, "w7", 5), theirs.most_similar("w7", topn=5)),
        (
            zoo.analogy(index, "w1", "w2", "w3", 5),
            theirs.most_similar(positive=["w2", "w3"], negative=["w1"], topn=5),
        ),
    ):
        assert [word for word, _ in ours] == [word for word, _ in expected]
        np.testing.assert_allclose([x for _, x in ours], [x for _, x in expected], atol=1e-5)
