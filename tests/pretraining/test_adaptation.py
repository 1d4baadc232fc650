"""Evaluation that adapts to the text: a neural cache, or dynamic evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests import tiny, tiny_run
from tests.pretraining.test_stride import short_tokenizer
from train.data.sources import text
from train.pretraining import evaluate
from train.pretraining.dynamic_evaluation import (
    EPSILON,
    DynamicEvaluation,
    ScaledDynamicEvaluation,
)
from train.pretraining.neural_cache import NeuralCache
from zoo.checkpoints.load import Loaded
from zoo.models import awd_lstm, rnn

LENGTH, END = 5, tiny.V - 1
MODEL = rnn.RNNLM(rnn.Config(vocab_size=tiny.V, num_layers=1, width=8, dropout=0.0, embed_width=6))
DOCUMENTS = [" ".join(tiny_run.WORDS[n] for n in row) for row in np.arange(69).reshape(3, 23) % 7]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a recurrent model of wide random weights."""
    path = tmp_path_factory.mktemp("adaptation") / "rnn"
    zoo.save(Loaded(MODEL, tiny.wide(MODEL), short_tokenizer()), path)
    return path


def stream(documents):
    """Return the tokens of documents, each of which starts with the end of the one before it."""
    encoded = [short_tokenizer().encode(document).ids for document in documents]
    return np.array([END] + [token for ids in encoded for token in (*ids, END)])


def losses_BL(params, tokens_BL, documents_BL, states):
    """Return the losses of the next token, and the states."""
    inputs = tokens_BL[:, :-1], documents_BL, states
    unprojected, states = MODEL.apply({"params": params}, *inputs, method="unprojected")
    logs_BLV = jax.nn.log_softmax(unprojected.logits())
    return -jnp.take_along_axis(logs_BLV, tokens_BL[:, 1:, None], -1)[..., 0], states


@jax.jit
def gradient(params, tokens_BL, documents_BL, states):
    """Return the losses, the states and the gradient of the mean loss."""

    def mean(params):
        losses, after = losses_BL(params, tokens_BL, documents_BL, states)
        return losses.mean(), (losses, after)

    slope, (losses, after) = jax.grad(mean, has_aux=True)(params)
    return losses, after, slope


def reference(rates):
    """Return the mean loss of windows that are predicted before the parameters follow them.

    `rates` are the learning rates and the decays of every parameter.
    """
    params = trained = jax.tree.map(np.float64, tiny.wide(MODEL))
    tokens, states, losses = stream(DOCUMENTS), MODEL.initial_states(1), []
    for start in range(0, len(tokens) - 1, LENGTH):
        window_1L = tokens[None, start : start + LENGTH + 1]
        documents_1L = 1 + np.cumsum(window_1L[:, :-1] == END, 1)
        window_losses, states, slope = gradient(params, window_1L, documents_1L, states)
        losses += window_losses[0].tolist()
        step = lambda x, g, x0, rate, decay: x - rate * np.float64(g) + decay * (x0 - x)
        params = jax.tree.map(step, params, slope, trained, *rates)
    return np.mean(losses)


def everywhere(value):
    return jax.tree.map(lambda _: value, tiny.wide(MODEL))


@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_simple_dynamic_evaluation_is_a_step_of_gradient_descent_per_window(folder, decay):
    adaptation = DynamicEvaluation(learning_rate=0.5, decay=decay)
    metrics = evaluate.evaluate(folder, text.strings(DOCUMENTS), adaptation=adaptation)
    expected = reference((everywhere(0.5), everywhere(decay)))
    assert metrics["loss"] == pytest.approx(expected, rel=1e-5)
    unadapted = evaluate.evaluate(folder, text.strings(DOCUMENTS))["loss"]
    assert metrics["loss"] < unadapted - 0.3
    assert metrics["perplexity"] == pytest.approx(np.exp(metrics["loss"]), rel=1e-6)


