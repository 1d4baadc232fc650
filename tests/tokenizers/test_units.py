"""Tokenizers of words and of characters."""

import pytest

from train.data import vocabulary
from zoo import tokenizers
from zoo.tokenizers import units

TEXT = "b a b\n\nc b <unk>\n"


def test_a_vocabulary_is_in_the_order_of_frequency():
    tokenizer = vocabulary.tokenizer([TEXT], "word")
    words = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    assert words == ["<unk>", "</s>", "<eos>", "b", "a", "c"]


def test_rare_words_are_unknown():
    tokenizer = vocabulary.tokenizer([TEXT, "a"], "word", min_count=2)
    assert tokenizer.encode("a c\n").tokens == ["a", "<unk>", "<eos>"]
    tokenizer = vocabulary.tokenizer([TEXT], "word", vocab_size=5)
    assert tokenizer.encode("b a c").tokens == ["b", "a", "<unk>"]


def test_every_line_ends_with_a_token_where_the_vocabulary_has_one():
    tokenizer = vocabulary.tokenizer([TEXT], "word")
    lines = [["b", "a", "b"], [], ["c", "b", "<unk>"]]
    expected = [token for line in lines for token in [*line, "<eos>"]]
    assert tokenizer.encode(TEXT).tokens == expected
    without = units.words(["<unk>", "</s>", "a", "b"])
    assert without.encode("a\nb\n").tokens == ["a", "b"]


def test_decoded_words_continue_a_text():
    tokenizer = vocabulary.tokenizer([TEXT], "word")
    ids = tokenizer.encode("a b\nc b").ids
    assert tokenizer.decode(ids) == " a b\nc b"


def test_characters_are_decoded_as_they_were(tmp_path):
    tokenizer = vocabulary.tokenizer(["a b\n\té\x85"], "character")
    tokenizers.save(tokenizer, tmp_path)
    again = tokenizers.load(tmp_path)
    assert again.decode(again.encode("é\tb a\n").ids) == "é\tb a\n"
    assert again.encode("ax").tokens == ["a", "<unk>"]


def test_words_are_split_as_they_are_counted():
    text = "a\x1cb\u3000c\x85d\u200be\tf\u2028g"
    tokenizer = vocabulary.tokenizer([text], "word")
    assert tokenizer.token_to_id("<unk>") not in tokenizer.encode(text).ids


@pytest.mark.parametrize(
    ("text", "settings", "words"),
    [
        ("a a a\n", {"units": "word"}, "1 distinct word: a model needs at least 2"),
        ("aaa", {"units": "character"}, "1 distinct character: a model needs at least 2"),
        ("a b c a", {"units": "word", "min_count": 3}, "3 .* of which --min-count leaves 0"),
        ("a b c", {"units": "word", "vocab_size": 3}, "3 .* of which --vocab-size leaves 1"),
        ("a </s> b", {"units": "word"}, "contains </s>, which begins and ends a document"),
    ],
)
def test_a_text_without_a_vocabulary_is_refused(text, settings, words):
    with pytest.raises(ValueError, match=words):
        vocabulary.tokenizer([text], **settings)
