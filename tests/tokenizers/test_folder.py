"""Tokenizers loaded from published files give the published ids."""

import json
import os
import re
import shutil
import struct
import unicodedata
from pathlib import Path

import pytest

from train.data import train_tokenizer as trained
from train.data.sources import builtin
from zoo import tokenizers
from zoo.tokenizers import published

TRICKY = [
    "Hello world! It's 1,999 or 20, isn't it?",
    "``quoted'' text, “curly” (brackets) \u2013 and dashes - here.",
    "naïve café ÀÉÎ ﬁne ½ ①  two  spaces\tand\ttabs\n\nlines  ",
    "日本語 and Ελληνικά, emoji 🙂, zero\u200bwidth, nb\u00a0space",
    "<cls> [CLS] <|endoftext|> <mask> </s>",
    "",
    "   ",
]


@pytest.fixture(scope="module")
def texts():
    return [document[:3000] for document in builtin.documents()[:150]]


@pytest.fixture(scope="module")
def data():
    folder = os.environ.get("ZOO_DATA")
    if not folder:
        pytest.skip("ZOO_DATA names no folder with published vocabularies")
    return Path(folder)


def copy_files(source: Path, folder: Path, **names) -> Path:
    for name, file in names.items():
        shutil.copy(source / file, folder / name.replace("__", "."))
    return folder


def ids(tokenizer, texts):
    return [encoding.ids for encoding in tokenizer.encode_batch(texts)]


# Byte-level BPE


def test_gpt2_files_give_the_ids_of_transformers(texts, tmp_path):
    transformers = pytest.importorskip("transformers")
    trained.byte_level_bpe(texts, 600).model.save(str(tmp_path))
    theirs = transformers.GPT2TokenizerFast.from_pretrained(tmp_path)
    assert (
        ids(tokenizers.load(tmp_path), texts + TRICKY[:4]) == theirs(texts + TRICKY[:4]).input_ids
    )


def test_gpt2s_own_files_give_the_published_ids(data, tmp_path):
    tokenizer = tokenizers.load(
        copy_files(
            data / "vocab_gpt2", tmp_path, encoder__json="encoder.json", vocab__bpe="vocab.bpe"
        )
    )
    assert tokenizer.get_vocab_size() == 50257
    assert tokenizer.encode("Hello world").ids == [15496, 995]
    assert tokenizer.encode(" Hello world<|endoftext|>").ids == [18435, 995, 50256]


def test_robertas_own_files_give_the_published_ids(data, tmp_path):
    copy_files(data / "vocab_roberta", tmp_path, vocab__json="vocab.json")
    copy_files(data / "vocab_gpt2", tmp_path, merges__txt="vocab.bpe")  # the merges are GPT-2's
    tokenizer = tokenizers.load(tmp_path)
    assert tokenizer.get_vocab_size() == 50265
    assert tokenizer.encode("Hello world!").ids == [0, 31414, 232, 328, 2]
    assert tokenizer.encode("Hello<mask>").ids == [0, 31414, 50264, 2]
    pair = tokenizer.encode("Hello", "Hello")
    assert pair.ids == [0, 31414, 2, 2, 31414, 2]
    assert not any(pair.type_ids)


def test_gpt_files_give_the_ids_and_texts_of_transformers(texts, tmp_path):
    transformers = pytest.importorskip("transformers")
    trained.end_of_word_bpe(texts, 900).model.save(str(tmp_path))
    theirs = transformers.OpenAIGPTTokenizer.from_pretrained(tmp_path)
    ours = tokenizers.load(tmp_path)
    many = [*texts, *TRICKY]
    expected = theirs(many).input_ids
    assert ids(ours, many) == expected
    decoded = [ours.decode(row, skip_special_tokens=False) for row in expected]
    assert decoded == [theirs.decode(row) for row in expected]


def test_gpts_own_files_give_the_ids_of_transformers(data, texts, tmp_path):
    transformers = pytest.importorskip("transformers")
    released = {"encoder_bpe_40000__json": "encoder_bpe_40000.json"}
    released["vocab_40000__bpe"] = "vocab_40000.bpe"
    (tmp_path / "released").mkdir()
    ours = tokenizers.load(copy_files(data / "vocab_gpt1", tmp_path / "released", **released))
    copy_files(
        data / "vocab_gpt1",
        tmp_path,
        vocab__json="encoder_bpe_40000.json",
        merges__txt="vocab_40000.bpe",
    )
    assert tokenizers.fingerprint(tokenizers.load(tmp_path)) == tokenizers.fingerprint(ours)
    assert ours.get_vocab_size() == 40478
    tokens = ours.encode("Hello world! Isn't it Radford?").tokens
    assert tokens[:5] == ["hello</w>", "world</w>", "!</w>", "is", "n</w>"]
    theirs = transformers.OpenAIGPTTokenizer.from_pretrained(tmp_path)
    many = [*texts, *TRICKY]
    assert ids(ours, many) == theirs(many).input_ids