def test_the_rms_form_scales_the_rates_by_the_gradients_on_another_text(folder):
    words = np.random.default_rng(1).integers(0, tiny.V - 2, 1150)
    other = [" ".join(tiny_run.WORDS[n] for n in words)]
    settings = {"learning_rate": 2e-4, "decay": 0.4}
    adaptation = ScaledDynamicEvaluation(source=text.strings(other), **settings)
    metrics = evaluate.evaluate(folder, text.strings(DOCUMENTS), adaptation=adaptation)

    tokens, steps = stream(other), 2  # (1 + 1150 + 1 - 1) // (100 rows of 5)
    states, squares = MODEL.initial_states(100), everywhere(0.0)
    for step in range(steps):
        starts = np.arange(100)[:, None] * steps * LENGTH + step * LENGTH
        window_BL = tokens[starts + np.arange(LENGTH + 1)]
        documents_BL = 1 + np.cumsum(window_BL[:, :-1] == END, 1)
        _, states, slope = gradient(tiny.wide(MODEL), window_BL, documents_BL, states)
        squares = jax.tree.map(lambda x, g: x + np.float64(g) ** 2, squares, slope)
    rms = jax.tree.map(lambda x: np.sqrt(x / steps), squares)
    mean = np.mean([x.mean() for x in jax.tree.leaves(rms)])
    learning_rates = jax.tree.map(lambda x: settings["learning_rate"] / (x + EPSILON), rms)
    decays = jax.tree.map(lambda x: np.minimum(settings["decay"] * x / mean, 1), rms)
    assert any((x == 1).any() for x in jax.tree.leaves(decays))
    assert metrics["loss"] == pytest.approx(reference((learning_rates, decays)), rel=1e-5)
    assert metrics["loss"] < evaluate.evaluate(folder, text.strings(DOCUMENTS))["loss"] - 0.02


def test_a_folder_is_evaluated_with_a_cache_from_its_first_to_its_last_window(folder):
    adaptation = NeuralCache(20, 1.0, 0.3)
    source = text.strings(DOCUMENTS)
    losses = [
        evaluate.evaluate(folder, source, length=length, adaptation=adaptation)["loss"]
        for length in (4, 100)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] < evaluate.evaluate(folder, source)["loss"] - 0.3
    # Each of two rows starts with an empty cache, so it sees less of the text.
    two_rows = evaluate.evaluate(folder, source, 2, 100, adaptation=adaptation)["loss"]
    assert two_rows == pytest.approx(losses[0], abs=1e-9) or two_rows > losses[0]


@pytest.mark.parametrize(
    "adaptation", [NeuralCache(3, weight=1e-7), DynamicEvaluation(learning_rate=1e-9)]
)
def test_the_penalties_of_training_are_no_part_of_it(adaptation, tmp_path):
    model = awd_lstm.AWDLSTMLM(
        awd_lstm.Config(vocab_size=tiny.V, num_layers=2, width=6, cell_width=8)
    )
    zoo.save(Loaded(model, tiny.wide(model), short_tokenizer()), tmp_path / "awd")
    (tmp_path / "text").write_text(DOCUMENTS[0])
    source = text.files([tmp_path / "text"])
    plain = evaluate.evaluate(tmp_path / "awd", source, 1, LENGTH)
    adapted = evaluate.evaluate(tmp_path / "awd", source, 1, LENGTH, adaptation=adaptation)
    assert plain["activation_loss"] > 0
    assert adapted["loss"] == pytest.approx(plain["token_loss"], rel=1e-4)
    assert adapted["perplexity"] == pytest.approx(plain["perplexity"], rel=1e-3)


def test_a_model_without_states_is_refused(tmp_path):
    model = tiny_run.gpt2.Model(tiny_run.CONFIG)
    zoo.save(Loaded(model, tiny_run.wide_params(), tiny_run.tokenizer()), tmp_path / "gpt2")
    for adaptation, flag in (
        (NeuralCache(5), "--cache-window"),
        (DynamicEvaluation(learning_rate=1.0), "--dynamic-learning-rate"),
    ):
        with pytest.raises(ValueError, match=f"^{flag} is for recurrent language models, such as"):
            evaluate.evaluate(tmp_path / "gpt2", tiny_run.source(), adaptation=adaptation)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (lambda: NeuralCache(0), "--cache-window must be at least 1, not 0"),
        (lambda: NeuralCache(9, theta=-1.0), "--cache-theta must be at least 0"),
        (lambda: NeuralCache(9, weight=1.0), "--cache-weight must be between 0 and 1"),
        (lambda: DynamicEvaluation(learning_rate=0.0), "--dynamic-learning-rate must be above 0"),
        (
            lambda: DynamicEvaluation(learning_rate=1.0, decay=2.0),
            "--dynamic-decay must be from 0 to 1, not 2.0",
        ),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        settings()


def test_a_text_too_short_for_statistics_is_refused(folder):
    short = ScaledDynamicEvaluation(learning_rate=1.0, source=text.strings(["w1 w2"]))
    with pytest.raises(ValueError, match="100 rows of length 5 need 501: give more text"):
        evaluate.evaluate(folder, text.strings(DOCUMENTS), adaptation=short)
