"""The built-in sound: a synthetic instrument that plays a random melody.

A note is a sum of harmonics that decay, the higher ones faster. The next note is one or two steps
of a pentatonic scale away from the one before.
"""

import numpy as np

from train.data.sources.sound import Samples

RATE = 8000  # samples per second
NOTE = 2000  # samples per note
SCALE = (0, 2, 4, 7, 9, 12, 14, 16, 19, 21, 24)  # in semitones above LOWEST
LOWEST = 220.0  # in hertz
STEPS = (-2, -1, 1, 2)
HARMONICS, DECAY = 4, 6.0  # harmonic n falls by a factor of e in 1 / (n DECAY) seconds


def read(seconds: int = 60, seed: int = 0) -> Samples:
    """Return the sound of so many seconds; the same seed gives the same melody."""
    count = seconds * RATE // NOTE
    # The raw output of a bit generator is stable across numpy versions, np.random.Generator is not.
    draws = np.random.PCG64(seed).random_raw(count) % len(STEPS)
    notes, index = [], len(SCALE) // 2
    for draw in draws.tolist():
        index += STEPS[draw] if 0 <= index + STEPS[draw] < len(SCALE) else -STEPS[draw]
        notes.append(note(LOWEST * 2 ** (SCALE[index] / 12)))
    return Samples(np.concatenate(notes), RATE)


def note(pitch: float) -> np.ndarray:
    """Return the samples of a note, given its pitch in hertz."""
    time = np.arange(NOTE) / RATE
    waves = [
        0.5**n * np.exp(-n * DECAY * time) * np.sin(2 * np.pi * n * pitch * time)
        for n in range(1, HARMONICS + 1)
    ]
    return np.sum(waves, 0).astype(np.float32)