# WordPiece


@pytest.mark.parametrize("lowercase", [True, False])
def test_bert_files_give_the_ids_and_types_of_transformers(texts, tmp_path, lowercase):
    transformers = pytest.importorskip("transformers")
    trained.wordpiece(texts, 900, lowercase).model.save(str(tmp_path))
    theirs = transformers.BertTokenizerFast.from_pretrained(tmp_path, do_lower_case=lowercase)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lowercase}))
    ours = tokenizers.load(tmp_path)
    first = texts + TRICKY
    second = first[::-1]
    expected = theirs(first, second)
    encodings = ours.encode_batch(list(zip(first, second, strict=True)))
    assert [e.ids for e in encodings] == expected.input_ids
    assert [e.type_ids for e in encodings] == expected.token_type_ids
    assert ids(ours, first) == theirs(first).input_ids


@pytest.mark.parametrize(("kind", "expected"), [("cased", "Café"), ("uncased", "cafe")])
def test_a_bert_vocabulary_determines_whether_it_is_cased(data, tmp_path, kind, expected):
    folder = copy_files(data / "vocab_bert", tmp_path, vocab__txt=f"bert-base-{kind}-vocab.txt")
    tokenizer = tokenizers.load(folder)
    assert tokenizer.encode("Café", add_special_tokens=False).tokens[0] == expected
    assert tokenizer.token_to_id("[CLS]") == 101


def test_berts_own_files_give_the_published_ids(data, tmp_path):
    folder = copy_files(data / "vocab_bert", tmp_path, vocab__txt="bert-base-uncased-vocab.txt")
    assert tokenizers.load(folder).encode("Hello world").ids == [101, 7592, 2088, 102]


# SentencePiece


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value) -> bytes:
    """Return a protobuf field: a message or text as bytes, an integer, or a float."""
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def spiece(pieces, kind: int = 1, charsmap: bytes = b"") -> bytes:
    """Return the bytes of a SentencePiece model with pieces (text, score, type)."""
    body = b"".join(
        field(1, field(1, text.encode()) + field(2, float(score)) + field(3, type))
        for text, score, type in pieces
    )
    return body + field(2, field(3, kind)) + field(3, field(1, b"identity") + field(2, charsmap))


def xlnet_pieces(texts) -> list[tuple]:
    """Return pieces like those of XLNet: control symbols, `<eop>` and user-defined punctuation."""
    learned = json.loads(trained.unigram(texts, 800).to_str())["model"]["vocab"][9:]
    user_defined = [".", "(", ")", '"', "-", "\u2013", "£", "€"]
    types = {"<unk>": 2, "<eop>": 4}
    specials = [(name, 0.0, types.get(name, 3)) for name in published.XLNET_SPECIALS]
    # No learned piece contains a user-defined symbol.
    learned = [(text, score, 1) for text, score in learned if not set(user_defined) & set(text)]
    return [*specials, *((symbol, 0.0, 4) for symbol in user_defined), *learned, ("▁1,", -3.0, 1)]


def xlnet_reference(model: bytes, text: str) -> list[int]:
    """Run `preprocess_text` and `encode_pieces` of XLNet and ALBERT with SentencePiece itself."""
    sentencepiece = pytest.importorskip("sentencepiece")
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    text = " ".join(text.split()).replace("``", '"').replace("''", '"')
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    pieces = []
    for piece in processor.encode(text, out_type=str):
        if re.search(r"\d,$", piece):
            pieces_again = processor.encode(piece[:-1].replace("▁", ""), out_type=str)
            if not piece.startswith("▁") and pieces_again[0].startswith("▁"):
                pieces_again[0] = pieces_again[0][1:]
            pieces += [p for p in pieces_again if p] + [","]
        else:
            pieces.append(piece)
    return [processor.piece_to_id(piece) for piece in pieces]


def test_an_xlnet_model_gives_the_ids_of_sentencepiece(texts, tmp_path):
    model = spiece(xlnet_pieces(texts))
    (tmp_path / "spiece.model").write_bytes(model)
    tokenizer = tokenizers.ordinary(tokenizers.load(tmp_path))
    for text in [*texts, *TRICKY[:3]]:
        expected = xlnet_reference(model, text)
        assert tokenizer.encode(text, add_special_tokens=False).ids == expected


