"""The mean of an n-gram model and a neural one, which read the same tokens."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from train.counting import evaluate, interpolation, loop
from train.data.sources import text
from train.recipes.ngram import NGramRecipe
from zoo.models import fixed_window

LINES = ["one two three two one two", "two one three three one two", "three one two one"] * 4


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folders(tmp_path):
    """Return the folders of a trigram model and of a fixed-window model with its tokenizer."""
    ngram, neural = tmp_path / "ngram", tmp_path / "neural"
    recipe = NGramRecipe(order=3, estimator="add-k=0.5")
    loop.pretrain(recipe, text.strings(LINES), ngram, dev=text.strings(LINES[:3]))
    tokenizer = zoo.load(ngram).tokenizer
    config = fixed_window.Config(
        vocab_size=tokenizer.get_vocab_size(), width=8, embed_width=6, window=2
    )
    model = fixed_window.Model(config)
    params = model.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))["params"]
    params = jax.tree.map(lambda x: 5 * x, params)
    zoo.save(zoo.Loaded(model, params, tokenizer), neural)
    return ngram, neural


def test_the_ends_of_the_scale_are_the_models_themselves(folders):
    ngram, neural = folders
    source = text.strings(LINES[:5])
    mixed = interpolation.perplexities(*folders, source, [0, 1], length=8, stride=3)
    expected = evaluate.evaluate_folder(ngram, source).metrics["perplexity"]
    assert mixed[0] == pytest.approx(expected, rel=1e-6)
    model, params, tokenizer = zoo.load(neural)
    nats, count = 0.0, 0
    for line in LINES[:5]:  # every document alone: "</s> words </s>"
        ids = np.array([[1, *tokenizer.encode(line).ids, 1]])
        log_p = jax.nn.log_softmax(model.apply({"params": params}, ids[:, :-1]))
        nats -= float(jnp.take_along_axis(log_p, ids[:, 1:, None], -1).sum())
        count += ids.shape[1] - 1
    assert mixed[1] == pytest.approx(math.exp(nats / count), rel=1e-4)


def test_the_mean_is_of_probabilities(folders):
    mixed = interpolation.perplexities(*folders, text.strings(["one two"]), [0, 0.25, 1])
    # Of one prediction only, the mean can be computed from both ends.
    single = interpolation.perplexities(*folders, text.strings([""]), [0, 0.25, 1])
    p = 0.75 / single[0] + 0.25 / single[1]
    assert single[0.25] == pytest.approx(1 / p, rel=1e-6)
    assert mixed[0.25] < max(mixed[0], mixed[1])


def test_models_that_do_not_fit_are_refused(folders, tmp_path):
    ngram, neural = folders
    with pytest.raises(ValueError, match="is not an n-gram model"):
        interpolation.perplexities(neural, neural)
    with pytest.raises(ValueError, match="is not a causal language model"):
        interpolation.perplexities(ngram, ngram)
    model, params, _ = zoo.load(neural)
    other = zoo.tokenizers.units.words(["<unk>", "</s>", "a", "b", "c"])
    zoo.save(zoo.Loaded(model, params, other), tmp_path / "other")
    with pytest.raises(ValueError, match="have different vocabularies"):
        interpolation.perplexities(ngram, tmp_path / "other")
