"""Attention weights of models of all kinds, by token and by word, and attention rollout."""

import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

import zoo
from tests import tiny
from zoo.checkpoints.load import Loaded
from zoo.inference import attention
from zoo.inference.attention import Attention, Word
from zoo.tokenizers import published

WORDS = ["<pad>", "</s>", "<unk>", "[CLS]", *(f"w{number}" for number in range(tiny.V - 4))]
WITH_ATTENTION = [name for name in tiny.TABLE if name in attention.with_attention()]


def tokenizer(specials: str = "$A") -> Tokenizer:
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing(
        single=specials, special_tokens=[("[CLS]", WORDS.index("[CLS]"))]
    )
    return words


def loaded(name: str, specials: str = "$A", **changes) -> Loaded:
    row = tiny.TABLE[name]
    config = type(row.config)(**{**vars(row.config), "dropout": 0.0, **changes})
    network = row.architecture.Model(config)
    return Loaded(network, tiny.wide(network), tokenizer(specials))


@pytest.mark.parametrize("name", WITH_ATTENTION)
def test_the_weights_of_every_query_sum_to_one(name):
    target = "w4 w5" if tiny.TABLE[name].sees == "source" else None
    layers = zoo.attention(loaded(name), "w1 w2 w3", target)
    assert layers
    for layer in layers:
        assert layer.weights.shape[1:] == (len(layer.rows), len(layer.columns))
        np.testing.assert_allclose(layer.weights.sum(-1), 1, rtol=1e-5)


def test_the_kinds_with_attention_are_those_that_sow_weights():
    assert set(WITH_ATTENTION) == set(tiny.TABLE) - {
        *("fixed_window", "rnn", "flair", "awd_lstm", "seq2seq", "wavenet", "bytenet"),
        "bytenet_translator",
    }
    assert not {"ngram", "word2vec", "elmo", "resnet"} & {*attention.with_attention()}
    with pytest.raises(ValueError, match="LM has no attention: use a model of one of bahdanau"):
        zoo.attention(loaded("seq2seq"), "w1", "w2")
    with pytest.raises(ValueError, match=r"use a model of one of .*transformer.*xlnet"):
        zoo.attention(loaded("rnn"), "w1")


@pytest.mark.parametrize("name", ["luong", "bahdanau", "transformer", "t5"])
def test_an_encoder_decoder_attends_on_each_side_and_to_its_source(name):
    layers = zoo.attention(loaded(name), "w1 w2 w3", "w4 w5")
    of_source = [layer for layer in layers if layer.side == "source"]
    assert of_source
    for layer in of_source:
        assert layer.rows == ["w4", "w5", "</s>"]
        assert layer.columns == ["w1", "w2", "w3", "</s>"]
    sides = {"source"} if name in ("luong", "bahdanau") else {"source", "encoder", "decoder"}
    assert {layer.side for layer in layers} == sides


def test_target_tokens_do_not_attend_to_later_ones():
    layers = zoo.attention(loaded("transformer"), "w1 w2", "w4 w5 w6")
    (own,) = [layer for layer in layers if layer.side == "decoder"]
    assert own.columns == ["<pad>", "w4", "w5", "w6"]
    assert own.rows == ["w4", "w5", "w6", "</s>"]
    assert (np.triu(own.weights[0], 1) == 0).all()


def test_without_a_target_the_output_of_the_model_attends():
    translator = loaded("luong")
    (layer,) = zoo.attention(translator, "w1 w2")
    assert "".join(layer.rows[:-1]) == zoo.translate(translator, "w1 w2", beams=1).replace(" ", "")


def test_a_backward_model_attends_to_what_follows():
    forward, backward = (
        zoo.attention(loaded("gpt2", direction=direction), "w1 w2 w3")[0].weights
        for direction in ("forward", "backward")
    )
    assert (np.triu(forward, 1) == 0).all()
    assert (np.tril(backward, -1) == 0).all()
    assert (np.triu(backward, 1) > 0).any()


def test_a_block_that_is_called_again_is_a_layer_again():
    layers = zoo.attention(loaded("albert"), "w1 w2")
    names = [f"blocks_{group}/attention, call {call}" for group in (0, 1) for call in (1, 2)]
    assert [layer.name for layer in layers] == names


