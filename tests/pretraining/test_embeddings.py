"""Language models whose input tables start from word vectors."""

from dataclasses import replace

import jax
import numpy as np
import pytest

import zoo
from tests.commands.test_command_line import refusal, run
from train.data import train_tokenizer
from train.data.sources import text
from train.finetuning import finetune
from train.finetuning.settings import Settings
from train.finetuning.tasks.registry import TASKS
from train.pretraining import pretrain as pretraining
from train.pretraining.embeddings import with_embeddings
from train.pretraining.run import prepare
from train.recipes import recipe
from train.recipes.embeddings import Embeddings
from zoo.models import fasttext, word2vec
from zoo.params import flatten
from zoo.tokenizers import units

PATH = "trunk/token_embedding/embedding"
LINES = ["the old king met a new queen", "a king and a queen met the king"] * 30
WORDS = ["<unk>", "king", "queen", "castle"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def vectors(tmp_path):
    """Return the folder of some word vectors, 6 wide."""
    draw = np.random.default_rng(0)
    table = draw.normal(size=(len(WORDS), 6)).astype(np.float32)
    model = word2vec.Word2Vec(word2vec.Config(vocab_size=len(WORDS), width=6))
    zoo.save(zoo.Loaded(model, {"words": table}, units.words(WORDS)), tmp_path / "vectors")
    return tmp_path / "vectors"


def small(name="lstm-lm-tiny", **fields):
    chosen = recipe(name)
    config = replace(chosen.config, vocab_size=40, width=8, embed_width=4)
    every = {"evaluate_every": 4, "save_every": 4}
    return replace(chosen, config=config, steps=8, batch=2, length=8, **every | fields)


def pretrain(chosen, out, **options):
    pretraining.pretrain(chosen, text.strings(LINES), out, **options)
    return zoo.load(out)


def test_words_start_from_their_vectors_and_others_as_they_would(vectors, tmp_path):
    chosen = with_embeddings(small(), vectors, frozen=False)
    assert chosen.config.embed_width == 6
    started = prepare(chosen, text.strings(LINES), tmp_path / "out")
    (note,) = [line for line in started.notes if line.startswith("embeddings")]
    size = started.tokenizer.get_vocab_size()
    words = size - 2  # without <unk> and the end of a document
    of_text = 5 / 15  # king and queen, among the words of the two lines
    assert f": 2 of {words} words of the vocabulary ({2 / words:.1%}), {of_text:.1%} " in note
    table = zoo.load(vectors).params["words"]
    start = started.recipe.initial_params({})[PATH]
    for word in ("king", "queen"):
        row = start[started.tokenizer.token_to_id(word)]
        np.testing.assert_array_equal(row, table[WORDS.index(word)])
    plain = flatten(started.placement._training.init())[PATH]
    other = started.tokenizer.token_to_id("the")
    np.testing.assert_array_equal(start[other], plain[other])


@pytest.mark.parametrize("name", ["lstm-lm-tiny", "fixed-window-tiny"])
def test_a_frozen_table_does_not_change_by_a_bit(name, vectors, tmp_path):
    chosen = with_embeddings(small(name), vectors, frozen=True)
    started = prepare(chosen, text.strings(LINES), tmp_path / "prepared")
    state = flatten(started.placement.abstract.opt_state)
    assert not any("token_embedding" in path for path in state)
    loaded = pretrain(chosen, tmp_path / "frozen")
    frozen = flatten(loaded.params)
    start = started.recipe.initial_params({})[PATH]
    np.testing.assert_array_equal(frozen[PATH], start)
    trained = flatten(
        pretrain(with_embeddings(small(name), vectors, frozen=False), tmp_path / "b").params
    )
    assert np.abs(np.asarray(trained[PATH]) - start).max() > 1e-4
    changed = [path for path in frozen if path != PATH]
    init = flatten(jax.device_get(started.placement.init().params))
    assert all(np.abs(np.asarray(frozen[path]) - init[path]).max() > 0 for path in changed)


def test_fasttext_composes_the_words_that_it_does_not_know(tmp_path):
    config = fasttext.Config(vocab_size=4, width=6, buckets=30, min_n=2, max_n=3)
    model = fasttext.Model(config)
    params = jax.device_get(model.init(jax.random.key(0), np.zeros((1, 8), np.int32))["params"])
    zoo.save(zoo.Loaded(model, params, units.words(WORDS)), tmp_path / "fasttext")
    chosen = with_embeddings(small(), tmp_path / "fasttext", frozen=False)
    started = prepare(chosen, text.strings(LINES), tmp_path / "out")
    row = started.recipe.initial_params({})[PATH][started.tokenizer.token_to_id("old")]
    expected = model.word_vectors(params, ["old"], np.array([-1]))[0]
    np.testing.assert_allclose(row, expected, rtol=1e-6)


def test_a_run_resumes_only_with_the_same_vectors(vectors, tmp_path):
    chosen = with_embeddings(small(), vectors, frozen=False)
    pretrain(chosen, tmp_path / "out")
    with pytest.raises(ValueError, match="freeze_embeddings was False, is True"):
        pretrain(with_embeddings(small(), vectors, frozen=True), tmp_path / "out", resume=True)
    with pytest.raises(ValueError, match="started from word vectors: give its --embeddings again"):
        pretrain(replace(small(), config=chosen.config), tmp_path / "out", resume=True)


def test_vectors_that_do_not_fit_are_refused(vectors, tmp_path, monkeypatch, capsys):
    file = tmp_path / "text.txt"
    file.write_text("alpha beta gamma alpha beta gamma")
    started = ("pretrain", "lstm-lm-tiny", "--text", file, "--dev", file, "--out", tmp_path / "out")
    line = refusal(monkeypatch, capsys, *started, "--embeddings", vectors)
    assert "has no word of the vocabulary" in line
    line = refusal(monkeypatch, capsys, *started, "--freeze-embeddings")
    assert line == "zoo: --freeze-embeddings needs --embeddings: give the word vectors"
    line = refusal(monkeypatch, capsys, "pretrain", "gpt2-tiny", "--embeddings", vectors)
    assert "is 6 wide, but gpt2-tiny is" in line
    assert "--config width=6" in line
    model, params = zoo.create("fixed-window-tiny", jax.random.key(0))
    zoo.save(zoo.Loaded(model, params, None), tmp_path / "lm")
    line = refusal(monkeypatch, capsys, *started, "--embeddings", tmp_path / "lm")
    assert "contains a FixedWindowLM, not word vectors" in line


def test_a_command_starts_from_a_file_of_vectors(vectors, tmp_path, monkeypatch, capsys):
    file = tmp_path / "text.txt"
    file.write_text("\n\n".join(LINES))
    run(monkeypatch, "export", vectors, tmp_path / "vectors.txt")
    printed = run(
        monkeypatch, "pretrain", "fixed-window-tiny", "--text", file, "--embeddings",
        tmp_path / "vectors.txt", "--out", tmp_path / "out", "--steps", 2, "--batch", 2,
        "--length", 8, "--vocab-size", 30, read=capsys,
    )  # fmt: skip
    assert "words of the vocabulary" in printed


def test_fasttext_composes_a_word_that_it_has_in_lower_case_of_that_spelling(tmp_path):
    config = fasttext.Config(vocab_size=4, width=6, buckets=30, min_n=2, max_n=3)
    model = fasttext.FastText(config)
    params = jax.device_get(model.init(jax.random.key(0), np.zeros((1, 8), np.int32))["params"])
    vectors = zoo.Loaded(model, params, units.words(WORDS))
    ids, x_VE = Embeddings("", vectors, PATH, False).rows(units.words(["<unk>", "King"]))
    expected = model.word_vectors(params, ["king"], np.array([1]))
    assert ids.tolist() == [1]
    np.testing.assert_allclose(x_VE, expected, rtol=1e-6)


def test_of_subwords_only_whole_words_get_vectors(vectors):
    tokenizer = train_tokenizer.byte_level_bpe([*LINES, "taking king making"], 275)
    whole, piece = (tokenizer.token_to_id(token) for token in ("\u0120king", "king"))
    assert whole is not None
    ids, x_VE = Embeddings("", zoo.load(vectors), PATH, False).rows(tokenizer)
    assert whole in ids
    assert piece not in ids
    table = zoo.load(vectors).params["words"]
    np.testing.assert_array_equal(x_VE[ids.tolist().index(whole)], table[WORDS.index("king")])


def test_a_model_with_special_tokens_keeps_its_own_tokenizer(vectors, tmp_path):
    chosen = recipe("bert-tiny")
    config = replace(chosen.config, vocab_size=54, width=6)
    chosen = replace(chosen, config=config, batch=2, length=16)
    chosen = with_embeddings(chosen, vectors, frozen=False)
    started = prepare(chosen, text.strings([f"{line}." for line in LINES]), tmp_path / "out")
    assert started.tokenizer.token_to_id("[MASK]") is not None
    start = started.recipe.initial_params({})[PATH]
    table = zoo.load(vectors).params["words"]
    king = start[started.tokenizer.token_to_id("king")]
    np.testing.assert_array_equal(king, table[WORDS.index("king")])


def test_a_classifier_continues_from_a_language_model_with_vectors(vectors, tmp_path):
    loaded = pretrain(with_embeddings(small(), vectors, frozen=True), tmp_path / "lm")
    labels, settings = ("no", "yes"), Settings()
    start, new = finetune.load(tmp_path / "lm", TASKS["classification"], labels, settings)
    table = np.asarray(flatten(start.params)[PATH])
    size = loaded.model.config.vocab_size
    np.testing.assert_array_equal(table[:size], flatten(loaded.params)[PATH])
    assert not any(path.startswith("trunk/") for path in new)
