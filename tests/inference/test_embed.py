"""Vectors of texts and of words in context, from word vectors and from encoders."""

import jax
import numpy as np
import pytest

import zoo
from tests import tiny
from tests.inference.tiny_words import VECTORS, by_hand, with_ngrams
from zoo.models import electra
from zoo.tokenizers import units

WORDS = by_hand()
VOCABULARY = ["<unk>", "</s>", *(f"w{number}" for number in range(2, tiny.V))]
TEXTS = ["w7 w8 w9", "w3", "w11 w12 w13 w14 w15 w16 w17 w18"]
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def encoder(name) -> zoo.Loaded:
    model = tiny.TABLE[name].model
    return zoo.Loaded(model, tiny.wide(model), units.words(VOCABULARY))


def expected_states(loaded, texts=TEXTS) -> list[np.ndarray]:
    """Return the output of the trunk for each text: [L, D]."""
    rows = [loaded.tokenizer.encode(text).ids for text in texts]
    tokens_BL, document_ids_BL = np.zeros((2, len(rows), max(map(len, rows))), np.int32)
    for number, row in enumerate(rows):
        tokens_BL[number, : len(row)], document_ids_BL[number, : len(row)] = row, 1
    run = lambda model: model.trunk.read(tokens_BL, None, document_ids_BL)
    x_BLD = jax.jit(lambda params: loaded.model.apply({"params": params}, method=run))(
        loaded.params
    )
    return [np.asarray(x_LD)[: len(row)] for x_LD, row in zip(x_BLD, rows, strict=True)]


# Word vectors


def test_a_text_is_the_mean_of_its_known_words():
    mean = np.mean([VECTORS["king"], VECTORS["bank"]], 0)
    np.testing.assert_allclose(zoo.embed(WORDS, "king  unheard\nbank nothing"), mean, atol=1e-6)
    np.testing.assert_allclose(zoo.embed(WORDS, "King BANK"), mean, atol=1e-6)
    assert zoo.embed(WORDS, ["king", "bank king"]).shape == (2, 3)
    assert zoo.embed(WORDS, []).shape == (0, 3)


def test_words_are_pooled_in_other_ways_too():
    text = "king bank"
    np.testing.assert_allclose(zoo.embed(WORDS, text, "first"), VECTORS["king"])
    np.testing.assert_allclose(zoo.embed(WORDS, text, "last"), VECTORS["bank"])
    np.testing.assert_allclose(zoo.embed(WORDS, text, "max"), [1.0, 1.0, 2.0])
    with pytest.raises(ValueError, match="unknown pooling 'sum': use one of mean, first, last"):
        zoo.embed(WORDS, text, "sum")


def test_a_text_without_a_known_word_is_refused():
    with pytest.raises(ValueError, match="the text 'un heard' has no word of the vocabulary"):
        zoo.embed(WORDS, "un heard")
    with pytest.raises(ValueError, match="the text '' has no word"):
        zoo.embed(WORDS, "")
    with pytest.raises(ValueError, match="Word2Vec has one vector per word, not layers"):
        zoo.embed(WORDS, "king", layer=1)


def test_fasttext_composes_the_unknown_words_of_a_text():
    loaded = with_ngrams()
    words, ids = ["bank", "unheard"], np.array([5, -1])
    expected = loaded.model.word_vectors(loaded.params, words, ids)
    np.testing.assert_allclose(zoo.embed(loaded, "bank unheard"), expected.mean(0), atol=1e-6)
    np.testing.assert_allclose(zoo.embed_words(loaded, "bank unheard"), expected, atol=1e-6)


def test_words_have_the_same_vector_in_every_context():
    x_WD, y_WD = zoo.embed_words(WORDS, ["king unheard bank", "bank"])
    np.testing.assert_allclose(x_WD, [VECTORS["king"], (0, 0, 0), VECTORS["bank"]])
    np.testing.assert_allclose(y_WD, [VECTORS["bank"]])


# Encoders


@pytest.mark.parametrize("name", ["bert", "rnn", "electra"])
def test_the_real_tokens_of_each_text_are_pooled(name):
    loaded = encoder(name)
    part = loaded
    if name == "electra":  # the discriminator of the joint model
        cls = electra.ElectraDiscriminator
        config, params = loaded.model.part(cls, loaded.model.config, loaded.params)
        part = zoo.Loaded(cls(config), params, loaded.tokenizer)
    states, options = expected_states(part), {"batch_size": 2}
    pools = {
        "mean": lambda x_LD: x_LD.mean(0),
        "first": lambda x_LD: x_LD[0],
        "last": lambda x_LD: x_LD[-1],
        "max": lambda x_LD: x_LD.max(0),
    }
    for pooling, pool in pools.items():
        x_ND = zoo.embed(loaded, TEXTS, pooling, **options)
        np.testing.assert_allclose(x_ND, [pool(x_LD) for x_LD in states], **TOLERANCE)
    for x_WD, x_LD in zip(zoo.embed_words(loaded, TEXTS, **options), states, strict=True):
        np.testing.assert_allclose(x_WD, x_LD, **TOLERANCE)
    assert zoo.embed(loaded, TEXTS[0]).shape == (loaded.model.config.width,)


def test_a_layer_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="the model has no layer 9: use 0, the embeddings, to 2"):
        zoo.embed(encoder("bert"), TEXTS[0], layer=9)
    with pytest.raises(ValueError, match="RNNLM offers the hidden states of its last layer only"):
        zoo.embed(encoder("rnn"), TEXTS[0], layer=1)


@pytest.mark.parametrize("name", ["seq2seq", "luong", "fixed_window"])
def test_models_without_an_encoder_are_refused(name):
    with pytest.raises(ValueError, match="has no encoder with one vector per token"):
        zoo.embed(encoder(name), TEXTS[0])


def test_a_long_text_is_truncated_with_a_warning_and_its_words_are_read_in_pieces():
    loaded = encoder("bert")
    max_length = loaded.model.config.max_length
    words = [f"w{2 + number % 50}" for number in range(max_length + 9)]
    with pytest.warns(UserWarning, match=rf"longer than the {max_length} tokens .* 9 tokens"):
        x_D = zoo.embed(loaded, " ".join(words))
    np.testing.assert_allclose(x_D, zoo.embed(loaded, " ".join(words[:max_length])), **TOLERANCE)
    x_WD = zoo.embed_words(loaded, " ".join(words))
    assert x_WD.shape == (len(words), loaded.model.config.width)
    assert x_WD.any(1).all()


def test_the_vector_of_a_word_is_the_mean_of_its_tokens():
    loaded = encoder("bert")
    letters = zoo.Loaded(
        loaded.model, loaded.params, units.characters(["<unk>", "</s>", "a", "b", "c", " "])
    )
    (x_LD,) = expected_states(letters, ["abc a cb"])
    x_WD = zoo.embed_words(letters, " abc a  cb")
    expected = [x_LD[:3].mean(0), x_LD[3:5].mean(0), x_LD[5:].mean(0)]  # blanks lead their words
    np.testing.assert_allclose(x_WD, expected, **TOLERANCE)
