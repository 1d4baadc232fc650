"""Taggers on frozen vectors: what is trained, the CRF, and folders that tag."""

from dataclasses import replace

import jax
import numpy as np
import pytest

import zoo
from tests.tiny_task import SETTINGS
from train.data.examples.tagged import TaggedSentence
from train.finetuning import finetune
from train.finetuning.tasks.registry import TASKS
from zoo.models import word2vec
from zoo.params import flatten
from zoo.tokenizers import units

WORDS = ["the", "a", "cat", "dog", "saw", "ran"]
TAGS = {"the": "D", "a": "D", "cat": "N", "dog": "N", "saw": "V", "ran": "V"}
QUICK = replace(SETTINGS, epochs=12.0, batch=8, learning_rate="1e-2", unfreeze=None)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors") / "cbow"
    tokenizer = units.words(["<unk>", "</s>", *WORDS])
    model = word2vec.Word2Vec(word2vec.Config(vocab_size=len(WORDS) + 2, width=8, tagger_width=8))
    words = np.random.default_rng(0).normal(0, 1, (len(WORDS) + 2, 8)).astype(np.float32)
    zoo.save(zoo.Loaded(model, {"words": words}, tokenizer), folder)
    return folder


def sentences():
    draw = np.random.default_rng(0)
    for _ in range(24):
        words = tuple(draw.choice(WORDS, draw.integers(1, 7)).tolist())
        yield TaggedSentence(words, tuple(TAGS[word] for word in words))


@pytest.mark.parametrize("name", ["tagging", "crf-tagging"])
def test_a_tagger_learns_on_vectors_that_stay_frozen(name, start, tmp_path):
    data = {"train": list(sentences()), "dev": list(sentences())}
    metrics, _ = finetune.finetune(start, TASKS[name], data, tmp_path / "out", QUICK)
    assert metrics["dev"][0]["accuracy"] > 0.95
    loaded = zoo.load(tmp_path / "out")
    before = zoo.load(start).params["words"]
    np.testing.assert_array_equal(loaded.params["trunk"]["words"], before)
    tags = zoo.tag(loaded, ["The", "dog", "ran"])  # the vocabulary has lower-case words only
    assert [tag.label for tag in tags] == ["D", "N", "V"]
    assert all(0.5 < tag.probability <= 1 for tag in tags)


def test_a_crf_cannot_weigh_classes(start, tmp_path):
    data = {"train": list(sentences()), "dev": list(sentences())}
    settings = replace(QUICK, class_weights="balanced")
    with pytest.raises(ValueError, match="--class-weights does not work with this task"):
        finetune.finetune(start, TASKS["crf-tagging"], data, tmp_path / "out", settings)


def test_the_tags_of_a_sentence_do_not_depend_on_padding(start, tmp_path):
    model = word2vec.Word2VecCRFTagger(
        word2vec.Config(vocab_size=8, width=5, tagger_width=4, labels=("A", "B", "C"))
    )
    params = model.init(jax.random.key(0), np.zeros((1, 8), np.int32))["params"]
    draw = np.random.default_rng(0)
    params = jax.tree.map(lambda x: draw.normal(0, 0.3, x.shape).astype(np.float32), params)
    tokens = draw.integers(0, 8, (1, 9)).astype(np.int32)
    documents = np.array([[0, 0, 1, 1, 1, 1, 0, 0, 0]], np.int32)
    apply = jax.jit(lambda t, d: model.apply({"params": params}, t, None, d))
    padded = apply(tokens, documents)[:, 2:6]
    alone = apply(tokens[:, 2:6], documents[:, 2:6])
    np.testing.assert_allclose(padded, alone, atol=1e-6)
    assert any(path.startswith("crf/") for path in flatten(params))
