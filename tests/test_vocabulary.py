"""A longer vocabulary: new words are one token each, and nothing changes for the old ones."""

import string

import jax
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

import zoo
from tests import tiny
from train.data import train_tokenizer
from train.data.sources import builtin
from zoo import tokenizers
from zoo.checkpoints.load import Loaded
from zoo.models import rnn
from zoo.params import flatten
from zoo.tokenizers import Sides, published, units
from zoo.vocabulary import with_tokenizer

ARRAYS = {
    "fixed_window": 3,
    "flair": 6,
    "rnn": 3,
    "seq2seq": 4,
    "bahdanau": 4,
    "luong": 4,
    "bytenet": 3,
    "bytenet_translator": 4,
    "wavenet": 4,
    "gpt": 1,
    "gpt2": 1,
    "gpt3": 1,
    "gpt_neo": 1,
    "t5": 1,
}  # others: 2
LETTERS = string.ascii_lowercase


def spelled() -> Tokenizer:
    """57 entries: a word is spelled letter by letter."""
    names = [*published.BERT_SPECIALS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = published.wordpiece(models.WordPiece(vocabulary, unk_token="[UNK]"), True)
    published.add_bert_specials(tokenizer)
    return tokenizer


def loaded(name) -> Loaded:
    model = tiny.TABLE[name].model
    return Loaded(model, tiny.wide(model), spelled())


def vocabulary_arrays(before: dict, after: dict) -> list[str]:
    return [path for path in before if before[path].shape != after[path].shape]


@pytest.mark.parametrize("name", tiny.TABLE)
def test_old_outputs_stay_and_new_rows_are_means_of_pieces(name):
    row, start = tiny.TABLE[name], loaded(name)
    words = ["abc", "Zebra", "lemma", "word", "quick", "fox"]
    longer = zoo.extend_vocabulary(start, words)
    assert longer.model.config.vocab_size == 63  # four of six have spare rows
    before, after = flatten(start.params), flatten(longer.params)
    changed = vocabulary_arrays(before, after)
    assert len(changed) == ARRAYS.get(name, 2)
    for path, array in before.items():
        if path not in changed:
            assert np.array_equal(array, after[path]), path
            continue
        axis = array.shape.index(tiny.V)
        rows, longer_rows = (np.moveaxis(np.asarray(x), axis, 0) for x in (array, after[path]))
        assert np.array_equal(rows[:57], longer_rows[:57]), path
        for number, word in enumerate(words, 57):
            assert longer.tokenizer.encode(word, add_special_tokens=False).ids == [number]
            pieces = start.tokenizer.encode(word, add_special_tokens=False).ids
            np.testing.assert_allclose(longer_rows[number], rows[pieces].mean(0), atol=1e-6)
    tokens = row.inputs[0] % 57
    more = {key: np.asarray(x) % 57 if "targets" in key else x for key, x in row.more.items()}
    old = tiny.logits(start.model.apply({"params": start.params}, tokens, **more))
    new = tiny.logits(longer.model.apply({"params": longer.params}, tokens, **more))
    assert np.array_equal(old[..., :57], new[..., :57])


def test_random_rows_are_those_of_a_new_model():
    start = loaded("bert")
    one, other = (
        zoo.extend_vocabulary(start, ["abc"], init="random", key=jax.random.key(n)) for n in (1, 2)
    )
    path = "trunk/token_embedding/embedding"
    rows = [flatten(x.params)[path] for x in (start, one, other)]
    assert np.array_equal(rows[0][:57], rows[1][:57])
    assert np.array_equal(rows[0][58:], rows[1][58:])
    assert 0 < np.abs(rows[1][57]).max() <= 2 * 0.02
    assert not np.array_equal(rows[1][57], rows[2][57])
    assert flatten(one.params)["masked_head/bias"][57] == 0


def test_words_that_are_known_are_left_out_with_a_warning():
    start = loaded("gpt2")
    with pytest.warns(UserWarning, match=r"^already in the vocabulary and left out: a, \[MASK\]$"):
        longer = zoo.extend_vocabulary(start, ["a", "[MASK]"])
    assert longer.model.config == start.model.config
    assert longer.tokenizer.to_str() == start.tokenizer.to_str()
    once = zoo.extend_vocabulary(start, ["Abc", "abc"])
    assert once.tokenizer.get_vocab_size() == 58
    with pytest.warns(UserWarning, match=r"left out: ABC"):
        again = zoo.extend_vocabulary(once, ["ABC"])
    assert again.tokenizer.to_str() == once.tokenizer.to_str()


def test_what_cannot_be_added_is_one_line():
    start = loaded("gpt2")
    with pytest.raises(ValueError, match=r"^'New York' cannot be added .* words without spaces$"):
        zoo.extend_vocabulary(start, ["New York"])
    with pytest.raises(ValueError, match=r"^'\\u200d' cannot be added to the vocabulary"):
        zoo.extend_vocabulary(start, ["\u200d"])  # removed by the normalizer
    with pytest.raises(ValueError, match="needs a key"):
        zoo.extend_vocabulary(start, ["abc"], init="random")
    with pytest.raises(ValueError, match="must be 'mean' or 'random', not 'zero'"):
        zoo.extend_vocabulary(start, ["abc"], init="zero")
    with pytest.raises(ValueError, match="not one string"):
        zoo.extend_vocabulary(start, "abc")
    with pytest.raises(ValueError, match="has no tokenizer"):
        zoo.extend_vocabulary(start._replace(tokenizer=None), ["abc"])


def characters(letters: str) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({x: i for i, x in enumerate(["?", *letters])}, "?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return tokenizer


def test_separate_vocabularies_grow_by_their_own_ids():
    model = tiny.TABLE["luong"].model
    sides = Sides(characters("abcdef"), characters("abc"))
    start = Loaded(model, tiny.wide(model), sides)
    longer = zoo.extend_vocabulary(start, ["cab"])
    assert longer.tokenizer.source.encode("cab").ids == [7]
    assert longer.tokenizer.target.encode("cab").ids == [4]
    before, after = flatten(start.params), flatten(longer.params)
    for path, number in (
        ("trunk/source_embedding/embedding", 7),
        ("trunk/target_embedding/embedding", 4),
        ("head/embedding", 4),
    ):
        mean = before[path][np.array([3, 1, 2])].mean(0)
        np.testing.assert_allclose(after[path][number], mean, atol=1e-6)
        others = np.arange(tiny.V) != number
        assert np.array_equal(after[path][others], before[path][others])


def test_one_table_for_two_sides_needs_equal_ids():
    model = tiny.TABLE["transformer"].model
    equal = Sides(characters("abcdef"), characters("fedcba"))
    longer = zoo.extend_vocabulary(Loaded(model, tiny.wide(model), equal), ["cab"])
    before, after = (
        flatten(x)["trunk/token_embedding/embedding"] for x in (tiny.wide(model), longer.params)
    )
    rows = before[np.array([3, 1, 2, 4, 6, 5])]  # of both sides
    np.testing.assert_allclose(after[7], rows.mean(0), atol=1e-6)
    unequal = Sides(characters("abcdef"), characters("abc"))
    with pytest.raises(ValueError, match="one embedding table, but would give the new words diff"):
        zoo.extend_vocabulary(Loaded(model, tiny.wide(model), unequal), ["cab"])


def test_rows_of_a_padded_vocabulary_are_used_first():
    longer = zoo.extend_vocabulary(loaded("bert"), ["abc", "fox"])
    assert longer.model.config.vocab_size == tiny.V
    assert with_tokenizer(longer, longer.tokenizer).model.config.vocab_size == tiny.V


FAMILIES = {
    "bert": lambda texts: train_tokenizer.wordpiece(texts, 900),
    "cased": lambda texts: train_tokenizer.wordpiece(texts, 900, False),
    "gpt2": lambda texts: train_tokenizer.byte_level_bpe(texts, 600),
    "roberta": lambda texts: train_tokenizer.roberta(texts, 600),
    "xlnet": lambda texts: train_tokenizer.unigram(texts, 600),
    "albert": lambda texts: train_tokenizer.albert(texts, 600),
    "t5": lambda texts: train_tokenizer.t5(texts, 800),
    "marian": lambda texts: train_tokenizer.pairs(texts, 600),
}
WORDS = ["Zolgensma", "COVID", "Ångström", "C++", "コロナ"]
PLAIN = "The quick Angle (covids, in 1999) of <mask> [MASK] and Zolgensmas, isn't it?"
TEXT = "the COVID and (Zolgensma) of Ångström."


@pytest.fixture(scope="module")
def texts():
    return [document[:3000] for document in builtin.documents()[:60]]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_word_is_one_new_id_in_any_text_and_other_texts_stay(family, texts):
    old = FAMILIES[family](texts)
    new = tokenizers.add_words(old, WORDS)
    size = old.get_vocab_size()
    ids = [new.encode(word, add_special_tokens=False).ids for word in WORDS]
    assert ids == [[size + n] for n in range(len(WORDS))]
    assert tokenizers.known_words(new, WORDS) == WORDS
    for document in [*texts[:5], PLAIN]:
        assert new.encode(document).ids == old.encode(document).ids
    actual = new.encode(TEXT).ids
    assert [x for x in actual if x >= size] == [size + 1, size, size + 2]
    assert (size + 4) in new.encode("新しいコロナの").ids
    lower = new.encode("covid").ids
    assert ((size + 1) in lower) == (family in ("bert", "albert"))
    again = Tokenizer.from_str(new.to_str())
    assert again.encode(TEXT).ids == actual
    # Spaces come back; around punctuation, they may be more than there were.
    decoded = again.decode(actual, skip_special_tokens=True).replace(" ", "")
    expected = old.decode(old.encode("the and").ids, skip_special_tokens=True)
    assert again.decode(new.encode("the COVID and").ids, skip_special_tokens=True).split() == [
        expected.split()[0],
        *new.id_to_token(size + 1).split(),
        *expected.split()[1:],
    ]
    if family in ("gpt2", "roberta"):
        assert again.decode(actual, skip_special_tokens=True) == TEXT
    assert "Zolgensma".lower() in decoded.lower()


def test_a_folder_keeps_its_longer_vocabulary(tmp_path):
    longer = zoo.extend_vocabulary(loaded("bert"), ["abc", "lemma", "word", "quick", "fox"])
    zoo.save(longer, tmp_path)
    model, params, tokenizer = zoo.load(tmp_path)
    assert model.config.vocab_size == 62
    assert tokenizer.encode("a fox").ids == longer.tokenizer.encode("a fox").ids
    assert np.array_equal(
        params["trunk"]["token_embedding"]["embedding"],
        longer.params["trunk"]["token_embedding"]["embedding"],
    )


def test_a_new_word_of_a_vocabulary_of_words_is_found_in_no_other_word():
    tokenizer = units.words(["<unk>", "</s>", "film-maker", "a"])
    longer = tokenizers.add_words(tokenizer, ["maker", "-"])
    assert longer.encode("a film-maker - maker").ids == [3, 2, 5, 4]


def test_a_word_that_was_unknown_gets_the_mean_of_all_rows():
    tokenizer = units.words(["<unk>", "</s>", "a", "b"])
    config = rnn.Config(vocab_size=4, num_layers=1, width=3, embed_width=3, dropout=0.0)
    model = rnn.RNNLM(config)
    params = model.init(jax.random.key(0), np.zeros((1, 8), np.int32))["params"]
    extended = zoo.extend_vocabulary(zoo.Loaded(model, params, tokenizer), ["new"])
    table = np.asarray(extended.params["trunk"]["token_embedding"]["embedding"])
    np.testing.assert_allclose(table[4], table[:4].mean(0), rtol=1e-6)
    np.testing.assert_array_equal(table[:4], params["trunk"]["token_embedding"]["embedding"])
