"""Vectors of texts equal the pooled hidden states of transformers, at every layer."""

import numpy as np
import pytest

import zoo
from tests.parity.table import ROWS, V
from tests.parity.test_parity import build
from tests.wide import relative
from zoo.tokenizers import units

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-5
TEXTS = ["w7 w8 w9 w10", "w13", "w21 w22 w23 w24 w25 w26 w27"]


@pytest.mark.parametrize(
    "name",
    [
        "BertForPreTraining",
        "GPT2LMHeadModel",
        "XLNetLMHeadModel",
        "T5ForConditionalGeneration",
        "ElectraForPreTraining",
    ],
)
def test_every_layer_equals_that_of_transformers(name, tmp_path):
    theirs = build(ROWS[name])
    theirs.save_pretrained(tmp_path)
    tokenizer = units.words(["<unk>", "</s>", *(f"w{number}" for number in range(2, V))])
    loaded = zoo.load(tmp_path)._replace(tokenizer=tokenizer)
    encoder = theirs.get_encoder() if name.startswith("T5") else theirs
    with torch.no_grad():
        expected = [
            encoder(torch.tensor([tokenizer.encode(text).ids]), output_hidden_states=True)
            for text in TEXTS
        ]
    layers = range(len(expected[0].hidden_states))
    for layer in layers if name.startswith("Bert") else (layers[0], layers[1], layers[-1]):
        means = [output.hidden_states[layer][0].mean(0).numpy() for output in expected]
        assert relative(zoo.embed(loaded, TEXTS, layer=layer), means) < TOLERANCE
    words = zoo.embed_words(loaded, TEXTS)
    for x_WD, output in zip(words, expected, strict=True):
        assert relative(x_WD, output.hidden_states[-1][0].numpy()) < TOLERANCE
    last = [output.hidden_states[-1][0, -1].numpy() for output in expected]
    assert relative(zoo.embed(loaded, TEXTS, "last"), np.array(last)) < TOLERANCE
