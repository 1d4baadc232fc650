"""Labels of texts by a language model that is not trained for them, but prompted."""

import jax
import numpy as np
import pytest

import zoo
from tests import tiny
from zoo.inference.in_context import Shot, predict, prompt
from zoo.tokenizers import units

WORDS = ["Text:", "Label:", "good", "bad", "well", "film", "it", "was", "N/A", "[MASK]"]
TOKENIZER = units.words(["<unk>", "</s>", *WORDS, *[f"w{i}" for i in range(tiny.V - 12)]])
SHOTS = [Shot("it was w1", "good"), Shot("film w2", "bad")]


def loaded(name="gpt2"):
    row = tiny.TABLE[name]
    return zoo.Loaded(row.model, tiny.wide(row.model), TOKENIZER)


def label_probabilities(model, text):
    tokens = np.array([[1, *TOKENIZER.encode(text).ids]])
    logits = tiny.logits(model.model.apply({"params": model.params}, tokens))[0, -1]
    p = jax.nn.softmax(logits)[np.array([TOKENIZER.token_to_id(w) for w in ("good", "bad")])]
    return np.asarray(p / p.sum())


@pytest.mark.parametrize("shots", [[], SHOTS])
def test_a_label_has_its_probability_after_the_examples_and_the_text(shots):
    gpt2 = loaded()
    before = "".join(f"Text: {s.text} Label: {s.label} " for s in shots)
    expected = label_probabilities(gpt2, before + "Text: it was w7 Label:")
    prediction = predict(gpt2, [Shot("it was w7"), Shot("film")], ["good", "bad"], shots)
    np.testing.assert_allclose(prediction.plain_NC[0], expected, atol=1e-5)

    prior = np.mean(
        [label_probabilities(gpt2, f"{before}Text: {t} Label:") for t in ("N/A", "[MASK]", "")], 0
    )
    ratio = expected / prior
    np.testing.assert_allclose(prediction.calibrated_NC[0], ratio / ratio.sum(), atol=1e-5)


def test_a_text_without_content_has_equal_calibrated_probabilities():
    prediction = predict(loaded(), [Shot(text) for text in ("N/A", "[MASK]")], ["good", "bad"])
    shares = prediction.calibrated_NC / (prediction.plain_NC)
    assert np.ptp(shares[:, 0] / shares[:, 1]) < 1e-4


def test_a_label_of_more_tokens_has_the_product_of_their_probabilities():
    gpt2 = loaded()
    labels = {"1": "good w1", "0": "bad"}
    first = zoo.score(gpt2, "Text: film Label: good w1").log_probabilities[-2:]
    other = zoo.score(gpt2, "Text: film Label: bad").log_probabilities[-1:]
    p = np.exp([sum(first), sum(other)])
    result = predict(gpt2, [Shot("film")], labels)
    assert result.plain_NC[0, 0] == pytest.approx(p[0] / p.sum(), abs=1e-5)


@pytest.mark.parametrize("name", ["rnn", "xlnet", "fixed_window"])
def test_other_causal_models_are_prompted_too(name):
    result = prompt(loaded(name), "film", ["good", "bad"], shots=SHOTS)
    assert sum(result.values()) == pytest.approx(1)


def test_braces_in_a_text_are_not_fields():
    gpt2 = loaded()
    template = "it was {text} {pair} {label}"
    one = prompt(gpt2, "{pair}", ["good", "bad"], pair="w1", template=template)
    other = prompt(gpt2, "{label}", ["good", "bad"], pair="w1", template=template)
    assert one == pytest.approx(other)  # both are unknown words


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shots": SHOTS * 4}, "5 examples fit"),
        ({"text": "w1 " * 40}, "the text alone is too long"),
        ({"labels": ["good", "nice", "unseen"]}, "have the same tokens"),
        ({"labels": ["good"]}, "two or more labels"),
        ({"labels": ["good", " "]}, "has no tokens"),
        ({"template": "{text} is {label}!"}, "must end with"),
        ({"template": "it was {label}"}, "has no {text}"),
        ({"shots": [Shot("film", "w1")]}, "none of good, bad"),
    ],
)
def test_a_prompt_that_cannot_work_is_refused(change, message):
    arguments = {"text": "film", "labels": ["good", "bad"]} | change
    with pytest.raises(ValueError, match=message) as error:
        prompt(loaded(), **arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["bert", "t5"])
def test_a_model_that_does_not_continue_a_text_is_refused(name):
    with pytest.raises(ValueError, match="cannot be prompted"):
        prompt(loaded(name), "film", ["good", "bad"])
