"""Streams, stop strings and other options of text, with tokenizers of every kind of decoder."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import zoo
from tests import tiny
from zoo import registry
from zoo.checkpoints.load import Loaded
from zoo.inference.continuation import Continuation, word_ids
from zoo.inference.stream import _pieces

MODEL = tiny.TABLE["gpt2"].model
TEXT = "a\u00e9\u20ac\U0001f600 ab\n\ufffdc"


def bytes_tokenizer():
    """Return a tokenizer of single bytes: the characters of TEXT take one to four tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    values = sorted({*"abc", *_as_bytes(TEXT + " ")})
    names = ["</s>", *values, *(letter for letter in letters if letter not in values)]
    tokenizer = Tokenizer(models.BPE({name: i for i, name in enumerate(names[: tiny.V])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["</s>"])
    return tokenizer


def _as_bytes(text):
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return splitter.pre_tokenize_str(text)[0][0]


TOKENIZER = bytes_tokenizer()
LOADED = Loaded(MODEL, tiny.wide(MODEL), TOKENIZER)


def with_decoder(names, decoder):
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, names[0]))
    tokenizer.decoder = decoder
    return tokenizer, list(range(len(names)))


DECODERS = {
    "bytes": (TOKENIZER, TOKENIZER.encode(TEXT).ids),
    "metaspace": with_decoder(["\u2581a", "b", "\u2581c", "\u2581", "."], decoders.Metaspace()),
    "word pieces": with_decoder(["do", "n", "##o", "'", "t", "."], decoders.WordPiece()),
    "suffixes": with_decoder(["a</w>", "b", "c</w>", ".</w>"], decoders.BPEDecoder()),
    "fallback": with_decoder(
        ["a", "<0xE2>", "<0x82>", "<0xAC>", "<0xE2>b"],
        decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()]),
    ),
}


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("before", [0, 1])
def test_pieces_add_up_to_the_text(name, before):
    tokenizer, ids = DECODERS[name]
    for stop in ((), ("c",), (" c.", "b\n"), ("zz", "\u20ac")):
        continued = Continuation(tokenizer, ids[:before], stop)
        for size in range(len(ids) + 1):
            tokens = ids[before:size]
            assert "".join(_pieces(continued, iter(tokens))) == continued.until_stop(tokens)


def test_a_character_of_more_than_one_token_is_one_piece():
    pieces = list(_pieces(Continuation(TOKENIZER), iter(TOKENIZER.encode(TEXT).ids)))
    assert pieces == [*TEXT[:-2], TEXT[-2:]]  # a replacement character may be an incomplete one


def test_what_may_begin_a_stop_string_is_held_back():
    ids = TOKENIZER.encode("abaabc").ids
    assert list(_pieces(Continuation(TOKENIZER, (), ["aba", "bc"]), iter(ids))) == []
    assert list(_pieces(Continuation(TOKENIZER, (), ["abc"]), iter(ids))) == ["ab", "a"]
    assert list(_pieces(Continuation(TOKENIZER, (), ["abd"]), iter(ids))) == ["ab", "a", "abc"]


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"seed": 3, "repetition_penalty": 1.5}])
def test_a_stream_is_what_generate_returns(options):
    options = {"max_new_tokens": 27, **options}
    text = zoo.generate(LOADED, "ab", **options)
    assert "".join(zoo.stream(LOADED, "ab", **options)) == text
    stop = [text[20:22], "no such text"]
    stopped = zoo.generate(LOADED, "ab", stop=stop, **options)
    assert stopped == text[: text.index(stop[0])]
    assert "".join(zoo.stream(LOADED, "ab", stop=stop, **options)) == stopped


def test_every_row_ends_at_its_own_stop_string():
    prompts = ["a", "ab", "c", "ca", "bb", "ba"]
    options = {"max_new_tokens": 30, "seed": 1}
    texts = zoo.generate(LOADED, prompts, **options)
    stop = texts[0][4]
    stopped = zoo.generate(LOADED, prompts, stop=stop, **options)
    assert stopped == [text.split(stop)[0] for text in texts]
    assert len(set(map(len, stopped))) > 2


def test_an_end_of_the_text_ends_the_stream_too():
    ids = [TOKENIZER.token_to_id(letter) for letter in "abc"]
    never = [i for i in range(tiny.V) if i not in (0, *ids)]
    options = {"suppress_tokens": never, "max_new_tokens": 20, "temperature": 9.0}
    text = zoo.generate(LOADED, "a", **options)
    assert len(text) < 20
    assert "".join(zoo.stream(LOADED, "a", **options)) == text
    assert len(zoo.generate(LOADED, "a", min_new_tokens=20, **options)) == 20
    bad = zoo.generate(LOADED, "a", min_new_tokens=20, bad_words=["ab", "c"], **options)
    assert "ab" not in "a" + bad
    assert "c" not in bad
    assert {*bad} <= {*"ab"}


def test_words_are_banned_with_and_without_a_space_before():
    a, b, space = (TOKENIZER.token_to_id(name) for name in ("a", "b", "\u0120"))
    assert word_ids(TOKENIZER, "ab") == [[a, b], [space, a, b]]


def test_return_sequences_differ_and_are_lists():
    options = {"max_new_tokens": 8}
    three = zoo.generate(LOADED, "a", num_return_sequences=3, **options)
    assert len(set(three)) == 3
    both = zoo.generate(LOADED, ["a", "b"], num_return_sequences=2, **options)
    assert [len(row) for row in both] == [2, 2]
    assert zoo.generate(LOADED, "a", num_return_sequences=1, **options) == three[:1]
    assert three[0] == zoo.generate(LOADED, "a", **options)
    assert zoo.generate(LOADED, [], **options) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_return_sequences": 0}, "num_return_sequences must be an integer from 1"),
        ({"num_return_sequences": 2, "temperature": 0}, "all 2 sequences would be the same"),
        ({"stop": ["x", ""]}, "stop has an empty string"),
        ({"bad_words": ""}, "bad_words has an empty string"),
        ({"max_new_tokens": 0}, "max_new_tokens must be an integer from 1"),
    ],
)
def test_an_option_out_of_range_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        zoo.generate(LOADED, "a", **options)
    if "num_return_sequences" not in options:
        with pytest.raises(ValueError, match=message):  # before the first piece
            zoo.stream(LOADED, "a", **options)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("bert", "zoo fill-mask"),
        ("electra", "zoo fill-mask"),
        ("glove", "zoo neighbors"),
        ("elmo", "zoo score"),
    ],
)
def test_a_model_that_does_not_generate_names_a_command_for_it(name, command):
    architecture = registry.named(name)
    model = architecture.Model(next(iter(architecture.SIZES.values())))
    with pytest.raises(ValueError, match=f"does not generate text: use `{command}`, or a lang"):
        zoo.generate(Loaded(model, {}, TOKENIZER), "a")
