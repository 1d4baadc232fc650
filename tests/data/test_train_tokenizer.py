"""Trained tokenizers are deterministic and have the requested size and special tokens."""

import os
import subprocess
import sys

import pytest

from train.data import train_tokenizer
from train.data.sources import builtin
from zoo.tokenizers import published

KINDS = ["byte_level_bpe", "end_of_word_bpe", "roberta", "wordpiece", "unigram", "albert"]


@pytest.fixture(scope="module")
def texts():
    return [document[:3000] for document in builtin.documents()[:150]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vocab_size", [600, 1500])
def test_the_vocabulary_has_exactly_the_requested_size(texts, kind, vocab_size):
    tokenizer = getattr(train_tokenizer, kind)(texts, vocab_size)
    assert tokenizer.get_vocab_size() == vocab_size
    assert sorted(tokenizer.get_vocab().values()) == list(range(vocab_size))


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_too_small_for_the_vocabulary_is_refused(kind):
    with pytest.raises(ValueError, match="yields a vocabulary of"):
        getattr(train_tokenizer, kind)(["hello world"], 5000)


def test_gpt2s_end_of_text_is_the_last_id(texts):
    tokenizer = train_tokenizer.byte_level_bpe(texts, 600)
    assert tokenizer.token_to_id("<|endoftext|>") == 599
    assert tokenizer.encode("a<|endoftext|>").ids[-1] == 599


def test_gpts_words_are_lower_cased_and_end_with_a_mark(texts):
    tokenizer = train_tokenizer.end_of_word_bpe(texts, 1500)
    assert tokenizer.token_to_id("<unk>") == 0
    assert tokenizer.token_to_id("_start_") == 1499
    tokens = tokenizer.encode("_start_The Value, Ünknown: \u4f60").tokens
    assert tokens[:4] == ["_start_", "the</w>", "value</w>", ",</w>"]
    assert "".join(tokens[4:-1]) == "unknown</w>:</w>"
    assert tokens[-1] == "<unk>"


def test_berts_special_tokens_come_first_and_frame_the_text(texts):
    tokenizer = train_tokenizer.wordpiece(texts, 600)
    assert [tokenizer.id_to_token(i) for i in range(5)] == list(published.BERT_SPECIALS)
    encoding = tokenizer.encode("one", "two")
    assert [t for t in encoding.tokens if t[0] == "["] == ["[CLS]", "[SEP]", "[SEP]"]
    assert encoding.type_ids[0] == 0
    assert encoding.type_ids[-1] == 1


def test_xlnets_special_tokens_come_first_and_close_the_text(texts):
    tokenizer = train_tokenizer.unigram(texts, 600)
    assert [tokenizer.id_to_token(i) for i in range(9)] == list(published.XLNET_SPECIALS)
    encoding = tokenizer.encode("one", "two")
    assert encoding.tokens[-2:] == ["<sep>", "<cls>"]
    assert encoding.type_ids[-2:] == [1, 2]


def test_robertas_special_tokens_frame_the_text_and_the_mask_includes_its_space(texts):
    tokenizer = train_tokenizer.roberta(texts, 600)
    assert [tokenizer.id_to_token(i) for i in (0, 1, 2, 3, 599)] == list(published.ROBERTA_SPECIALS)
    one, two = (tokenizer.encode(t, add_special_tokens=False).ids for t in ("one", " two"))
    assert tokenizer.encode("one <mask> two").ids == [0, *one, 599, *two, 2]


def test_alberts_special_tokens_come_first_and_text_is_lowercased(texts):
    tokenizer = train_tokenizer.albert(texts, 600)
    assert [tokenizer.id_to_token(i) for i in range(5)] == list(published.ALBERT_SPECIALS)
    assert tokenizer.encode("One").ids == tokenizer.encode("one").ids
    assert tokenizer.encode("one", "two").type_ids[-1] == 1


def test_t5s_sentinels_count_down_from_the_last_id(texts):
    tokenizer = train_tokenizer.t5(texts, 1024)
    size = tokenizer.get_vocab_size()
    assert size == 1024 - 28
    assert [tokenizer.id_to_token(i) for i in range(3)] == list(published.T5_SPECIALS)
    assert tokenizer.token_to_id("<extra_id_0>") == size - 1
    assert tokenizer.token_to_id("<extra_id_99>") == size - 100
    assert tokenizer.encode("one").ids[-1] == 1


def test_special_ids_are_looked_up_by_name(texts):
    assert train_tokenizer.special_ids(train_tokenizer.wordpiece(texts, 600)) == (2, 3, 4)
    assert train_tokenizer.special_ids(train_tokenizer.roberta(texts, 600)) == (0, 2, 599)
    with pytest.raises(ValueError, match="has no mask token"):
        train_tokenizer.special_ids(train_tokenizer.byte_level_bpe(texts, 600))


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_restores_the_text(texts, kind):
    tokenizer = getattr(train_tokenizer, kind)(texts, 1500)
    text = "the value of the name is a string"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_byte_level_bpe_restores_every_text(texts):
    tokenizer = train_tokenizer.byte_level_bpe(texts, 600)
    for text in (*texts, "  日本 \x00 é\u0301\r\n\n 🙂\ufeff"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


SCRIPT = """
from train.data import train_tokenizer
from train.data.sources import builtin
from zoo import tokenizers
texts = [document[:1000] for document in builtin.documents()[:150]]
for kind in ("byte_level_bpe", "end_of_word_bpe", "roberta", "wordpiece", "unigram", "albert"):
    print(tokenizers.fingerprint(getattr(train_tokenizer, kind)(texts, 1100)))
"""


def test_training_again_gives_the_same_tokenizer_on_any_number_of_threads():
    runs = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONPATH": ".", "TOKENIZERS_PARALLELISM": parallel},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for parallel in ("true", "true", "false")
    ]
    assert runs[0].count("\n") == 6
    assert len(set(runs)) == 1
