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
from zoo.models import elmo, flair, word2vec
from zoo.params import flatten
from zoo.tokenizers import units

WORDS = ["the", "a", "cat", "dog", "saw", "ran"]
TAGS = {"the": "D", "a": "D", "cat": "N", "dog": "N", "saw": "V", "ran": "V"}
QUICK = replace(SETTINGS, epochs=12.0, batch=8, learning_rate="1e-2", unfreeze=None, dropout=0.0)


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


@pytest.mark.parametrize(("name", "letters"), [("crf-tagging", 0), ("tagging", 9)])
def test_a_tagger_learns_on_vectors_that_stay_frozen(name, letters, start, tmp_path):
    data, settings = {"train": list(sentences()), "dev": list(sentences())}, QUICK
    settings = replace(settings, letters=letters)
    metrics, _ = finetune.finetune(start, TASKS[name], data, tmp_path / "out", settings)
    assert metrics["dev"][0]["accuracy"] > 0.95
    loaded = zoo.load(tmp_path / "out")
    before = zoo.load(start).params["words"]
    np.testing.assert_array_equal(loaded.params["trunk"]["words"], before)
    tags = zoo.tag(loaded, ["The", "dog", "ran"])  # the vocabulary has lower-case words only
    assert [tag.label for tag in tags] == ["D", "N", "V"]
    assert all(0.5 < tag.probability <= 1 for tag in tags)
    assert any("letters" in path for path in flatten(loaded.params)) == bool(letters)
    vectors = zoo.embed_words(loaded, "dog unknown")
    expected = np.asarray(before)[[WORDS.index("dog") + 2, 0]]
    np.testing.assert_array_equal(vectors, expected)


def test_letters_tell_words_that_have_no_vector(start, tmp_path):
    """Only the letters can tell the tags: all words are unknown, and end in their tag."""
    draw = np.random.default_rng(0)
    endings = {"ing": "V", "ly": "A", "tion": "N"}
    data = []
    for _ in range(60):
        stems = ["".join(draw.choice(list("bcdfg"), 4)) for _ in range(4)]
        ends = draw.choice(list(endings), 4).tolist()
        words = tuple(stem + end for stem, end in zip(stems, ends, strict=True))
        data.append(TaggedSentence(words, tuple(endings[end] for end in ends)))
    parts = {"train": data[:45], "dev": data[45:]}
    settings = replace(QUICK, letters=16)
    metrics, _ = finetune.finetune(start, TASKS["tagging"], parts, tmp_path / "out", settings)
    assert metrics["dev"][0]["accuracy"] > 0.95


def test_a_crf_cannot_weigh_classes(start, tmp_path):
    data = {"train": list(sentences()), "dev": list(sentences())}
    settings = replace(QUICK, class_weights="balanced")
    with pytest.raises(ValueError, match="--class-weights does not work with this task"):
        finetune.finetune(start, TASKS["crf-tagging"], data, tmp_path / "out", settings)


def test_the_tags_of_a_sentence_do_not_depend_on_padding():
    model = word2vec.Word2VecCRFTagger(
        word2vec.Config(vocab_size=8, width=5, tagger_width=4, labels=("A", "B", "C"), letters=3)
    )
    params = model.init(jax.random.key(0), np.zeros((1, 8), np.int32))["params"]
    draw = np.random.default_rng(0)
    params = jax.tree.map(lambda x: draw.normal(0, 0.3, x.shape).astype(np.float32), params)
    tokens = draw.integers(0, 8, (1, 9, 51)).astype(np.int32)
    documents = np.array([[0, 0, 1, 1, 1, 1, 0, 0, 0]], np.int32)
    apply = jax.jit(lambda t, d: model.apply({"params": params}, t, None, d))
    padded = apply(tokens, documents)[:, 2:6]
    alone = apply(tokens[:, 2:6], documents[:, 2:6])
    np.testing.assert_allclose(padded, alone, atol=1e-6)
    assert any(path.startswith("crf/") for path in flatten(params))


def letters(architecture):
    """A tiny ELMo or Flair with random weights, as pretraining leaves it."""
    if architecture is elmo:
        config = elmo.Config(
            vocab_size=300,
            width=32,
            cell_width=16,
            filters=((1, 8), (2, 16)),
            num_highway=1,
            tagger_width=8,
        )
        tokenizer = units.words(["<unk>", "</s>", "a"])
    else:
        config = flair.Config(vocab_size=40, width=32, embed_width=8, tagger_width=8)
        alphabet = "abcdefghijklmnopqrstuvwxyz"
        tokenizer = units.characters(["<unk>", "</s>", "\n", " ", *alphabet])
    model = architecture.Model(config)
    params = model.init(jax.random.key(0), np.zeros((1, 8), np.int32))["params"]
    draw = np.random.default_rng(0)
    params = jax.tree.map(lambda x: draw.normal(0, 0.5, x.shape).astype(np.float32), params)
    return zoo.Loaded(model, params, tokenizer)


