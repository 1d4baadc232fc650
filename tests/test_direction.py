"""Backward causal models: the tokens of a text arrive reversed, and results are in its order."""

from dataclasses import replace

import jax
import numpy as np
import pytest

import zoo
from tests.tiny_task import SETTINGS
from train.data.examples.tables import TextExample
from train.data.sources import text
from train.finetuning import finetune
from train.finetuning.tasks.registry import TASKS
from train.pretraining import evaluate
from zoo.direction import is_backward
from zoo.inference.batching import Row
from zoo.inference.hidden_states import hidden_states
from zoo.models import gpt2, rnn
from zoo.tokenizers import units

WORDS = ["<unk>", "</s>", "<eos>", *"abcdefgh"]
SIZES = {"num_layers": 1, "width": 16, "dropout": 0.0, "max_length": 64}
CONFIG = rnn.Config(vocab_size=len(WORDS), cell="lstm", embed_width=8, **SIZES)


def loaded(direction="backward", architecture=rnn, config=CONFIG, cls=None):
    config = replace(config, direction=direction)
    model = (cls or architecture.Model)(config)
    params = model.init(jax.random.key(0), np.zeros((1, 8), np.int32))["params"]
    draw = np.random.default_rng(0)
    params = jax.tree.map(lambda x: draw.normal(0, 0.3, x.shape).astype(np.float32), params)
    return zoo.Loaded(model, params, units.words(WORDS))


def test_the_perplexity_of_a_backward_model_is_that_of_the_reversed_text(tmp_path):
    (tmp_path / "text").write_text("a b c d\ne f a")
    zoo.save(loaded(), tmp_path / "model")
    metrics = evaluate.evaluate(tmp_path / "model", text.files([tmp_path / "text"]), 1, 4)
    ids = units.words(WORDS).encode("a b c d\ne f a").ids
    end = WORDS.index("</s>")
    model, params, _ = loaded()
    tokens = np.array([[end, *ids[::-1], end]], np.int32)
    logits = np.asarray(model.apply({"params": params}, tokens[:, :-1]))
    logs = jax.nn.log_softmax(logits)[0, np.arange(len(ids) + 1), tokens[0, 1:]]
    np.testing.assert_allclose(metrics["loss"], -logs.mean(), rtol=1e-5)


def test_a_backward_model_does_not_generate():
    with pytest.raises(ValueError, match=r"reads backward, .* use a model that reads forward"):
        zoo.generate(loaded(), "a b")


def test_an_unknown_direction_is_refused():
    with pytest.raises(ValueError, match="unknown direction 'up': use one of forward, backward"):
        is_backward(replace(CONFIG, direction="up"))


def test_transformers_gets_no_backward_model(tmp_path):
    config = gpt2.Config(vocab_size=11, num_heads=2, mlp_width=8, **SIZES)
    with pytest.raises(ValueError, match=r"transformers reads forward only: use zoo\.save"):
        zoo.export(loaded("backward", gpt2, config), tmp_path)


def test_the_states_of_a_backward_model_stand_at_their_words():
    tokens = [3, 4, 5, 6, 7]
    (backward,) = dict(hidden_states(loaded(), [Row(tokens, [0] * 5)])).values()
    (reversed_forward,) = dict(
        hidden_states(loaded("forward"), [Row(tokens[::-1], [0] * 5)])
    ).values()
    np.testing.assert_allclose(backward, reversed_forward[::-1], atol=1e-6)


@pytest.mark.parametrize("kind", ["classification", "tagging"])
def test_a_backward_model_learns_a_task_as_it_predicts(kind, tmp_path):
    """The metrics during training, of the reversed rows, are those of the folder."""
    zoo.save(loaded(), tmp_path / "model")
    if kind == "classification":
        texts = [("a b c d", "x"), ("b c d a", "y"), ("a c b", "x"), ("c b a", "y")] * 8
        data = [TextExample(words, None, label) for words, label in texts]
    else:
        from train.data.examples.tagged import TaggedSentence

        # The tag of a word is the next word, which only a backward model has read.
        sentences = [("a", "b", "c"), ("b", "a", "c"), ("c", "b", "a"), ("a", "c", "b")] * 8
        data = [TaggedSentence(words, (*words[1:], "O")) for words in sentences]
    settings = replace(SETTINGS, epochs=20.0, batch=8, learning_rate="2e-2", length=16)
    metrics, _ = finetune.finetune(
        tmp_path / "model",
        TASKS[kind],
        {"train": data, "dev": data},
        tmp_path / "out",
        settings,
    )
    assert metrics["dev"][0]["accuracy"] == 1
    model = zoo.load(tmp_path / "out")
    if kind == "classification":
        prediction = zoo.classify(model, "b c d a")
        assert max(prediction, key=prediction.get) == "y"
        assert model.tokenizer.encode("a b").tokens == ["a", "b", "</s>"]
    else:
        assert [tag.label for tag in zoo.tag(model, ["b", "a", "c"])] == ["a", "c", "O"]
