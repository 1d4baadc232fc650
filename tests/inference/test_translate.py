"""Translation of texts, and its metrics."""

import jax
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

import zoo
from tests import tiny
from train.data import train_tokenizer
from train.data.corpus import prepare
from train.data.sources import dates
from train.metrics import translation
from zoo import tokenizers
from zoo.checkpoints import model_folder
from zoo.checkpoints.load import Loaded
from zoo.inference import translate
from zoo.layers import seq2seq_attention
from zoo.models import seq2seq

WORDS = ["<pad>", "</s>", "<unk>", *(f"w{number}" for number in range(tiny.V - 3))]
TEXTS = ["w1 w2 w3 w4 w5 w6 w7", "w9", "w4 w4 w2", "w30 w31 w32 w33 w1 w2"]


def tokenizer() -> Tokenizer:
    word_level = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "<unk>"))
    word_level.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return word_level


def model(name):
    row = tiny.TABLE[name]
    config = type(row.config)(**{**vars(row.config), "dropout": 0.0})
    network = row.architecture.Model(config)
    return network, tiny.wide(network), tokenizer()


@pytest.mark.parametrize(
    "name", ["seq2seq", "luong", "bahdanau", "bytenet_translator", "transformer", "t5"]
)
@pytest.mark.parametrize("beams", [1, 3])
def test_texts_keep_their_order_with_every_batch_size(name, beams):
    parts_of_model = model(name)
    in_batches = translate.translate(Loaded(*parts_of_model), TEXTS, beams=beams, batch_size=2)
    one_by_one = [
        translate.translate(Loaded(*parts_of_model), [text], beams=beams)[0] for text in TEXTS
    ]
    assert in_batches == one_by_one


def test_a_model_that_cannot_translate_and_an_empty_text_are_refused():
    with pytest.raises(ValueError, match="has no encoder"):
        translate.translate(Loaded(*model("gpt2")), TEXTS)
    with pytest.raises(ValueError, match="the text is empty"):
        translate.translate(Loaded(*model("luong")), ["w1", " "])
    with pytest.raises(ValueError, match="no tokenizer"):
        translate.translate(Loaded(*model("luong")[:2], None), TEXTS)


def test_a_beam_wider_than_the_vocabulary_is_refused():
    with pytest.raises(ValueError, match=f"the vocabulary of {tiny.V}"):
        translate.translate(Loaded(*model("luong")), TEXTS, beams=tiny.V + 1)


def test_dot_product_attention_needs_equal_widths():
    layer = seq2seq_attention.SourceAttention("dot", 8, 16)
    with pytest.raises(ValueError, match="use --config score=general or score=additive"):
        layer.init(jax.random.key(0), np.zeros((1, 3, 16)), method="project_keys_values")


def test_metrics_are_perfect_for_equal_texts_and_zero_without_common_words():
    texts = ["one two three four five", "six seven eight nine ten"]
    of_equal_texts = translation.score(texts, texts)
    assert all(value == pytest.approx(100, abs=0.01) for value in of_equal_texts.values())
    of_other_texts = translation.score(["a b c d e", "f g h i j"], texts)
    assert (
        of_other_texts["exact_match"] == of_other_texts["rouge1"] == of_other_texts["rougeL"] == 0
    )
    assert of_other_texts["bleu"] < 10
    with pytest.raises(ValueError, match="1 texts cannot be scored against 2"):
        translation.score(texts[:1], texts)


def test_groups_by_length_have_every_text_once():
    sources = ["word " * count for count in (3, 10, 11, 18, 40, 90)]
    groups = translation.by_length(sources, sources, sources)
    assert [(least, most, count) for least, most, count, _ in groups] == [
        (1, 10, 2),
        (11, 15, 1),
        (16, 20, 1),
        (31, 50, 1),
        (51, 90, 1),
    ]


@pytest.fixture(scope="module")
def two_vocabularies():
    """Return a vocabulary for dates in words, and one for dates in digits."""
    return train_tokenizer.separate(dates.read(400).documents(), 100)


def test_two_vocabularies_are_saved_and_loaded_as_one_file(two_vocabularies, tmp_path):
    tokenizers.save(two_vocabularies, tmp_path)
    loaded = tokenizers.load(tmp_path)
    assert isinstance(loaded, tokenizers.Sides)
    assert tokenizers.fingerprint(loaded) == tokenizers.fingerprint(two_vocabularies)
    assert loaded.encode("17 July 1920").ids == two_vocabularies.source.encode("17 July 1920").ids
    ids = two_vocabularies.target.encode("1920-07-17").ids
    assert ids != two_vocabularies.source.encode("1920-07-17").ids
    assert loaded.decode(ids, skip_special_tokens=False) == "1920-07-17"
    swapped = tokenizers.Sides(two_vocabularies.target, two_vocabularies.source)
    assert tokenizers.fingerprint(two_vocabularies) != tokenizers.fingerprint(swapped)


def test_a_model_with_two_vocabularies_is_saved_and_loaded(two_vocabularies, tmp_path):
    network = seq2seq.Model(
        seq2seq.Config(
            vocab_size=100, max_length=1 << 30, num_layers=1, width=8, dropout=0.0, embed_width=8
        )
    )
    params = tiny.wide(network)
    model_folder.write(tmp_path, "seq2seq", network.config, params, two_vocabularies)
    loaded = zoo.load(tmp_path)
    assert tokenizers.fingerprint(loaded.tokenizer) == tokenizers.fingerprint(two_vocabularies)
    before = translate.translate(Loaded(network, params, two_vocabularies), ["17 July 1920"])
    assert translate.translate(loaded, ["17 July 1920"]) == before


def test_each_side_of_a_pair_is_tokenized_with_its_own_vocabulary(two_vocabularies, tmp_path):
    source = dates.read(60)
    corpus = prepare.prepare(source, two_vocabularies, tmp_path, None)
    for number, text in enumerate(source.documents()):
        side = two_vocabularies.target if number % 2 else two_vocabularies.source
        start, stop = corpus.documents[number : number + 2]
        assert corpus.tokens[start:stop].tolist() == side.encode(text).ids
