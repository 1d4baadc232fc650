"""Generation of sound with a model of its levels, sample by sample."""

from typing import NamedTuple

import numpy as np

from zoo.checkpoints.load import Loaded
from zoo.contracts import SoundModel
from zoo.inference.generate import generate_ids
from zoo.tokenizers import mu_law


class Sound(NamedTuple):
    """Samples from -1 to 1, float32, and their number per second."""

    samples: np.ndarray
    rate: int


def generate_sound(
    loaded: Loaded, seconds: float = 1.0, *, temperature: float = 1.0, seed: int = 0
) -> Sound:
    """Return sound that a model generates after silence.

    Args:
      loaded: A model of sound.
      seconds: The length of the sound.
      temperature: Below 1: more conservative. Above 1: more random. 0: greedy.
      seed: Random seed of the samples.

    Raises:
      ValueError: If the model is not one of sound, or there is not a single sample to generate.
    """
    model = loaded.model
    if not isinstance(model, SoundModel):
        raise ValueError(f"{type(model).__name__} does not generate sound: use a WaveNetSound")
    if not seconds * model.rate > 0.5:  # which NaN is not either
        raise ValueError(f"seconds must be at least {1 / model.rate}, not {seconds}")
    if seconds * model.rate >= 1 << 31:
        raise ValueError(f"seconds must be less than {(1 << 31) / model.rate:,.0f}, not {seconds}")
    count = round(seconds * model.rate)
    (levels,) = generate_ids(
        model,
        loaded.params,
        [[mu_law.SILENCE]],
        max_new_tokens=count,
        temperature=temperature,
        seed=seed,
    )
    return Sound(mu_law.decode(np.array(levels)), model.rate)