@pytest.mark.parametrize(("architecture", "stacked"), [(elmo, True), (flair, False)])
def test_a_tagger_learns_on_frozen_states_with_word_vectors_beside(
    architecture, stacked, start, tmp_path
):
    loaded = letters(architecture)
    zoo.save(loaded, tmp_path / "start")
    data = {"train": list(sentences()), "dev": list(sentences())}
    settings = replace(QUICK, epochs=20.0, stack=str(start) if stacked else None)
    metrics, _ = finetune.finetune(
        tmp_path / "start", TASKS["crf-tagging"], data, tmp_path / "out", settings
    )
    assert metrics["dev"][0]["accuracy"] > 0.7  # on states of random weights; by chance, a third
    tagger = zoo.load(tmp_path / "out")
    trunk = flatten(tagger.params["trunk"])
    for path, x in flatten(loaded.params["trunk"]).items():
        np.testing.assert_array_equal(trunk[path], x)
    assert [tag.word for tag in zoo.tag(tagger, ["the", "dog", "ran"])] == ["the", "dog", "ran"]
    assert ("vectors" in tagger.params) == stacked
    if stacked:
        vectors = zoo.load(start).params["words"]
        np.testing.assert_array_equal(tagger.params["vectors"], vectors)
        again, _ = finetune.load(tmp_path / "out", TASKS["crf-tagging"], None, QUICK)
        assert again.tokenizer.target.token_to_id("dog") == WORDS.index("dog") + 2
    if architecture is elmo:
        mixed = zoo.embed_words(tagger, "the dog", layer="mix")
        layers = [zoo.embed_words(tagger, "the dog", layer=layer) for layer in (0, 1, 2)]
        weights, scale = (np.asarray(tagger.params["mix"][n]) for n in ("weights", "scale"))
        assert np.abs(weights).max() > 0
        shares = np.exp(weights) / np.exp(weights).sum()
        expected = scale * sum(share * x for share, x in zip(shares, layers, strict=True))
        np.testing.assert_allclose(mixed, expected, atol=1e-5)


def test_a_mix_of_layers_needs_a_tagger_that_learned_one():
    with pytest.raises(ValueError, match="ELMoLM has learned no mix of its layers"):
        zoo.embed(letters(elmo), "a text", layer="mix")


def test_only_taggers_that_read_letters_have_vectors_beside_them(start, tmp_path):
    data = {"train": list(sentences()), "dev": list(sentences())}
    settings = replace(QUICK, stack=str(start))
    with pytest.raises(ValueError, match="--stack is for taggers on ELMo and Flair, not a Word2"):
        finetune.finetune(start, TASKS["tagging"], data, tmp_path / "out", settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reinit": 1}, "--reinit needs --unfreeze all, not head"),
        ({"layer_decay": 0.5}, "--layer-decay has no effect with --unfreeze head"),
    ],
    ids=str,
)
def test_what_needs_all_layers_is_refused_where_the_default_trains_the_head(
    change, message, tmp_path
):
    zoo.save(letters(flair), tmp_path / "start")
    settings = replace(QUICK, **change)
    start = tmp_path / "start", TASKS["tagging"], ("D", "N")
    with pytest.raises(ValueError, match=message):
        finetune.load(*start, settings)
    finetune.load(*start, replace(settings, unfreeze="all"))
    finetune.load(*start, replace(QUICK, scratch=True, layer_decay=0.5))


@pytest.mark.parametrize("architecture", [elmo, flair])
def test_the_vectors_of_a_sentence_do_not_depend_on_its_companions(architecture):
    loaded = letters(architecture)
    together = zoo.embed_words(loaded, ["a", "the bank of the river", "one two"])
    alone = [zoo.embed_words(loaded, text) for text in ("a", "the bank of the river", "one two")]
    for x, y in zip(together, alone, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)
    np.testing.assert_allclose(zoo.embed(loaded, "one two"), alone[2].mean(0), atol=1e-6)


def test_a_word_of_more_than_48_bytes_is_cut_with_a_warning():
    with pytest.warns(UserWarning, match="1 words have more than 48 bytes and are truncated"):
        zoo.embed_words(letters(elmo), "a " + "b" * 60)
