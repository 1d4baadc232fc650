"""The probability of a text, by causal and masked models."""

import dataclasses

import jax
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import zoo
from tests import tiny
from tests.formats.test_arpa import BIGRAMS
from zoo.inference.score import next_tokens, score
from zoo.models import bert, elmo, wavenet
from zoo.tokenizers import mu_law, units

V = tiny.V
WORDS = [f"w{i}" for i in range(V - 4)]
TEXTS = ["w3 w10 w3 w7 w22", "w1", "w5 w6", "w8 w8 w8 w8 w8 w9 w10 w11 w12"]
TOKENIZER = units.words(["<unk>", "</s>", *WORDS, "a", "b"])
CAUSAL = ["fixed_window", "rnn", "awd_lstm", "flair", "gpt", "gpt2"]


def loaded(name, **config):
    row = tiny.TABLE[name]
    model = row.architecture.Model(dataclasses.replace(row.config, **config))
    return zoo.Loaded(model, tiny.wide(model), TOKENIZER)


def ids(text):
    return [1, *TOKENIZER.encode(text).ids]


@pytest.mark.parametrize("name", CAUSAL)
def test_a_text_has_the_product_of_the_probabilities_of_its_tokens(name):
    causal = loaded(name)
    for text, result in zip(TEXTS, score(causal, TEXTS), strict=True):
        expected = []
        for end in range(1, len(ids(text))):
            logits = tiny.logits(
                causal.model.apply({"params": causal.params}, np.array([ids(text)[:end]]))
            )
            expected.append(float(jax.nn.log_softmax(logits[0, -1])[ids(text)[end]]))
        np.testing.assert_allclose(result.log_probabilities, expected, atol=1e-4)
        assert result.tokens == text.split()
        assert result.total == pytest.approx(sum(expected), abs=1e-3)


def test_one_text_and_a_list_of_texts_have_the_same_score():
    causal = loaded("gpt2")
    np.testing.assert_allclose(
        score(causal, TEXTS[0]).log_probabilities,
        score(causal, TEXTS)[0].log_probabilities,
        atol=1e-4,
    )


def test_no_texts_have_no_scores():
    assert score(loaded("gpt2"), []) == score(masked_model(), []) == []


def test_a_backward_model_scores_the_reversed_text():
    forward, backward = loaded("gpt2"), loaded("gpt2", direction="backward")
    backward = backward._replace(params=forward.params)
    flipped = score(forward, " ".join(reversed(TEXTS[0].split())))
    result = score(backward, TEXTS[0])
    assert result.tokens == TEXTS[0].split()
    np.testing.assert_allclose(result.log_probabilities, flipped.log_probabilities[::-1], atol=1e-5)


def test_an_ngram_model_scores_with_its_table_and_backs_off(tmp_path):
    path = tmp_path / "bigrams.arpa"
    path.write_text(BIGRAMS, "utf-8")
    seen, backed_off = score(zoo.load(path), ["a b", "b"])
    np.testing.assert_allclose(
        np.array(seen.log_probabilities) / np.log(10), [-0.2, -0.1], atol=1e-5
    )
    assert backed_off.total / np.log(10) == pytest.approx(-0.5 - 0.7, abs=1e-5)


def test_xlnet_reads_in_the_order_of_the_text():
    xlnet = loaded("xlnet")
    before = np.array(score(xlnet, "w3 w10 w3 w7 w22").log_probabilities)
    after = np.array(score(xlnet, "w3 w10 w3 w8 w22").log_probabilities)
    np.testing.assert_allclose(before[:3], after[:3], atol=1e-5)
    assert (np.abs(before - after)[3:] > 1e-3).all()
    np.testing.assert_allclose(
        [result.total for result in score(xlnet, TEXTS)],
        [score(xlnet, text).total for text in TEXTS],
        atol=1e-3,
    )


def test_xlnet_gives_next_tokens_that_sum_to_one():
    xlnet = loaded("xlnet")
    p = {token.strip(): p for token, p in next_tokens(xlnet, "w3 w10 w3", top=V)}
    assert sum(p.values()) == pytest.approx(1, abs=1e-5)
    expected = score(xlnet, "w3 w10 w3 w7").log_probabilities[-1]
    assert np.log(p["w7"]) == pytest.approx(expected, abs=1e-4)


