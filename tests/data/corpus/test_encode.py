"""Distinct words, tokenized once, give the tokens of the texts."""

import re

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from tests.data.corpus.test_corpus import TRICKY, continues
from tests.data.tiny_corpus import documents
from train.data import train_tokenizer
from train.data.corpus import encode
from zoo import tokenizers
from zoo.tokenizers import published

SPACES = (" ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u2028", "\u3000", "\x1c", "\x85", "\u200b")
MIXED = tuple(
    f"one{a}two.{b}{a}three'{a}\u0301four{b}五{a}{b}{a}$5" for a in SPACES for b in SPACES
)
TEXTS = (*documents()[:40], *TRICKY, *MIXED, *SPACES, "", "\x01\x02", "a")


def trained(kind: str) -> Tokenizer:
    built = getattr(train_tokenizer, kind)(documents(), 700)
    return tokenizers.ordinary(built)


def check(tokenizer: Tokenizer) -> None:
    """Compare with the texts, each tokenized whole."""
    built = encode.encode(encode.split(TEXTS, tokenizer), tokenizer)
    expected = tokenizer.encode_batch(list(TEXTS), add_special_tokens=False)
    assert built.lengths.tolist() == [len(encoding) for encoding in expected]
    assert built.tokens.tolist() == [token for encoding in expected for token in encoding.ids]
    words = [w for e in expected for w in np.diff(np.array(e.word_ids, int), prepend=-1) != 0]
    if isinstance(tokenizer.model, models.Unigram):
        pieces = map(tokenizer.id_to_token, built.tokens)
        words = [w or not continues(piece) for w, piece in zip(words, pieces, strict=True)]
    assert built.words.tolist() == words


@pytest.mark.parametrize("kind", ["byte_level_bpe", "roberta", "wordpiece", "unigram", "albert"])
def test_the_tokens_and_words_are_those_of_the_whole_texts(kind):
    tokenizer = trained(kind)
    assert encode.splits_at_white_space(tokenizer)
    check(tokenizer)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("unseen, unmet", ["▁un seen", ",", "▁un met"]),
        ("it's (1998)", ["▁it", "'s", "▁(", "19", "98", ")"]),
        ("語言模型。ab", ["▁語", "言", "模型", "。 ab"]),
    ],
)
def test_sentence_pieces_that_cannot_continue_a_word_start_one(text, words):
    pieces = " ".join(words).split()
    vocabulary = [("<unk>", 0.0), *((piece, -1.0) for piece in dict.fromkeys(pieces))]
    tokenizer = published.unigram(models.Unigram(vocabulary, 0), normalizers.NFC())
    built = encode.encode(encode.split([text], tokenizer), tokenizer)
    assert [tokenizer.id_to_token(token) for token in built.tokens] == pieces
    starts = [tokenizer.id_to_token(token) for token in built.tokens[built.words]]
    assert starts == [word.split()[0] for word in words]


def characters() -> Tokenizer:
    """A tokenizer that merges characters over spaces."""
    alphabet = sorted({char for text in TEXTS for char in text} | set("onetw "))
    vocabulary = {char: number for number, char in enumerate(alphabet)} | {"e ": 9998, "e t": 9999}
    return Tokenizer(models.BPE(vocabulary, [("e", " "), ("e ", "t")]))


def test_tokens_that_span_words_stay_whole():
    tokenizer = characters()
    assert not encode.splits_at_white_space(tokenizer)
    check(tokenizer)
    assert 9999 in encode.encode(encode.split(["one two"], tokenizer), tokenizer).tokens
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    assert not encode.splits_at_white_space(tokenizer)


@pytest.mark.parametrize(
    "added",
    [AddedToken("New York"), AddedToken("new", lstrip=True), AddedToken("new", rstrip=True)],
)
def test_an_added_token_that_takes_white_space_stays_whole(added):
    tokenizer = trained("byte_level_bpe")
    tokenizer.add_tokens([AddedToken("plain")])
    assert encode.splits_at_white_space(tokenizer)
    tokenizer.add_tokens([added])
    assert not encode.splits_at_white_space(tokenizer)
    text = "to New York and the new one"
    built = encode.encode(encode.split([text], tokenizer), tokenizer)
    assert tokenizer.token_to_id(added.content) in built.tokens
    check(tokenizer)


def test_a_word_is_tokenized_once():
    built = encode.split(["the cat", " and the cat and the dog"], trained("wordpiece"))
    assert built.distinct == ["the", " cat", " and", " the", " dog"]
    assert built.numbers.tolist() == [0, 1, 2, 3, 1, 2, 3, 4]
    assert built.counts.tolist() == [2, 6]


@pytest.mark.parametrize("text", [*TRICKY, *MIXED])
def test_words_end_before_a_space_tab_or_line_ending_alone(text):
    words = encode._WORD.findall(text)
    assert "".join(words) == text
    ends = np.cumsum([len(word) for word in words])[:-1].tolist()
    places = [match.start() for match in re.finditer(r"(?<=\S)(?=[ \t\r\n])", text)]
    assert [end for end in ends if text[end:].strip()] == [p for p in places if text[p:].strip()]
