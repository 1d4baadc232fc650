"""From sound to a model of it, and back to sound."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

import zoo
from tests import tiny
from tests.tiny_task import tokenizer
from train import __main__ as cli
from train.data.sources import melody, sound
from train.pretraining.evaluate import evaluate
from train.pretraining.pretrain import pretrain
from train.recipes import recipe
from zoo.checkpoints.load import Loaded
from zoo.formats import wav
from zoo.models import wavenet
from zoo.tokenizers import mu_law

CONFIG = wavenet.Config(
    num_layers=3, width=8, gate_width=8, skip_width=12, max_dilation=4, rate=melody.RATE
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the folder of a short run on two seconds of the melody, and its metrics."""
    folder = tmp_path_factory.mktemp("sound")
    chosen = replace(
        recipe("wavenet-sound-tiny"), config=CONFIG, steps=12, batch=8, length=64, report_every=6
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(folder / "cache"))
        metrics = pretrain(chosen, melody.read(seconds=2), folder / "run")
    return folder / "run", metrics


def test_a_run_reports_the_loss_of_samples_and_saves_a_model_of_sound(run):
    folder, metrics = run
    assert set(metrics) == {"loss", "token_accuracy", "perplexity"}
    assert json.loads((folder / "model.json").read_text())["class"] == "WaveNetSound"
    loaded = zoo.load(folder)
    assert isinstance(loaded.model, wavenet.WaveNetSound)
    assert (loaded.model.rate, loaded.model.config) == (melody.RATE, CONFIG)
    assert loaded.tokenizer.get_vocab_size() == mu_law.LEVELS


def test_a_model_of_sound_is_evaluated_on_files(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    source = melody.read(seconds=1)
    levels = mu_law.decode(mu_law.encode(source.samples))
    wav.write(tmp_path / "a.wav", levels, source.rate)
    monkeypatch.setattr(sys, "argv", ["zoo", "evaluate", str(run[0]), "--sound", "a.wav"])
    monkeypatch.chdir(tmp_path)
    cli.main()
    printed = capsys.readouterr().out
    assert f"loss: {evaluate(run[0], source)['loss']:.4f}\n" in printed


def test_sound_is_generated_sample_by_sample_and_written(run, tmp_path, monkeypatch, capsys):
    loaded = zoo.load(run[0])
    samples, rate = zoo.generate_sound(loaded, 0.01, seed=3)
    assert (samples.shape, rate) == ((80,), melody.RATE)
    assert (zoo.generate_sound(loaded, 0.01, seed=3).samples == samples).all()
    assert (zoo.generate_sound(loaded, 0.01, seed=4).samples != samples).any()
    file = tmp_path / "a.wav"
    command = ["generate-sound", str(run[0]), str(file), "--seconds", "0.01", "--seed", "3"]
    monkeypatch.setattr(sys, "argv", ["zoo", *command])
    cli.main()
    assert capsys.readouterr().out == f"sound: {file}\n"
    np.testing.assert_allclose(next(wav.blocks(file)), samples, atol=1e-4)


def test_text_and_sound_are_not_mixed_up(run):
    loaded = zoo.load(run[0])
    with pytest.raises(ValueError, match=r"generates sound, not text: use zoo.generate_sound"):
        zoo.generate(loaded, "")
    text = tiny.TABLE["wavenet"].model
    with pytest.raises(ValueError, match=r"^WaveNetLM does not generate sound: use a WaveNetSound"):
        zoo.generate_sound(Loaded(text, tiny.wide(text), tokenizer()))
    for seconds in (float("inf"), 1e300):
        with pytest.raises(ValueError, match=r"^seconds must be less than 268,435, not "):
            zoo.generate_sound(loaded, seconds)
    with pytest.raises(ValueError, match=r"^seconds must be at least 0.000125, not 0$"):
        zoo.generate_sound(loaded, 0)


def test_sound_of_another_rate_is_one_line(run):
    source = sound.Samples(np.zeros(4000, np.float32), 44100)
    with pytest.raises(ValueError, match=r"44100 samples per second, but .* 8000: .* rate=44100$"):
        evaluate(run[0], source)


def test_a_source_of_another_kind_is_one_line(tmp_path, monkeypatch, capsys):
    file = str(tmp_path / "a.txt")
    for name, flag, kind, expected in (
        ("wavenet-sound-tiny", "--text", "sound", "--sound"),
        ("wavenet-tiny", "--sound", "text", "--text or --tfds"),
    ):
        monkeypatch.setattr(sys, "argv", ["zoo", "pretrain", name, flag, file])
        with pytest.raises(SystemExit):
            cli.main()
        assert capsys.readouterr().err == f"zoo: {name} is trained on {kind}: give {expected}\n"
