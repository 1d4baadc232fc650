"""The files beside a vocabulary are obeyed, or refused in one line that names the field."""

import json
import time

import pytest

from zoo import tokenizers
from zoo.checkpoints.load import load_tokenizer
from zoo.models import bert

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "film", "é", "e", "The", "日", "日本"]
CONFIG, MAP, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"


def write(folder, files, words=WORDS):
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words), "utf-8")
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text, "utf-8")
    return folder


def token(content, **flags):
    return {"content": content, "normalized": False, **flags}


def decoder(id, content, **flags):
    return {"added_tokens_decoder": {str(id): token(content, **flags)}}


@pytest.mark.parametrize(
    ("files", "text", "expected"),
    [
        ({}, "The é", "[CLS] The é [SEP]"),
        ({CONFIG: {"do_lower_case": True}}, "The é", "[CLS] the e [SEP]"),
        ({CONFIG: {"do_lower_case": True, "strip_accents": False}}, "É", "[CLS] é [SEP]"),
        ({CONFIG: {"strip_accents": True}}, "The é", "[CLS] The e [SEP]"),
        ({}, "日本", "[CLS] 日 [UNK] [SEP]"),
        ({CONFIG: {"tokenize_chinese_chars": False}}, "日本", "[CLS] 日本 [SEP]"),
        ({CONFIG: {"cls_token": "the", "sep_token": "e"}}, "film", "the film e"),
        ({CONFIG: {"unk_token": "film"}}, "cat", "[CLS] film [SEP]"),
        ({CONFIG: {"mask_token": "é"}}, "[MASK]", "[CLS] [UNK] [UNK] [UNK] [SEP]"),
        ({ADDED: {"covid": 12}}, "the covids", "[CLS] the covid [UNK] [SEP]"),
        ({ADDED: {"b": 13, "a": 12}}, "b a", "[CLS] b a [SEP]"),
        ({MAP: {"sep_token": "e"}, CONFIG: {"sep_token": "é"}}, "film", "[CLS] film e"),
        ({CONFIG: decoder(12, "x"), MAP: {"sep_token": "e"}}, "x", "[CLS] x [SEP]"),
        ({CONFIG: decoder(12, "x", single_word=True)}, "x xy", "[CLS] x [UNK] [SEP]"),
        ({CONFIG: {"additional_special_tokens": ["<e>"]}}, "e<e>", "[CLS] e <e> [SEP]"),
        ({CONFIG: {"user_token": "<u>"}}, "<u>", "[CLS] <u> [SEP]"),
    ],
)
def test_a_field_changes_the_tokens_of_a_text(tmp_path, files, text, expected):
    assert " ".join(tokenizers.load(write(tmp_path, files)).encode(text).tokens) == expected


def test_added_tokens_have_the_ids_that_the_folder_states(tmp_path):
    tokenizer = tokenizers.load(write(tmp_path, {ADDED: {"b": 13, "a": 12}}))
    assert [tokenizer.token_to_id(name) for name in "ab"] == [12, 13]


def test_repeated_lines_shift_added_tokens_with_a_warning(tmp_path):
    folder = write(tmp_path, {ADDED: {"covid": 13}}, [*WORDS, "the"])
    with pytest.warns(UserWarning, match="'covid' 12 for 13"):
        tokenizer = tokenizers.load(folder)
    assert tokenizer.encode("covid").ids == [2, 12, 3]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({ADDED: {"covid": 10**9}}, "states the id 1000000000 for the added token 'covid'"),
        ({ADDED: {"covid": 14}}, "gives? it 12"),
        ({ADDED: {"the": 12}}, "give it 5"),
        ({ADDED: {"covid": -1}}, "id of 'covid' is -1"),
        ({ADDED: {"covid": "12"}}, "id of 'covid' is '12'"),
        ({ADDED: {"covid": True}}, "id of 'covid' is True"),
        ({ADDED: {"a": 12, "b": 12}}, "'a' and 'b' have the same id 12"),
        ({ADDED: {"": 12}}, "empty"),
        ({ADDED: [["covid", 12]]}, "expected a JSON object"),
        ({ADDED: "{"}, "not valid JSON"),
        ({CONFIG: "[]"}, "expected a JSON object"),
        ({MAP: '"x"'}, "expected a JSON object"),
        ({CONFIG: {"do_lower_case": "yes"}}, "do_lower_case is 'yes', expected true or false"),
        ({CONFIG: {"strip_accents": 1}}, "strip_accents is 1"),
        ({CONFIG: {"cls_token": 5}}, "cls_token is 5, expected a token"),
        ({CONFIG: {"cls_token": {"content": ["a"]}}}, "cls_token is"),
        ({CONFIG: {"cls_token": token("a", lstrip="x")}}, "lstrip of cls_token is 'x'"),
        ({CONFIG: {"additional_special_tokens": 3}}, "is not a list of tokens"),
        ({CONFIG: {"added_tokens_decoder": []}}, "added_tokens_decoder"),
        ({CONFIG: decoder("x", "a")}, "has the id 'x'"),
        ({CONFIG: decoder(10**9, "a")}, "states the id 1000000000"),
        ({CONFIG: {"never_split": ["film"]}}, "never_split"),
        ({CONFIG: {"do_basic_tokenize": False}}, "do_basic_tokenize"),
        ({CONFIG: {"split_special_tokens": True}}, "split_special_tokens"),
        ({CONFIG: {"unk_token": "<unk>"}}, "the vocabulary lacks <unk>"),
        ({CONFIG: {"tokenizer_class": "BertJapaneseTokenizer"}}, "has a BertJapaneseTokenizer"),
        ({CONFIG: {"tokenizer_class": "T5TokenizerFast"}}, "has a T5Tokenizer, which zoo cannot"),
        ({CONFIG: {"tokenizer_class": "PreTrainedTokenizerFast"}}, "but no tokenizer.json"),
        ({CONFIG: {"tokenizer_class": 5}}, "tokenizer_class is 5"),
    ],
)
def test_what_is_not_supported_is_refused_in_one_line(tmp_path, files, reason):
    begin = time.perf_counter()
    with pytest.raises(ValueError, match=reason) as error:
        tokenizers.load(write(tmp_path, files))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500
    assert time.perf_counter() - begin < 1


