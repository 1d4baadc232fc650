"""Mu-law levels: the formula of the paper, and one character per level."""

import math

import numpy as np
import pytest

from zoo.tokenizers import mu_law

ALL = np.arange(256, dtype=np.uint8)


@pytest.mark.parametrize(("x", "level"), [(-1, 0), (0, 128), (1, 255), (2, 255), (-7, 0)])
def test_the_levels_of_silence_and_of_the_loudest_samples(x, level):
    assert mu_law.encode(np.array([x], np.float32))[0] == level
    assert mu_law.SILENCE == 128


def test_levels_follow_the_formula():
    for x in (-0.7, -0.01, 0.003, 0.25, 0.9):
        f = math.copysign(math.log(1 + 255 * abs(x)) / math.log(256), x)
        assert mu_law.encode(np.array([x]))[0] == round((f + 1) / 2 * 255)


def test_levels_are_those_of_their_samples():
    samples = mu_law.decode(ALL)
    assert samples.dtype == np.float32
    assert (mu_law.encode(samples) == ALL).all()
    assert (np.diff(samples) > 0).all()
    assert (samples[0], samples[-1]) == (-1, 1)


def test_the_error_of_a_level_is_relative_to_the_sample():
    samples = np.random.default_rng(0).uniform(-1, 1, 1000)
    error = np.abs(mu_law.decode(mu_law.encode(samples)) - samples)
    # Half of a step of the logarithm of 1 + 255 x, of which there are 127.5 up to the largest.
    assert (error <= (1 / 255 + np.abs(samples)) * (256 ** (0.5 / 127.5) - 1) + 1e-6).all()


def test_the_tokens_of_a_text_are_its_levels():
    text = mu_law.to_text(ALL)
    assert len(text) == len(set(text)) == 256
    assert not any(character.isspace() for character in text)
    encoding = mu_law.tokenizer().encode(text, add_special_tokens=False)
    assert encoding.ids == ALL.tolist()
    assert mu_law.tokenizer().get_vocab_size() == mu_law.LEVELS
