"""Every piece of a text gets the probability of the discriminator."""

import jax
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from tests import tiny
from zoo.checkpoints.load import Loaded
from zoo.inference.detect_replaced import detect_replaced

ROW = tiny.TABLE["electra"]
PARAMS = tiny.wide(ROW.model)


def word_tokenizer() -> Tokenizer:
    word_level = Tokenizer(models.WordLevel({f"w{i}": i for i in range(tiny.V)}, "w0"))
    word_level.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return word_level


def test_the_pieces_are_those_of_the_text_and_the_probabilities_those_of_the_model():
    pieces = detect_replaced(Loaded(ROW.model, PARAMS, word_tokenizer()), "w3 w1  w4 w1 w59")
    assert [piece for piece, _ in pieces] == ["w3", "w1", "w4", "w1", "w59"]
    tokens_BL = np.array([[3, 1, 4, 1, 59]])
    output = ROW.model.apply({"params": PARAMS}, tokens_BL)
    expected = jax.nn.sigmoid(output.replaced_BL[0])
    np.testing.assert_allclose([probability for _, probability in pieces], expected, rtol=1e-5)


def test_an_unsupported_model_or_text_is_an_error():
    with pytest.raises(ValueError, match="no tokenizer"):
        detect_replaced(Loaded(ROW.model, PARAMS, None), "w1")
    with pytest.raises(ValueError, match="the text is empty"):
        detect_replaced(Loaded(ROW.model, PARAMS, word_tokenizer()), "  ")
    with pytest.raises(ValueError, match="has 40 tokens, but the model supports at most 32"):
        detect_replaced(Loaded(ROW.model, PARAMS, word_tokenizer()), "w1 " * 40)
    bert = tiny.TABLE["bert"]
    with pytest.raises(ValueError, match="BertPretraining does not detect replaced tokens"):
        detect_replaced(Loaded(bert.model, {}, word_tokenizer()), "w1")
