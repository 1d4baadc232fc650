"""Files of sound: what is written is read, and other formats are one line."""

import wave

import numpy as np
import pytest

from zoo.formats import wav

SAMPLES = np.random.default_rng(0).uniform(-1, 1, 2500).astype(np.float32)


def _write(path, channels: int, sample_bytes: int, content: bytes):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(sample_bytes)
        file.setframerate(1000)
        file.writeframes(content)
    return path


def test_samples_are_read_as_they_were_written_second_by_second(tmp_path):
    wav.write(tmp_path / "a.wav", SAMPLES, 1000)
    assert wav.rate(tmp_path / "a.wav") == 1000
    blocks = list(wav.blocks(tmp_path / "a.wav"))
    assert [len(block) for block in blocks] == [1000, 1000, 500]
    np.testing.assert_allclose(np.concatenate(blocks), SAMPLES, atol=0.51 / wav.SCALE)


def test_samples_that_are_too_loud_are_clipped(tmp_path):
    wav.write(tmp_path / "a.wav", np.array([-2.0, 2.0]), 1000)
    np.testing.assert_allclose(next(wav.blocks(tmp_path / "a.wav")), [-1, 1], atol=1e-4)


def test_channels_are_averaged(tmp_path):
    left_right = np.array([[1000, 3000], [-500, 500]], "<i2")
    path = _write(tmp_path / "a.wav", 2, 2, left_right.tobytes())
    np.testing.assert_allclose(next(wav.blocks(path)), np.array([2000, 0]) / wav.SCALE)


def test_other_formats_are_one_line(tmp_path):
    deep = _write(tmp_path / "deep.wav", 1, 3, bytes(30))
    with pytest.raises(ValueError, match=r"deep.wav is not a 16-bit PCM .wav file \(samples of 24"):
        wav.rate(deep)
    for name, content in (("text.wav", b"no sound"), ("empty.wav", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} is not a 16-bit PCM .wav file \(.*\): con"):
            next(wav.blocks(tmp_path / name))
    floats = bytearray(_write(tmp_path / "a.wav", 1, 2, bytes(20)).read_bytes())
    floats[20] = 3  # the number of the format: floating point
    (tmp_path / "floats.wav").write_bytes(floats)
    with pytest.raises(ValueError, match=r"floats.wav is not a 16-bit PCM .wav file \(unknown fo"):
        wav.rate(tmp_path / "floats.wav")
    with pytest.raises(FileNotFoundError, match=r"^no such sound file: "):
        wav.rate(tmp_path / "none.wav")