def test_an_xlnet_model_gives_the_ids_and_types_of_transformers(texts, tmp_path):
    transformers = pytest.importorskip("transformers")
    # transformers has neither the rule for commas after numbers nor that for user-defined pieces.
    pieces = [p for p in xlnet_pieces(texts) if p[2] != 4 and not re.search(r"\d,$", p[0])]
    (tmp_path / "spiece.model").write_bytes(spiece(pieces))
    theirs = transformers.XLNetTokenizerFast.from_pretrained(tmp_path)
    first = [*texts, *TRICKY[:4]]
    second = first[::-1]
    expected = theirs(first, second, return_token_type_ids=True)
    encodings = tokenizers.load(tmp_path).encode_batch(list(zip(first, second, strict=True)))
    assert [e.ids for e in encodings] == expected.input_ids
    assert [e.type_ids for e in encodings] == expected.token_type_ids


def test_xlnet_lowercases_and_keeps_accents_by_its_config(texts, tmp_path):
    (tmp_path / "spiece.model").write_bytes(spiece(xlnet_pieces(texts)))
    for config, expected in [
        ({}, "Eclair"),
        ({"do_lower_case": True}, "eclair"),
        ({"keep_accents": True}, "Éclair"),
    ]:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        assert tokenizers.load(tmp_path).normalizer.normalize_str("Éclair") == expected


def test_alberts_model_gives_the_ids_of_its_released_code(data, texts, tmp_path):
    folder = copy_files(data / "vocab_albert", tmp_path, spiece__model="spiece.model")
    tokenizer = tokenizers.load(folder)
    model = (folder / "spiece.model").read_bytes()
    lines = [line for text in texts for line in text.split("\n")][:600]
    ours = [e.ids for e in tokenizer.encode_batch(lines, add_special_tokens=False)]
    theirs = [xlnet_reference(model, line.lower()) for line in lines]
    assert sum(a != b for a, b in zip(ours, theirs, strict=True)) < 0.005 * len(lines)
    pair = tokenizer.encode("Hello", "world")
    assert pair.tokens == ["[CLS]", "▁hello", "[SEP]", "▁world", "[SEP]"]
    assert pair.type_ids == [0, 0, 0, 1, 1]
    specials = published.ALBERT_SPECIALS
    assert [tokenizer.token_to_id(name) for name in specials] == list(range(5))


def test_t5s_published_model_gives_the_ids_of_sentencepiece(data, texts, tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = copy_files(data / "vocab_t5", tmp_path, spiece__model="spiece.model")
    tokenizer = tokenizers.ordinary(tokenizers.load(folder))
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    lines = [line for text in [*texts, *TRICKY] for line in text.split("\n")]
    ours = [e.ids for e in tokenizer.encode_batch(lines, add_special_tokens=False)]
    # SentencePiece sums scores in single precision, so that it may choose the other one of two
    # equally good segmentations, as in a row of asterisks.
    score = lambda ids: sum(processor.get_score(i) for i in ids)
    theirs = processor.encode(lines)
    differ = [(a, b) for a, b in zip(ours, theirs, strict=True) if a != b]
    assert all(abs(score(a) - score(b)) < 1e-6 * abs(score(a)) for a, b in differ)
    assert len(differ) < 0.005 * len(lines)


def test_t5s_model_gives_the_published_ids(data, tmp_path):
    folder = copy_files(data / "vocab_t5", tmp_path, spiece__model="spiece.model")
    ids = tokenizers.load(folder).encode("Summary of the text.").ids
    assert ids == [20698, 13, 8, 1499, 5]
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer"}')
    tokenizer = tokenizers.load(folder)
    assert tokenizer.encode("Summary of the<extra_id_0>").ids == [20698, 13, 8, 32099, 1]
    assert tokenizer.token_to_id("<extra_id_99>") == 32000


@pytest.fixture(scope="module")
def marian(texts, tmp_path_factory):
    """Return a folder like those of Marian, and texts for each side."""
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("marian")
    lines = [line for text in texts[:30] for line in text.split("\n")]
    lines = [
        line for line in lines if not re.search(r"(\W)\1\1", line)
    ]  # with more than one best segmentation
    sides = {"source": lines[::2], "target": [*lines[1::2], *["Mädchen und Straße"] * 9]}
    vocabulary = {"</s>": 0, "<unk>": 1}
    for size, (side, lines_of_side) in zip((500, 400), sides.items(), strict=True):
        with (folder / f"{side}.spm").open("wb") as file:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(lines_of_side),
                model_writer=file,
                vocab_size=size,
                character_coverage=1.0,
                num_threads=1,
                minloglevel=2,
            )
        processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{side}.spm"))
        for number in range(3, size):  # after <unk>, <s>, </s>
            vocabulary.setdefault(processor.id_to_piece(number), len(vocabulary))
    for name in (">>deu<<", "<pad>"):
        vocabulary[name] = len(vocabulary)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    (folder / "tokenizer_config.json").write_text('{"source_lang": "en", "target_lang": "de"}')
    return folder, [*sides["source"][:200], *TRICKY], [*sides["target"][-200:], *TRICKY]


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_marians_folder_gives_the_ids_and_texts_of_transformers(marian):
    transformers = pytest.importorskip("transformers")
    folder, sources, targets = marian
    theirs = transformers.MarianTokenizer.from_pretrained(folder)
    ours = tokenizers.load(folder)
    # Letters of the other side only; letters in neither vocabulary.
    sources = [*sources, "eine Straße", ">>deu<< one two", "☃", "5 日本 6"]
    end = ours.token_to_id("</s>")
    assert [[*row, end] for row in ids(ours.source, sources)] == theirs(sources).input_ids
    expected = theirs(text_target=targets, add_special_tokens=False).input_ids
    assert ids(ours.target, targets) == expected
    unknown = ours.token_to_id("<unk>")
    for row in (row for row in [*expected, *ids(ours.source, sources)] if unknown not in row):
        assert ours.decode(row, skip_special_tokens=False) == theirs.decode(row)
    pieces = [[number] for number in range(ours.get_vocab_size()) if number != unknown]
    decoded = [ours.decode(piece, skip_special_tokens=False).strip() for piece in pieces]
    assert decoded == [theirs.decode(piece) for piece in pieces]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (spiece([("<unk>", 0, 2), ("a", -1, 1)], kind=2), "byte-pair"),
        (spiece([("<unk>", 0, 2), ("a", -1, 1)])[:-30], "truncated"),
        (b"<html>not found</html>", "not a SentencePiece model"),
        (b"", "not a SentencePiece model"),
        (spiece([("<unk>", 0, 2)]) + field(2, field(35, 1)), "byte fallback"),
        (spiece([("<unk>", 0, 2)]) + field(3, field(4, 0)), "spaces"),
    ],
)
def test_an_unsupported_sentencepiece_model_is_an_error_of_one_line(tmp_path, model, reason):
    (tmp_path / "spiece.model").write_bytes(model)
    with pytest.raises(ValueError, match=reason) as error:
        tokenizers.load(tmp_path)
    assert "\n" not in str(error.value)


