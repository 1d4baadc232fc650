"""Overlapping windows: every token is scored once, with the longest context there is."""

import jax
import numpy as np
import pytest

import zoo
from tests import tiny, tiny_run
from train.data.sources import text
from train.pretraining import evaluate
from zoo.checkpoints.load import Loaded

LENGTH = 16


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def folder(tmp_path):
    """A folder with a GPT-2 of wide random weights."""
    model = tiny_run.gpt2.Model(tiny_run.CONFIG)
    zoo.save(Loaded(model, tiny_run.wide_params(), tiny_run.tokenizer()), tmp_path / "model")
    return tmp_path / "model"


def brute_force(folder, documents, stride) -> tuple[float, float]:
    """Loss and bits per byte, one token at a time."""
    model, params, tokenizer = zoo.load(folder)
    end = tokenizer.token_to_id(tiny_run.END)
    tokens = [end]
    for document in documents:
        tokens += [*tokenizer.encode(document).ids, end]
    logits_of = jax.jit(lambda *inputs: model.apply({"params": params}, *inputs))
    losses = []
    for place in range(1, len(tokens)):
        windows = max(0, -(-(place - LENGTH) // stride))  # before the one that scores this token
        context = np.array(tokens[windows * stride : place])
        assert 1 <= len(context) <= LENGTH
        padded = np.pad(context, (0, LENGTH - len(context)))
        documents_L = np.pad(1 + np.cumsum(context == end), (0, LENGTH - len(context)))
        logits_V = logits_of(padded[None], documents_L[None])[0, len(context) - 1]
        losses.append(-jax.nn.log_softmax(logits_V)[tokens[place]])
    num_bytes = sum(len(document.encode()) for document in documents)
    loss = float(np.mean(losses))
    return loss, loss * (len(tokens) - 1) / num_bytes / np.log(2)


@pytest.mark.parametrize("stride", [1, 5, 16])
def test_the_figures_are_those_of_one_token_at_a_time(folder, stride):
    documents = tiny_run.documents(count=3)
    metrics = evaluate.evaluate(folder, text.strings(documents), 4, LENGTH, stride)
    loss, bits_per_byte = brute_force(folder, documents, stride)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(metrics["perplexity"], np.exp(loss), rtol=1e-4)
    # One token more than the model predicts counts in the bits, as without a stride.
    np.testing.assert_allclose(metrics["bits_per_byte"], bits_per_byte, rtol=2e-2)


def test_a_stride_of_the_length_gives_the_figures_of_windows(folder):
    source = tiny_run.source(count=9)
    full = evaluate.evaluate(folder, source, 4, LENGTH)
    assert evaluate.evaluate(folder, source, 4, LENGTH, LENGTH) == full


def test_a_text_shorter_than_a_window_is_one_window(folder):
    source = text.strings(["w1 w2 w3 w4"])
    full = evaluate.evaluate(folder, source, 4, LENGTH)
    assert evaluate.evaluate(folder, source, 4, stride=3) == pytest.approx(full, rel=1e-5)


def test_windows_of_a_model_without_a_maximum_have_the_default_length(tmp_path):
    model = tiny.TABLE["fixed_window"].model
    zoo.save(Loaded(model, tiny.wide(model), short_tokenizer()), tmp_path)
    source = tiny_run.source(count=3)
    expected = evaluate.evaluate(tmp_path, source, 4, 128, stride=64)
    assert evaluate.evaluate(tmp_path, source, 4, stride=64) == expected
    with pytest.raises(ValueError, match=r"the length of a window, --length 128, not 129$"):
        evaluate.evaluate(tmp_path, source, 4, stride=129)


def test_what_has_no_stride_is_one_line(folder, tmp_path, monkeypatch, capsys):
    for stride in (0, 33):
        with pytest.raises(ValueError, match=r"^--stride must be from 1 to the length of a wind"):
            evaluate.evaluate(folder, tiny_run.source(), stride=stride)
    model = tiny.TABLE["rnn"].model
    zoo.save(Loaded(model, tiny.wide(model), short_tokenizer()), tmp_path / "rnn")
    with pytest.raises(ValueError, match=r"rnn passes its state from window to window, so every t"):
        evaluate.evaluate(tmp_path / "rnn", tiny_run.source(), length=16, stride=4)


def short_tokenizer():
    """As many words as the tiny models have."""
    names = {word: i for i, word in enumerate([*tiny_run.WORDS[: tiny.V - 2], "?"])}
    tokenizer = tiny_run.Tokenizer(tiny_run.models.WordLevel(names, "?"))
    tokenizer.pre_tokenizer = tiny_run.pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([tiny_run.END])
    return tokenizer
