"""Runs that train word vectors, from text to a model folder."""

import signal
from dataclasses import replace

import numpy as np
import pytest

import zoo
from tests.commands.test_command_line import refusal
from train.data.sources import text
from train.devices.mesh import MeshPlacement
from train.pretraining import pretrain as pretraining
from train.pretraining.run import make_training, prepare
from train.recipes import fasttext, word2vec
from train.reporting.progress import Report, read_log

NAMES = ["skip-gram", "cbow", "skip-gram tree", "cbow tree", "fasttext"]
names = pytest.mark.parametrize("name", NAMES)
TOPICS = [[f"{topic}{number}" for number in range(8)] for topic in ("fish", "star", "road")]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def source(lines=400):
    """Return a text whose lines have words of one topic each, and of no topic."""
    draw = np.random.default_rng(0)
    words = lambda: [*draw.choice(TOPICS[draw.integers(3)], 8), *draw.choice(["the", "of"], 3)]
    return text.strings(["\n".join(" ".join(draw.permutation(words())) for _ in range(lines))])


def recipe(name, **fields):
    small = {"batch": 2, "length": 256, "epochs": 20, "report_every": 1, "sample": 1e-2}
    if name == "fasttext":
        chosen = fasttext.tiny()
        chosen = replace(chosen, config=replace(chosen.config, buckets=200, max_n=3))
    else:
        context, _, tree = name.partition(" ")
        chosen = (
            word2vec.tree_tiny(context)
            if tree
            else word2vec.recipe("word2vec-tiny", schedule=word2vec.falling(0.05), context=context)
        )
    return replace(chosen, config=replace(chosen.config, width=16), **small | fields)


@names
def test_words_of_one_topic_get_similar_vectors(name, tmp_path):
    metrics = pretraining.pretrain(recipe(name), source(), tmp_path)
    losses = [e["loss"] for e in read_log(tmp_path) if e["kind"] == "held_out"]
    assert metrics["loss"] < losses[0] - 0.3
    assert "perplexity" not in metrics
    model, params, tokenizer = zoo.load(tmp_path)
    words = [word for topic in TOPICS for word in topic]
    ids = np.array([tokenizer.token_to_id(word) for word in words])
    x_ND = model.word_vectors(params, words, ids)
    x_ND = x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)
    cosines = x_ND @ x_ND.T - 2 * np.eye(len(words))
    topics = np.repeat(np.arange(3), 8)
    assert np.mean(topics[cosines.argmax(1)] == topics) > 0.9


def test_a_run_that_is_stopped_and_resumed_equals_an_uninterrupted_one(tmp_path, monkeypatch):
    few = recipe("skip-gram", epochs=3, save_every=5)
    pretraining.pretrain(few, source(), tmp_path / "whole")
    stop = lambda report, steps: (
        signal.raise_signal(signal.SIGTERM) if steps and steps[-1][0] == 7 else None
    )
    with monkeypatch.context() as patch:
        patch.setattr(Report, "steps", stop)
        assert pretraining.pretrain(few, source(), tmp_path / "parts") == {}
    pretraining.pretrain(few, source(), tmp_path / "parts", resume=True)
    parts, whole = (zoo.load(tmp_path / name).params for name in ("parts", "whole"))
    for name, table in whole.items():
        np.testing.assert_array_equal(parts[name], table, err_msg=name)


def test_epochs_give_the_number_of_steps(tmp_path):
    run = prepare(recipe("cbow", epochs=4), source(), tmp_path)
    tokens = run.amounts[0]
    assert run.recipe.steps == -(-4 * tokens // (2 * 256))
    assert run.recipe.evaluate_every == -(-run.recipe.steps // 4)


def test_the_vocabulary_is_that_of_the_text(tmp_path):
    run = prepare(recipe("fasttext"), source(), tmp_path)
    assert run.recipe.config.vocab_size == 24 + 2 + 3  # and <unk>, </s>, <eos>
    counts = run.recipe.counts
    assert counts[[0, 1]].tolist() == [0, 0]
    state = run.placement.init()
    assert "counts" in state.params


@names
def test_tables_that_are_split_over_devices_are_trained_as_on_one(name, tmp_path):
    # The placements of eight devices are in tests/devices; here, that the rules fit every table.
    run = prepare(recipe(name), source(), tmp_path)
    placed = MeshPlacement(make_training(run.recipe, run.objective))
    specs = {path: x.sharding.spec for path, x in placed.abstract.params.items() if x.ndim == 2}
    assert all(len(spec) == 2 for spec in specs.values())


def test_parallel_pmap_is_refused(tmp_path):
    with pytest.raises(ValueError, match="use mesh instead"):
        prepare(recipe("skip-gram"), source(), tmp_path, parallelism="pmap")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("one two one two", "--min-count leaves 0"),
        ("one one one one one one", "the text has 1 distinct word"),
        ("all words differ here", "--min-count leaves 0"),
    ],
)
def test_a_text_with_too_few_words_is_refused(content, message, tmp_path, monkeypatch, capsys):
    file = tmp_path / "text.txt"
    file.write_text(content)
    arguments = (
        "pretrain",
        "word2vec-tiny",
        "--text",
        file,
        "--dev",
        file,
        "--out",
        tmp_path / "out",
    )
    assert message in refusal(monkeypatch, capsys, *arguments)
