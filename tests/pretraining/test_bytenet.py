"""Runs of ByteNets on characters, from a text to a model folder."""

import itertools
from dataclasses import replace

import zoo
from train.data.sources import text
from train.data.sources.parallel_text import PairStrings
from train.optimization import schedules
from train.pretraining import pretrain
from train.recipes import recipe

TEXTS = ["the cat sat on the mat.\nthe dog sat on the cat.\n" * 12] * 3
WORDS = ["".join(letters) for letters in itertools.product("abc", repeat=3)]


def small(name, **config):
    """Return a recipe with a small model and few steps."""
    run = recipe(name)
    sizes = replace(run.config, num_layers=1, width=32, **config)
    run = replace(run, config=sizes, schedule=lambda steps: schedules.constant(1e-2))
    fields = {"batch": 8, "length": 16, "steps": 60, "evaluate_every": 60, "save_every": 60}
    return replace(run, report_every=20, **fields)


def test_a_language_model_trains_on_characters_and_generates(tmp_path):
    dev = text.strings(TEXTS[:1])
    metrics = pretrain.pretrain(small("bytenet"), text.strings(TEXTS), tmp_path / "run", dev=dev)
    assert metrics["loss"] < 1
    loaded = zoo.load(tmp_path / "run")
    letters = len({*TEXTS[0]})
    assert loaded.model.config.vocab_size == loaded.tokenizer.get_vocab_size() == letters + 2
    assert isinstance(zoo.generate(loaded, "the c", max_new_tokens=5), str)


def test_a_translator_trains_on_the_characters_of_each_side_and_translates(tmp_path):
    pairs = PairStrings(tuple((word, word.upper() + "!") for word in WORDS * 4))
    run = small("bytenet-translator", num_decoder_layers=1)
    pretrain.pretrain(run, pairs, tmp_path / "run", dev=pairs)
    loaded = zoo.load(tmp_path / "run")
    assert loaded.tokenizer.source.get_vocab_size() == 2 + 3
    assert loaded.model.config.vocab_size == loaded.tokenizer.target.get_vocab_size() == 2 + 4
    assert zoo.translate(loaded, "bca", beams=2) == "BCA!"
