"""Sources of sound: one character per sample, one document per second."""

import numpy as np
import pytest

from train.data.sources import melody, sound
from zoo.formats import wav
from zoo.tokenizers import mu_law

SAMPLES = np.random.default_rng(0).uniform(-1, 1, 2500).astype(np.float32)


def test_files_and_samples_in_memory_give_the_same_levels(tmp_path):
    levels = mu_law.encode(SAMPLES)
    wav.write(tmp_path / "a.wav", mu_law.decode(levels)[:2000], 1000)
    wav.write(tmp_path / "b.wav", mu_law.decode(levels)[2000:], 1000)
    source = sound.files([tmp_path / "a.wav", tmp_path / "b.wav"])
    memory = sound.Samples(SAMPLES, 1000)
    assert source.kind == memory.kind == "sound"
    assert source.rate == memory.rate == 1000
    assert [len(document) for document in source.documents()] == [1000, 1000, 500]
    assert "".join(memory.documents()) == mu_law.to_text(levels)
    assert list(source.documents()) == list(memory.documents())
    assert source.fingerprint == memory.fingerprint
    assert source.fingerprint != sound.Samples(SAMPLES, 2000).fingerprint


def test_files_of_different_rates_are_one_line(tmp_path):
    wav.write(tmp_path / "a.wav", SAMPLES, 1000)
    wav.write(tmp_path / "b.wav", SAMPLES, 2000)
    with pytest.raises(
        ValueError, match=r"b.wav has 2000 samples per second, but .*a.wav has 1000"
    ):
        sound.files([tmp_path / "a.wav", tmp_path / "b.wav"])


@pytest.mark.parametrize("rate", [8000, 16_000])
def test_the_melody_has_notes_of_a_scale_that_decay(rate):
    source = melody.read(seconds=3, rate=rate)
    assert (len(source.samples), source.rate) == (3 * rate, rate)
    assert source.fingerprint == melody.read(seconds=3, rate=rate).fingerprint
    assert source.fingerprint != melody.read(seconds=3, seed=1, rate=rate).fingerprint
    assert 0.3 < np.abs(source.samples).max() < 1
    bin_width, size = melody.NOTES, rate // melody.NOTES  # in hertz, in samples per note
    allowed = melody.LOWEST * 2 ** (np.array(melody.SCALE) / 12)
    detuned = 2 ** (melody.DETUNING / 12) - 1
    for note in source.samples.reshape(-1, size):
        pitch = np.abs(np.fft.rfft(note)).argmax() * bin_width
        assert (np.abs(pitch - allowed) <= bin_width + detuned * allowed).any()
        half = size // 2
        assert np.abs(note[half:]).max() < 0.6 * np.abs(note[:half]).max()