def test_elmo_scores_words_by_its_forward_model():
    config = elmo.SIZES["elmo-tiny"]
    model = elmo.ELMoLM(dataclasses.replace(config, vocab_size=V))
    params = model.init(jax.random.key(0), np.zeros((1, 8), np.int32))["params"]
    result = score(zoo.Loaded(model, params, TOKENIZER), "w3 w10 unseen")
    assert result.tokens == ["w3", "w10", "unseen"]
    letters, _ = model.spell(TOKENIZER, ["w3", "w10", "unseen"])
    following, _ = model.apply({"params": params}, letters[None, :3])
    log_p = jax.nn.log_softmax(following[0])
    expected = [log_p[0, TOKENIZER.token_to_id("w3")], log_p[1, TOKENIZER.token_to_id("w10")]]
    np.testing.assert_allclose(result.log_probabilities, [*expected, log_p[2, 0]], atol=1e-5)


@pytest.mark.parametrize("name", ["rnn", "gpt2", "gpt"])
def test_the_next_tokens_are_those_that_score_best(name):
    causal = loaded(name)
    (first, p), *_ = next_tokens(causal, "w3 w10", top=3)
    assert score(causal, f"w3 w10 {first}").log_probabilities[-1] == pytest.approx(
        np.log(p), abs=1e-4
    )


# Masked models

PIECES = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", "the", "trav", "##el", "##er", "sat"]


def masked_model():
    model = bert.Model(
        dataclasses.replace(tiny.TABLE["bert"].config, vocab_size=len(PIECES), max_length=16)
    )
    vocabulary = {piece: i for i, piece in enumerate(PIECES)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.add_special_tokens(PIECES[:5])
    return zoo.Loaded(model, tiny.wide(model), tokenizer)


@pytest.mark.parametrize(
    ("masked", "hidden"),
    [("token", [[1], [2], [3], [4], [5]]), ("word", [[1], [2, 3, 4], [3, 4], [4], [5]])],
)
def test_a_masked_model_predicts_every_token_from_the_others(masked, hidden):
    loaded = masked_model()
    row = [1, 5, 6, 7, 8, 9, 2]  # the trav ##el ##er sat
    expected = []
    for positions in hidden:
        tokens = np.array([row])
        tokens[0, positions] = 3
        logits = loaded.model.apply(
            {"params": loaded.params}, tokens, None, np.array([positions[:1]]), method="fill"
        )
        expected.append(jax.nn.log_softmax(logits[0, 0])[row[positions[0]]])
    texts = ["the traveler sat", "sat", "the sat sat the sat sat the sat"]
    result = score(loaded, texts, masked=masked)[0]
    assert result.tokens == ["the", "trav", "el", "er", "sat"]
    np.testing.assert_allclose(result.log_probabilities, expected, atol=1e-4)


# Bad input


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gpt2", "", "without tokens"),
        ("gpt2", "w1 " * 40, "supports at most 32"),
        ("xlnet", "", "without tokens"),
        ("t5", "w1", "given its source"),
    ],
)
def test_a_text_that_has_no_score_is_refused(name, text, message):
    with pytest.raises(ValueError, match=message) as error:
        score(loaded(name), text)
    assert "\n" not in str(error.value)


def test_a_model_of_sound_gives_a_text_no_score():
    model = wavenet.WaveNetSound(wavenet.Config(num_layers=2, width=4, gate_width=4, skip_width=4))
    with pytest.raises(ValueError, match="sound, not text"):
        score(zoo.Loaded(model, {}, mu_law.tokenizer()), "w1")


def test_an_empty_text_has_no_pseudo_likelihood():
    with pytest.raises(ValueError, match="nothing to score"):
        score(masked_model(), "")


def test_a_masked_model_has_no_next_token():
    with pytest.raises(ValueError, match="fill-mask"):
        next_tokens(masked_model(), "the")
    with pytest.raises(ValueError, match="does not predict"):
        next_tokens(loaded("gpt2", direction="backward"), "w1")
