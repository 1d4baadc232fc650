"""ARPA files: read as they are written, and refused in one line where they are wrong."""

import gzip

import numpy as np
import pytest

import zoo
from tests.counting import tiny_text
from tests.counting.tiny_text import V
from zoo.checkpoints.load import Loaded
from zoo.formats import arpa
from zoo.params import flatten
from zoo.tokenizers import units

TOLERANCE = 1e-6
# Written by hand: p(b | a) is stored, p(c | a) is backed off.
BIGRAMS = r"""\data\
ngram 1=5
ngram 2=3

\1-grams:
-1.0	<unk>
-99	<s>	-0.5
-0.6	</s>
-0.3	a	-0.25
-0.7	b	-0.125

\2-grams:
-0.2	<s> a
-0.1	a b
-0.4	b </s>

\end\
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "bigrams.arpa"
    path.write_text(BIGRAMS)
    return path


def test_a_file_is_read_as_its_formula_says(file):
    model, tables, tokenizer = zoo.load(file)
    a, b = tokenizer.token_to_id("a"), tokenizer.token_to_id("b")
    tokens_BL = np.array([[1, a, b, a, 0]], np.int32)
    log10 = np.asarray(model.apply({"params": tables}, tokens_BL))[0] / np.log(10)
    assert abs(log10[0, a] - -0.2) < TOLERANCE  # <s> a
    assert abs(log10[0, b] - (-0.5 - 0.7)) < TOLERANCE
    assert abs(log10[1, b] - -0.1) < TOLERANCE
    assert abs(log10[2, 1] - -0.4) < TOLERANCE  # b </s>
    assert abs(log10[3, 0] - (-0.25 - 1.0)) < TOLERANCE
    assert abs(log10[4, a] - -0.3) < TOLERANCE  # <unk> has no weight


@pytest.mark.parametrize("name", ["model.arpa", "model.arpa.gz"])
@pytest.mark.parametrize("order", [1, 3])
def test_what_is_written_is_read_back(tmp_path, order, name):
    model, tables = tiny_text.model(tmp_path / "counts", tiny_text.sentences(), order)
    words = ["<unk>", "</s>", *(f"w{number}" for number in range(2, V))]
    zoo.export(Loaded(model, tables, units.words(words)), tmp_path / name)
    again = zoo.load(tmp_path / name)
    assert again.tokenizer.get_vocab() == {word: number for number, word in enumerate(words)}
    for path, array in flatten(tables).items():
        actual = np.asarray(flatten(again.params)[path])
        # <s> has the weight of a context alone, and </s> the probability.
        assert np.allclose(actual, array, rtol=TOLERANCE, atol=0), path


def test_white_space_is_written_as_its_bytes(tmp_path):
    model, tables = tiny_text.model(tmp_path / "counts", tiny_text.sentences(), 2)
    letters = ["<unk>", "</s>", " ", "\n", *(chr(0x4E00 + i) for i in range(4, V))]
    zoo.export(Loaded(model, tables, units.characters(letters)), tmp_path / "letters.arpa")
    assert "\t<0x20>\t" in (tmp_path / "letters.arpa").read_text("utf-8")
    again = zoo.load(tmp_path / "letters.arpa")
    assert again.model.config.units == "character"
    assert again.tokenizer.get_vocab()[" "] == 2
    assert again.tokenizer.encode("\n ").ids == [3, 2]


def test_an_imported_model_is_a_folder_like_any_other(file, tmp_path):
    zoo.save(zoo.load(file), tmp_path / "model")
    text = zoo.generate(zoo.load(tmp_path / "model"), "a", max_new_tokens=1, temperature=0)
    assert text == " b"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("\\data\\", "\\date\\", r"line 1: expected \\data\\, .* this is not an ARPA file"),
        ("ngram 1=5", "ngram 2=5", "line 2: expected `ngram 1=COUNT`"),
        ("ngram 2=3", "ngram 2=4", r"line 17: .* promises 4 2-grams, but the file has 3: correct"),
        ("ngram 2=3", "ngram 2=2", r"line 15: .* promises 2 2-grams, but the file has more"),
        ("ngram 2=3\n", "", "line 6: expected log10 p and a word, not"),
        ("a b", "a c", "line 14: the word 'c' is none of the 1-grams"),
        ("-0.1\ta b", "-0.1\ta b\t-1", "line 14: expected log10 p and 2 words, not"),
        ("-0.1\ta b", "zero\ta b", "line 14: expected numbers"),
        ("-0.1\ta b", "0.1\ta b", "line 14: log10 p must be at most 0"),
        ("-0.1\ta b", "nan\ta b", "line 14: log10 p must be at most 0"),
        ("-0.7\tb", "-0.7\ta", "line 10: the word 'a' is there twice"),
        ("b </s>", "a b", "a 2-gram twice"),
        ("-0.6\t</s>", "-0.6\tc", "no </s>, which ends a text"),
        ("\n\\end\\", "", r"expected \\end\\|the file has more"),
    ],
)
def test_a_file_that_is_wrong_is_refused_in_one_line(file, old, new, words):
    assert old in BIGRAMS
    file.write_text(BIGRAMS.replace(old, new, 1))
    with pytest.raises(ValueError, match=words) as caught:
        arpa.read(file)
    assert "\n" not in str(caught.value)


def test_an_ngram_whose_beginning_is_missing_is_refused(file):
    trigrams = BIGRAMS.replace("ngram 2=3", "ngram 2=3\nngram 3=1")
    trigrams = trigrams.replace("\\end\\", "\\3-grams:\n-0.1\tb a b\n\n\\end\\")
    file.write_text(trigrams)
    with pytest.raises(ValueError, match=r"3-grams that begin with 'b a', which is none of"):
        arpa.read(file)


def test_a_truncated_or_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such ARPA file: .*none.arpa"):
        zoo.load(tmp_path / "none.arpa")
    path = tmp_path / "short.arpa.gz"
    path.write_bytes(gzip.compress(BIGRAMS.encode())[:-20])
    with pytest.raises(ValueError, match=r"is not a complete gzip file"):
        zoo.load(path)
