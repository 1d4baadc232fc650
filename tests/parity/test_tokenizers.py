"""The files beside a vocabulary: the ids of transformers for each of their fields."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest

import zoo
from tests import tiny
from train.data import train_tokenizer
from train.data.sources import builtin
from zoo import tokenizers
from zoo.checkpoints.load import Loaded
from zoo.formats import huggingface

transformers = pytest.importorskip("transformers")

# Published files, as ZOO_DATA has them, and the class that reads them.
VOCABULARIES = {
    "uncased": ("BertTokenizer", {"vocab.txt": "vocab_bert/bert-base-uncased-vocab.txt"}),
    "cased": ("BertTokenizer", {"vocab.txt": "vocab_bert/bert-base-cased-vocab.txt"}),
    "gpt2": (
        "GPT2Tokenizer",
        {"vocab.json": "vocab_gpt2/encoder.json", "merges.txt": "vocab_gpt2/vocab.bpe"},
    ),
    "roberta": (
        "RobertaTokenizer",
        {"vocab.json": "vocab_roberta/vocab.json", "merges.txt": "vocab_gpt2/vocab.bpe"},
    ),
    "gpt": (
        "OpenAIGPTTokenizer",
        {
            "vocab.json": "vocab_gpt1/encoder_bpe_40000.json",
            "merges.txt": "vocab_gpt1/vocab_40000.bpe",
        },
    ),
    "albert": ("AlbertTokenizer", {"spiece.model": "vocab_albert/spiece.model"}),
    "t5": ("T5Tokenizer", {"spiece.model": "vocab_t5/spiece.model"}),
}
MODEL_TYPES = {"uncased": "bert", "cased": "bert", "gpt": "openai-gpt"}
CONFIG, MAP, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
TEXTS = [
    "Hello World, naïve CAFÉ Élan \u0130stanbul e\u0301te\u0301 Straße",
    "日本語のテキスト 中文字符 한국어 Ελληνικά עברית",
    "emoji 🙂👩\u200d👩\u200d👧 flags 🇫🇷 and symbols ™ ½ ① ﬁ \uff21",
    "tab\tnul\x00 bell\x07 soft\u00adhyphen zero\u200bwidth nb\u00a0space \ufffd\ufeff",
    "  several   spaces \n\n new\r\nlines   ",
    "covid Covid COVID covids xcovidx [ent] <ent> <|user|> <s0>",
    "[CLS] [SEP] [MASK] [PAD] [UNK] <s> </s> <pad> <unk> <|endoftext|>",
    "before[MASK]after <extra_id_0>word <extra_id_1> other<extra_id_99>. [unused1][unused2]x",
    "",
    " ",
    "a" * 120,
]
# ALBERT's and XLNet's released code gives a comma after a number, and the marks that are
# user-defined pieces, other ids than transformers 5; a test of the tokenizers has them.
WITHOUT_MARKS = [text for text in TEXTS if not set('().,-"\u2013£€') & set(text)]


def token(content, **flags):
    return {"content": content, "special": False, "normalized": False, **flags}


def decoder(start, *tokens):
    return {"added_tokens_decoder": {str(start + i): token for i, token in enumerate(tokens)}}


CASES = [
    *(
        (name, {CONFIG: {field: value}})
        for name in ("uncased", "cased")
        for field, value in [
            ("do_lower_case", True),
            ("do_lower_case", False),
            ("strip_accents", True),
            ("tokenize_chinese_chars", False),
            ("cls_token", "[unused1]"),
            ("unk_token", "[unused2]"),
            ("mask_token", "<s0>"),
            ("additional_special_tokens", ["<ent>", "covid"]),
            ("user_token", "<|user|>"),
            ("add_bos_token", True),
            ("legacy", False),
        ]
        if name == "uncased" or field == "do_lower_case"
    ),
    ("uncased", {CONFIG: {"strip_accents": False, "do_lower_case": True}}),
    ("cased", {CONFIG: {"strip_accents": True, "do_lower_case": False}}),
    ("uncased", {ADDED: {"covid": 30522, "[ent]": 30523}}),
    ("uncased", {ADDED: {"<s0>": 30523, "COVID": 30522}, CONFIG: {"do_lower_case": True}}),
    ("uncased", {MAP: {"sep_token": "[unused1]"}, CONFIG: {"sep_token": "[unused2]"}}),
    ("uncased", {MAP: {"sep_token": "[unused1]"}, CONFIG: decoder(30522, token("<ent>"))}),
    *(
        ("uncased", {CONFIG: decoder(30522, token("covid", **flags), token("<ent>", special=True))})
        for flags in (
            {},
            {"lstrip": True},
            {"rstrip": True},
            {"single_word": True},
            {"normalized": True},
            {"normalized": True, "single_word": True},
        )
    ),
    ("gpt2", {}),
    ("gpt2", {CONFIG: {"add_prefix_space": True}}),
    ("gpt2", {CONFIG: {"add_bos_token": True}}),
    ("gpt2", {CONFIG: {"add_eos_token": True}}),
    ("gpt2", {CONFIG: {"add_bos_token": True, "add_eos_token": True, "bos_token": "<s0>"}}),
    ("gpt2", {CONFIG: {"pad_token": "<s0>", "eos_token": "<|user|>"}}),
    ("gpt2", {ADDED: {"<|user|>": 50257, "covid": 50258}, MAP: {"bos_token": "<|user|>"}}),
    ("gpt2", {CONFIG: decoder(50257, token("<|user|>", lstrip=True, rstrip=True))}),
    ("roberta", {}),
    ("roberta", {CONFIG: {"add_prefix_space": True}}),
    ("roberta", {CONFIG: {"cls_token": "<pad>", "sep_token": "<unk>"}}),
    ("roberta", {MAP: {"mask_token": token("<mask>", lstrip=False)}}),
    ("roberta", {MAP: {"mask_token": token("<mask>", lstrip=True)}}),
    ("roberta", {ADDED: {"covid": 50265}}),
    ("gpt", {}),
    ("gpt", {MAP: {"bos_token": "<s0>", "pad_token": "<|user|>"}}),
    ("gpt", {CONFIG: {"add_bos_token": True, "bos_token": "<s0>"}}),
    ("gpt", {ADDED: {"covid": 40478}}),
    ("albert", {}),
    ("albert", {CONFIG: {"do_lower_case": False}}),
    ("albert", {CONFIG: {"keep_accents": True}}),
    ("albert", {CONFIG: {"keep_accents": True, "do_lower_case": False, "remove_space": False}}),
    ("albert", {CONFIG: {"add_prefix_space": False}}),
    ("albert", {CONFIG: {"cls_token": "<pad>"}}),
    ("albert", {ADDED: {"covid": 30000}}),
    ("t5", {}),
    ("t5", {CONFIG: {"extra_ids": 0}}),
    ("t5", {CONFIG: {"extra_ids": 7}}),
    ("t5", {CONFIG: {"legacy": False}}),
    ("t5", {CONFIG: {"legacy": True}}),
    ("t5", {CONFIG: {"eos_token": "<unk>"}}),
    ("t5", {CONFIG: {"additional_special_tokens": [f"<extra_id_{i}>" for i in range(100)]}}),
    ("t5", {ADDED: {"covid": 32100, "<ent>": 32101}}),
    (
        "t5",
        {CONFIG: decoder(32098, token("<extra_id_1>", rstrip=True), token("<extra_id_0>"))},
    ),
]


def write(folder: Path, files) -> None:
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize(("vocabulary", "files"), CASES)
@pytest.mark.filterwarnings("error")
def test_published_vocabularies_give_the_ids_and_types_of_transformers(vocabulary, files, tmp_path):
    if "ZOO_DATA" not in os.environ:
        pytest.skip("ZOO_DATA names no folder with published vocabularies")
    cls, sources = VOCABULARIES[vocabulary]
    for name, source in sources.items():
        shutil.copy(Path(os.environ["ZOO_DATA"], source), tmp_path / name)
    write(tmp_path, {**files, CONFIG: {"tokenizer_class": cls, **files.get(CONFIG, {})}})
    theirs = getattr(transformers, cls).from_pretrained(tmp_path)
    ours = tokenizers.load(tmp_path)
    texts = WITHOUT_MARKS if vocabulary == "albert" else TEXTS
    for text in texts:
        assert ours.encode(text).ids == theirs(text).input_ids, text
    pairs = theirs(texts, texts[::-1], return_token_type_ids=True)
    encodings = ours.encode_batch(list(zip(texts, texts[::-1], strict=True)))
    assert [e.ids for e in encodings] == pairs.input_ids
    if vocabulary != "roberta":
        assert [e.type_ids for e in encodings] == pairs.token_type_ids
    again = tmp_path / "again"
    tokenizers.save(ours, again)
    model = {"model_type": MODEL_TYPES.get(vocabulary, vocabulary)}
    write(again, {"config.json": model})
    write(again, {CONFIG: tokenizers.config(ours, huggingface.find(model).tokenizer)})
    theirs, loaded = transformers.AutoTokenizer.from_pretrained(again), tokenizers.load(again)
    for text in TEXTS:
        assert theirs(text).input_ids == ours.encode(text).ids, text
        assert loaded.encode(text).ids == ours.encode(text).ids, text


# Ours -> the published class of a model that it is exported with.
TRAINED = {
    "bert": train_tokenizer.wordpiece,
    "distilbert": train_tokenizer.wordpiece,
    "electra": train_tokenizer.wordpiece,
    "roberta": train_tokenizer.roberta,
    "albert": train_tokenizer.albert,
    "gpt": train_tokenizer.end_of_word_bpe,
    "gpt2": train_tokenizer.byte_level_bpe,
    "xlnet": train_tokenizer.unigram,
    "t5": train_tokenizer.t5,
    "transformer": train_tokenizer.pairs,
}


def assert_transformers_agrees(name, tokenizer, folder, texts):
    config = dataclasses.replace(tiny.TABLE[name].config, vocab_size=tokenizer.get_vocab_size())
    architecture = tiny.TABLE[name].architecture
    cls = architecture.ElectraGenerator if name == "electra" else architecture.Model
    model = cls(config)
    zoo.export(Loaded(model, tiny.wide(model), tokenizer), folder)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    again = tokenizers.load(folder)
    for text in texts:
        assert theirs(text).input_ids == tokenizer.encode(text).ids, text
        assert again.encode(text).ids == tokenizer.encode(text).ids, text
    pairs = theirs(texts, texts[::-1], return_token_type_ids=True)
    encodings = tokenizer.encode_batch(list(zip(texts, texts[::-1], strict=True)))
    assert [e.ids for e in encodings] == pairs.input_ids
    assert [e.type_ids for e in encodings] == pairs.token_type_ids
    assert len(theirs) == tokenizer.get_vocab_size()


@pytest.fixture(scope="module")
def corpus():
    return [document[:3000] for document in builtin.documents()[:60]] + TEXTS[:4]


@pytest.mark.parametrize("name", TRAINED)
def test_an_exported_tokenizer_gives_the_same_ids_in_transformers(name, corpus, tmp_path):
    tokenizer = TRAINED[name](corpus, 1000)
    assert_transformers_agrees(name, tokenizer, tmp_path, TEXTS + corpus[:5])