def test_special_tokens_are_words_of_their_own():
    layer = zoo.attention(loaded("bert", "[CLS] $A [CLS]"), "w1 what w2")[0]
    assert layer.rows == ["[CLS]", "w1", "<unk>", "w2", "[CLS]"]
    assert layer.by_word().rows == ["[CLS]", "w1", "what", "w2", "[CLS]"]


def test_a_text_that_is_empty_or_too_long_and_a_target_of_no_decoder_are_refused():
    with pytest.raises(ValueError, match="the text is empty"):
        zoo.attention(loaded("bert", "[CLS] $A"), " ")
    with pytest.raises(ValueError, match="has 33 tokens, but the model supports at most 32"):
        zoo.attention(loaded("gpt2"), "w1 " * 33)
    with pytest.raises(ValueError, match="has no decoder"):
        zoo.attention(loaded("bert"), "w1", "w2")


def test_attention_between_words_sums_that_of_their_tokens():
    weights = np.array([[[0.1, 0.2, 0.7], [0.3, 0.5, 0.2], [0.0, 0.4, 0.6]]])
    words = [Word("ab", 2), Word("c", 1)]
    tokens = ["a", "b", "c"]
    by_word = Attention("attention", weights, tokens, tokens, words, words).by_word()
    assert by_word.rows == by_word.columns == ["ab", "c"]
    np.testing.assert_allclose(by_word.weights, [[[0.55, 0.45], [0.4, 0.6]]], rtol=1e-6)
    plain = Attention("attention", weights, tokens, tokens)
    assert plain.by_word() is plain


def test_words_are_joined_from_pieces_and_end_at_punctuation():
    pieces = [*"▁-123", "▁20", "26", "rd", "<unk>"]
    model = models.Unigram([(piece, -1.0) for piece in pieces], unk_id=len(pieces) - 1)
    text = "2026-12 23rd"
    encoding = published.unigram(model, normalizers.NFKC()).encode(text)
    words = attention._words(encoding, text)
    assert [word.text for word in words] == ["2026", "-", "12", "23rd"]
    assert [word.num_tokens for word in words][:3] == [2, 1, 2]


def test_rollout_multiplies_the_mean_of_each_layer_and_the_residual_connection():
    first, second = np.array([[[1.0, 0], [0.4, 0.6]], [[1, 0], [0.8, 0.2]]]), np.eye(2)[None]
    layers = [Attention("a", first, ["x", "y"], ["x", "y"])]
    layers.append(layers[0]._replace(name="b", weights=second))
    layers.append(layers[0]._replace(name="c", side="source"))
    (rolled,) = zoo.attention_rollout(layers)
    np.testing.assert_allclose(rolled.weights, [[[1, 0], [0.3, 0.7]]])
    uniform = layers[0]._replace(weights=np.full((1, 2, 2), 0.5))
    (rolled,) = zoo.attention_rollout([uniform, layers[0]])
    np.testing.assert_allclose(
        rolled.weights, [[[0.75, 0.25], [0.3 * 0.75 + 0.7 * 0.25, 0.3 * 0.25 + 0.7 * 0.75]]]
    )


def test_the_weights_are_those_that_the_layer_computes():
    bert = loaded("bert")
    layer = zoo.attention(bert, "w1 w2 w3")[0]
    params = bert.params["trunk"]["blocks_0"]["attention"]
    x_BLD = _embedded(bert, [WORDS.index(word) for word in ("w1", "w2", "w3")])
    q, k = (
        jnp.einsum("bld,dhk->bhlk", x_BLD, params[name]["kernel"]) + params[name]["bias"][:, None]
        for name in ("query", "key")
    )
    scores = jnp.einsum("bhlk,bhmk->bhlm", q, k) / 8**0.5
    expected = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    np.testing.assert_allclose(layer.weights, expected[0], atol=1e-5)


def _embedded(bert, ids):
    rows = [zoo.inference.batching.Row(ids, [0] * len(ids))]
    ((_, x_LD),) = zoo.inference.hidden_states.hidden_states(bert, rows, 0)
    return x_LD[None]