# All kinds


@pytest.fixture(scope="module", params=["byte_level_bpe", "wordpiece", "unigram"])
def tokenizer(request, texts):
    return getattr(trained, request.param)(texts, 700)


def test_a_saved_tokenizer_is_loaded_unchanged(tokenizer, texts, tmp_path):
    tokenizers.save(tokenizer, tmp_path)
    loaded = tokenizers.load(tmp_path)
    assert ids(loaded, texts) == ids(tokenizer, texts)
    assert tokenizers.fingerprint(loaded) == tokenizers.fingerprint(tokenizer)
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer.json"]


def test_the_fingerprint_distinguishes_tokenizers(tokenizer, texts):
    other_tokenizer = trained.byte_level_bpe(texts, 701)
    assert tokenizers.fingerprint(other_tokenizer) != tokenizers.fingerprint(tokenizer)


def test_truncation_and_padding_of_a_published_file_are_removed(tokenizer, tmp_path):
    fingerprint = tokenizers.fingerprint(tokenizer)
    truncating = type(tokenizer).from_str(tokenizer.to_str())
    truncating.enable_truncation(3)
    truncating.enable_padding()
    assert tokenizers.fingerprint(truncating) == fingerprint
    tokenizers.save(truncating, tmp_path)
    assert len(tokenizers.load(tmp_path).encode("one two three four five six").ids) > 3


def test_special_tokens_in_a_text_can_be_encoded_as_ordinary_text(tokenizer):
    special = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    names = [tokenizer.id_to_token(i) for i in special]
    text = "a " + " b ".join(names) + " c".join(names)
    unknown = {tokenizer.token_to_id("[UNK]"), tokenizer.token_to_id("<unk>")}
    assert special & set(tokenizer.encode(text, add_special_tokens=False).ids)
    ids = tokenizers.ordinary(tokenizer).encode(text, add_special_tokens=False).ids
    assert not (special - unknown) & set(ids)


def test_the_error_for_a_folder_without_a_tokenizer_lists_the_expected_files(tmp_path):
    for name in ("tokenizer.bin", "tokenizer.pkl", "vocab.pt", "vocab.json"):
        (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch pickle_was_run'\ntR.")
    with pytest.raises(FileNotFoundError, match=r"looked for tokenizer.json, vocab.txt"):
        tokenizers.load(tmp_path)
    assert not Path("pickle_was_run").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [("tokenizer.json", '{"version": "1.0", "model": {'), ("vocab.txt", "one\ntwo\n")],
)
def test_a_damaged_tokenizer_is_an_error_of_one_line(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=name) as error:
        tokenizers.load(tmp_path)
    assert "\n" not in str(error.value)
