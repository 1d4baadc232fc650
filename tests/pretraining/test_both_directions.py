"""Runs of language models of both directions, from a text to a model folder."""

from dataclasses import replace

import numpy as np
import pytest

import zoo
from train.data.sources import text
from train.optimization import schedules
from train.pretraining import evaluate, pretrain
from train.recipes import recipe
from train.recipes.recipe import with_fields
from zoo.models import flair
from zoo.params import flatten
from zoo.tokenizers import units, word_bytes

TEXTS = ["the cat sat on the mat .\nthe dog sat on the cat .\n" * 12] * 3
SOURCE, DEV = text.strings(TEXTS), text.strings(TEXTS[:1])
TINY = {"batch": 4, "length": 8, "steps": 80, "evaluate_every": 80, "save_every": 80}


def small(name, **config):
    """Return a recipe with a small model and few steps."""
    run = recipe(name)
    sizes = replace(run.config, width=16, embed_width=4, **config)
    constant = lambda steps: schedules.constant(2e-2)
    return replace(run, config=sizes, epochs=None, schedule=constant, report_every=10, **TINY)


def test_elmo_trains_on_words_and_its_folder_is_evaluated(tmp_path):
    run = small("elmo-tiny", cell_width=16, filters=((1, 4), (2, 4)))
    run = replace(run, samples=6)
    metrics = pretrain.pretrain(run, SOURCE, tmp_path / "run", dev=DEV)
    assert metrics["loss"] < 1.5
    model, params, tokenizer = zoo.load(tmp_path / "run")
    assert model.config.filters == ((1, 4), (2, 4))
    assert model.config.vocab_size == tokenizer.get_vocab_size() == 10
    assert params["head"]["embedding"].shape == (10, 8)
    held_out = evaluate.evaluate(tmp_path / "run", DEV, batch_size=4, length=8)
    assert held_out["loss"] == pytest.approx(metrics["loss"], rel=1e-5)
    assert "bits_per_byte" in held_out


def test_the_objective_of_elmo_spells_its_vocabulary():
    run = small("elmo-tiny")
    tokenizer = run.train_tokenizer(TEXTS)
    characters_VC = run.objective(tokenizer).characters_VC
    assert len(characters_VC) == tokenizer.get_vocab_size()
    marks = word_bytes.spell_sentence(["cat"])
    for row, word in zip(marks, ("</s>", "cat", "<eos>"), strict=True):
        assert (characters_VC[tokenizer.token_to_id(word)] == row).all()


def test_flair_trains_on_characters_and_generates(tmp_path):
    metrics = pretrain.pretrain(small("flair-tiny"), SOURCE, tmp_path / "run", dev=DEV)
    loaded = zoo.load(tmp_path / "run")
    assert loaded.tokenizer.token_to_id("\n") == flair.LINE_END
    assert loaded.tokenizer.token_to_id(" ") == flair.BLANK
    assert loaded.model.config.vocab_size == loaded.tokenizer.get_vocab_size()
    assert metrics["loss"] < 1.5
    generated = zoo.generate(loaded, "the", max_new_tokens=5)
    assert isinstance(generated, str)
    assert any("backward" in path for path in flatten(loaded.params))


def test_a_text_without_line_ends_keeps_the_vocabulary_of_flair_within_its_size():
    run = small("flair-tiny")
    run = replace(run, config=replace(run.config, vocab_size=6))
    tokenizer = run.train_tokenizer(["abcabcabc"])
    assert tokenizer.get_vocab_size() == 6
    flair.check_tokenizer(tokenizer)
    with pytest.raises(ValueError, match="use the tokenizer of a Flair model"):
        run.objective(units.characters(["<unk>", "</s>", "a", "b"]))


def test_samples_are_refused_where_no_softmax_can_be_sampled():
    for name in ("gpt2-tiny", "lstm-lm-tiny", "elmo-tiny"):
        assert with_fields(recipe(name), samples=7).samples == 7
        assert with_fields(recipe(name), samples=0).samples == 0
    assert "samples" not in recipe("gpt2-tiny").identity()
    assert with_fields(recipe("gpt2-tiny"), samples=7).identity()["samples"] == 7
    with pytest.raises(ValueError, match=r"^bert-tiny is not trained with .*: leave out --samples"):
        with_fields(recipe("bert-tiny"), samples=7)
    with pytest.raises(ValueError, match=r"^--samples must be at least 0, not -1"):
        with_fields(recipe("elmo-tiny"), samples=-1)


def test_the_learning_rate_of_flair_falls_to_a_quarter_five_times():
    run = recipe("flair-2048")
    schedule = run.schedule(1000)
    rates = [float(schedule(step)) for step in (0, 499, 500, 600, 700, 800, 900, 999)]
    np.testing.assert_allclose(rates, 40 / 4.0 ** np.array([0, 0, 1, 2, 3, 4, 5, 5]), rtol=1e-5)
