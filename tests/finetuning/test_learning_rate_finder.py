"""The learning-rate range test finds where the loss falls fastest."""

from dataclasses import replace

import numpy as np
import pytest

import zoo
from tests.tiny_task import DATA, SETTINGS, WORDS, folder, tokenizer
from train.data.examples.tagged import TaggedSentence
from train.finetuning import finetune, learning_rate_finder
from train.finetuning.tasks.registry import TASKS
from train.reporting.progress import read_log
from zoo.models import rnn, word2vec
from zoo.tokenizers import units


def test_the_steepest_fall_is_found_after_a_lucky_first_batch():
    rates = np.geomspace(1e-6, 1, 100)
    fall = 1 / (1 + np.exp(4 * np.log(rates / 1e-3)))  # halfway down at 1e-3
    losses = 0.3 + 0.4 * fall + np.where(rates > 3e-2, 50 * rates, 0)
    losses[0] = 0.1
    assert 5e-4 < learning_rate_finder.steepest(rates, losses) < 3e-3  # a moving mean comes late


def test_a_loss_that_never_falls_or_only_by_chance_has_no_steepest_fall():
    rates = np.geomspace(1e-6, 1, 100)
    with pytest.raises(ValueError, match="never falls"):
        learning_rate_finder.steepest(rates, rates)
    random = np.random.default_rng(0)
    flat = [0.69 + 0.05 * random.normal(size=100) for _ in range(20)]
    for losses in flat:
        with pytest.raises(ValueError, match=r"never falls|no clear fall"):
            learning_rate_finder.steepest(rates, losses)
    fall = 0.3 / (1 + np.exp(-4 * np.log(rates / 1e-3)))
    for losses in flat:
        assert 3e-4 < learning_rate_finder.steepest(rates, losses - fall) < 1e-2


def backward(tmp_path):
    """A model that reads texts backward, and texts to classify."""
    words = tokenizer(())
    sizes = {"max_length": 32, "num_layers": 1, "width": 16, "dropout": 0.0, "embed_width": 16}
    config = rnn.Config(vocab_size=words.get_vocab_size(), **sizes, direction="backward")
    return folder(tmp_path, rnn, config, words), "classification", DATA


def vectors(tmp_path):
    """Word vectors, which stay frozen, and sentences to tag."""
    config = word2vec.Config(vocab_size=len(WORDS) + 1, width=8, tagger_width=8)
    table = np.random.default_rng(0).normal(0, 1, (len(WORDS) + 1, 8)).astype(np.float32)
    words = units.words(["<unk>", *WORDS])
    zoo.save(zoo.Loaded(word2vec.Word2Vec(config), {"words": table}, words), tmp_path / "vectors")
    texts = [example.text.split() for example in DATA["dev"]]
    data = [TaggedSentence(tuple(text), tuple(word[0] for word in text)) for text in texts]
    return tmp_path / "vectors", "tagging", {"train": data, "dev": data}


@pytest.mark.parametrize("problem", [backward, vectors])
def test_the_losses_are_those_of_fine_tuning(problem, tmp_path):
    start, name, data = problem(tmp_path)
    settings = replace(SETTINGS, dropout=0.0, schedule="constant", learning_rate="1e-2", epochs=1.0)
    finetune.finetune(start, TASKS[name], data, tmp_path / "out", settings)
    events = [event for event in read_log(tmp_path / "out") if event["kind"] == "train"]
    _, losses = learning_rate_finder.range_test(
        start, TASKS[name], data["train"], settings, 1e-2, 1e-1, 2
    )
    np.testing.assert_allclose(losses, [event["loss"] for event in events[:2]], rtol=1e-5)