@pytest.mark.parametrize("cls", ["BertTokenizer", "ElectraTokenizerFast", "DistilBertTokenizer"])
def test_a_class_with_the_same_files_may_differ_from_the_model(tmp_path, cls):
    folder = write(tmp_path, {"config.json": {"model_type": "electra", "tokenizer_class": cls}})
    assert tokenizers.load(folder).encode("film").ids == [2, 6, 3]


def byte_level(folder, files, merges=()):
    letters = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "b", "Ġ", *map("".join, merges)]
    (folder / "vocab.json").write_text(json.dumps({x: i for i, x in enumerate(letters)}))
    (folder / "merges.txt").write_text("".join(f"{a} {b}\n" for a, b in merges))
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, "<s> a b </s>"),
        ({"tokenizer_class": "RobertaTokenizer"}, "<s> a b </s>"),
        ({"tokenizer_class": "GPT2Tokenizer"}, "a b"),
        ({"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True}, "Ġa b"),
        (
            {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, "bos_token": "<s>"},
            "<s> a b",
        ),
        ({"tokenizer_class": "GPT2Tokenizer", "add_eos_token": True, "eos_token": "b"}, "a b b"),
        ({"cls_token": "b", "sep_token": "a"}, "b a b a"),
    ],
)
def test_the_class_and_its_options_give_the_ends_of_byte_level_texts(tmp_path, config, expected):
    folder = byte_level(tmp_path, {CONFIG: config}, [("Ġ", "a")])
    assert " ".join(tokenizers.load(folder).encode("ab").tokens) == expected


def test_gaps_in_a_vocabulary_give_no_token_the_id_of_another(tmp_path):
    folder = byte_level(tmp_path, {MAP: {"pad_token": "[PAD]"}})
    ids = json.loads((folder / "vocab.json").read_text())
    del ids["<unk>"]
    (folder / "vocab.json").write_text(json.dumps(ids))
    with pytest.raises(ValueError, match=r"'\[PAD\]' would get the id 7 of 'Ġ'"):
        tokenizers.load(folder)


# Beside tokenizer.json


@pytest.fixture
def saved(tmp_path):
    """Return a folder with a cased tokenizer.json and no vocab.txt."""
    (tmp_path / "text").mkdir()
    tokenizers.save(tokenizers.load(write(tmp_path / "text", {ADDED: {"covid": 12}})), tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, "The é covid"),
        ({"do_lower_case": True}, "the e covid"),
        ({"do_lower_case": True, "tokenizer_class": "PreTrainedTokenizerFast"}, "The é covid"),
        ({"strip_accents": True, "tokenizer_class": "BertTokenizerFast"}, "The e covid"),
        (decoder(12, "covid", normalized=True), "The é covid"),
    ],
)
def test_options_of_bert_replace_those_of_its_tokenizer_json(saved, config, expected):
    (saved / CONFIG).write_text(json.dumps(config))
    tokens = tokenizers.load(saved).encode("The é covid", add_special_tokens=False).tokens
    assert " ".join(tokens) == expected


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (decoder(13, "covid", normalized=True), "states the id 13 for the added token 'covid'"),
        (decoder(12, "covid", normalized=True, rstrip=True), "rstrip of 'covid' is False in token"),
        ({"tokenizer_class": "BertJapaneseTokenizer"}, "BertJapaneseTokenizer"),
    ],
)
def test_a_contradiction_to_tokenizer_json_is_refused(saved, config, reason):
    (saved / CONFIG).write_text(json.dumps(config))
    with pytest.raises(ValueError, match=reason) as error:
        tokenizers.load(saved)
    assert "\n" not in str(error.value)


def test_a_tokenizer_json_with_other_ids_than_it_gives_is_refused(saved):
    content = json.loads((saved / "tokenizer.json").read_text())
    content["added_tokens"][-1]["id"] = 1000
    (saved / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="states the id 1000 for the added token 'covid'"):
        tokenizers.load(saved)


# With a model


def test_the_largest_id_must_be_in_the_vocabulary_of_the_model(tmp_path):
    folder = write(tmp_path, {ADDED: {"covid": 12}, "config.json": {"model_type": "bert"}})
    config = bert.Config(vocab_size=12, max_length=8, num_layers=1, width=4, num_heads=1)
    with pytest.raises(ValueError, match=r"has 13 tokens, the last one 'covid', .* model has 12"):
        load_tokenizer(folder, config)


@pytest.mark.parametrize(
    ("published", "wrong"),
    [
        ({"sep_token_id": 3, "pad_token_id": 7}, None),
        ({"cls_token_id": [5, 2]}, None),
        ({"cls_token_id": 5}, "config.json has cls_token_id = 5, .* has the id 2"),
        ({"mask_token_id": 5}, "has mask_token_id = 5"),
    ],
)
def test_special_ids_of_config_json_are_those_of_the_tokenizer(tmp_path, published, wrong):
    folder = write(tmp_path, {"config.json": {"model_type": "bert", **published}})
    config = bert.Config(vocab_size=12, max_length=8, num_layers=1, width=4, num_heads=1)
    if wrong is None:
        assert load_tokenizer(folder, config) is not None
        return
    with pytest.raises(ValueError, match=wrong):
        load_tokenizer(folder, config)
