"""The built-in sound: a synthetic instrument that plays a random melody.

A note is a sum of harmonics that decay, the higher ones faster. The next note is one or two steps
of a pentatonic scale away from the one before. Notes are a little out of tune and differ in
loudness and phase, so that no two have the same samples, and the sound cannot be learned by heart.
"""

import numpy as np

from train.data.sources.sound import Samples

RATE = 8000  # samples per second
NOTES = 4  # per second
SCALE = (0, 2, 4, 7, 9, 12, 14, 16, 19, 21, 24)  # in semitones above LOWEST
LOWEST = 220.0  # in hertz
STEPS = (-2, -1, 1, 2)
DETUNING = 0.5  # at most, in semitones
SOFTEST, LOUDEST = 0.4, 1.0
HARMONICS, DECAY = 4, 6.0  # harmonic n falls by a factor of e in 1 / (n DECAY) seconds


def read(seconds: int = 60, seed: int = 0, rate: int = RATE) -> Samples:
    """Return the sound of so many seconds; the same seed gives the same melody at any rate."""
    count = seconds * NOTES
    # The raw output of a bit generator is stable across numpy versions, np.random.Generator is not.
    draws = np.random.PCG64(seed).random_raw(4 * count).reshape(count, 4) / 2.0**64
    notes, index = [], len(SCALE) // 2
    for step, tuning, loudness, phase in draws.tolist():
        move = STEPS[int(step * len(STEPS))]
        index += move if 0 <= index + move < len(SCALE) else -move
        pitch = LOWEST * 2 ** ((SCALE[index] + DETUNING * (2 * tuning - 1)) / 12)
        notes.append((SOFTEST + (LOUDEST - SOFTEST) * loudness) * note(pitch, phase, rate))
    return Samples(np.concatenate(notes), rate)


def note(pitch: float, phase: float, rate: int) -> np.ndarray:
    """Return the samples of a note, given its pitch in hertz, and its phase from 0 to 1."""
    time = np.arange(rate // NOTES) / rate
    harmonics = [
        0.5**n * np.exp(-n * DECAY * time) * np.sin(2 * np.pi * n * (pitch * time + phase))
        for n in range(1, HARMONICS + 1)
    ]
    return np.sum(harmonics, 0).astype(np.float32)
