"""Classifiers and taggers that start from word vectors, in a folder or a file."""

import jax
import numpy as np
import pytest

import zoo
from train.data.examples.tables import TextExample
from train.finetuning import finetune, unfreezing
from train.finetuning.settings import Settings
from train.finetuning.tasks.registry import TASKS
from zoo.models import glove, word2vec
from zoo.params import abstract, flatten
from zoo.tokenizers import units

WORDS = ["good", "fine", "bad", "poor", "film", "play"]
SIGN = np.array([1, 1, -1, -1, 0, 0], np.float32)
QUICK = Settings(epochs=8, batch=8, learning_rate="3e-2", length=16)


def examples():
    nouns = ("film", "play", "novel")  # of which the last has no vector
    return [
        TextExample(f"a {adjective} {noun}", None, "yes" if adjective in WORDS[:2] else "no")
        for adjective in WORDS[:4]
        for noun in nouns * 2
    ]


def vectors():
    draw = np.random.default_rng(0)
    table = 0.1 * draw.normal(size=(len(WORDS), 5)).astype(np.float32)
    table[:, 0] += SIGN
    return table


@pytest.fixture(params=["folder", "file", "glove"])
def start(request, tmp_path):
    """Return vectors as a model folder, a word2vec file, and a folder of GloVe."""
    table, tokenizer = vectors(), units.words(WORDS)
    model = word2vec.Word2Vec(word2vec.Config(vocab_size=len(WORDS), width=5))
    if request.param == "glove":
        model = glove.GloVe(glove.Config(vocab_size=len(WORDS), width=5))
    loaded = zoo.Loaded(model, {"words": table}, tokenizer)
    path = tmp_path / ("vectors.txt" if request.param == "file" else "vectors")
    (zoo.export if request.param == "file" else zoo.save)(loaded, path)
    return path


def test_a_classifier_learns_on_frozen_vectors(start, tmp_path):
    data = {"train": examples(), "dev": examples()}
    settings = Settings(**{**vars(QUICK), "unfreeze": "head"})
    metrics, _ = finetune.finetune(start, TASKS["classification"], data, tmp_path / "out", settings)
    assert metrics["dev"][0]["accuracy"] == 1
    model, params, tokenizer = zoo.load(tmp_path / "out")
    assert isinstance(model, word2vec.Word2VecClassifier)
    np.testing.assert_array_equal(params["trunk"]["words"][: len(WORDS)], vectors())
    assert tokenizer.encode("an unknown word").ids == [tokenizer.token_to_id("<unk>")] * 3
    prediction = zoo.classify(zoo.load(tmp_path / "out"), "fine film")
    assert max(prediction, key=prediction.get) == "yes"


def test_a_classifier_changes_vectors_that_are_not_frozen(tmp_path, start):
    data = {"train": examples(), "dev": examples()}
    finetune.finetune(start, TASKS["classification"], data, tmp_path / "out", QUICK)
    trained = zoo.load(tmp_path / "out").params["trunk"]["words"]
    assert np.abs(np.asarray(trained)[:4] - vectors()[:4]).max() > 1e-3


def test_a_run_of_pretraining_is_a_start_too(tmp_path):
    tokenizer = units.words(["<unk>", "</s>", *WORDS])
    model = word2vec.CBOW(word2vec.Config(vocab_size=len(WORDS) + 2, width=5))
    params = model.init(jax.random.key(0), np.zeros((1, 8), np.int32))["params"]
    zoo.save(zoo.Loaded(model, params, tokenizer), tmp_path / "cbow")
    loaded, new = finetune.load(tmp_path / "cbow", TASKS["tagging"], ("A", "B"), QUICK)
    assert isinstance(loaded.model, word2vec.Word2VecTagger)
    np.testing.assert_array_equal(loaded.params["trunk"]["words"], params["words"])
    assert "trunk/words" not in new
    assert {"classes/kernel", "lstm/forward_0/input/kernel"} < set(new)
    assert loaded.tokenizer.get_vocab_size() == len(WORDS) + 2


@pytest.mark.parametrize("task", word2vec.TASKS)
def test_vectors_are_one_group_and_the_head_another(task):
    config = word2vec.Config(vocab_size=len(WORDS), width=5)
    paths = list(flatten(abstract(word2vec.TASKS[task](config))))
    vectors, head = unfreezing.groups(paths, word2vec.GROUPS)
    assert vectors == ["trunk/words"]
    assert {"classes/bias", "classes/kernel"} <= set(head)
