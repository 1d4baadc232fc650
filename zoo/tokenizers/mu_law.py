"""Mu-law companding: a waveform as one of 256 levels per sample (ITU-T 1988, G.711).

The levels are denser near zero, as loudness is heard (van den Oord et al. 2016, section 2.2,
https://arxiv.org/abs/1609.03499).

Each level is one character: the Unicode block of Braille patterns has exactly 256, none of which is
white space. So a waveform is a text of levels, and corpora, tokenizers and model folders need
nothing of their own for sound.
"""

import numpy as np
from tokenizers import Tokenizer

from zoo.tokenizers import units

LEVELS, MU = 256, 255
FIRST = 0x2800  # the code point of the first Braille pattern


def encode(samples: np.ndarray) -> np.ndarray:
    """Return the levels, uint8, of samples from -1 to 1; those outside are clipped."""
    clipped = np.clip(samples, -1, 1)
    compressed = np.sign(clipped) * np.log1p(MU * np.abs(clipped)) / np.log1p(MU)
    return np.floor((compressed + 1) / 2 * MU + 0.5).astype(np.uint8)


def decode(levels: np.ndarray) -> np.ndarray:
    """Return the samples of levels, float32 from -1 to 1."""
    compressed = np.asarray(levels, np.float64) / MU * 2 - 1
    magnitude = (LEVELS ** np.abs(compressed) - 1) / MU
    return (np.sign(compressed) * magnitude).astype(np.float32)


SILENCE = int(encode(np.zeros(1))[0])


def to_text(levels: np.ndarray) -> str:
    """Return one character per level."""
    return (levels.astype("<u2") + FIRST).tobytes().decode("utf-16-le")


def tokenizer() -> Tokenizer:
    """Return the tokenizer of such texts, whose ids are the levels."""
    return units.characters([chr(FIRST + level) for level in range(LEVELS)])
