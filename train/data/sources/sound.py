"""Sources of sound, as texts with one character per sample, its mu-law level.

A document is a second of sound. No token stands between documents, so recordings are one long
sequence; their seconds are only where a corpus can be split.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from train.data.sources.source import Source
from zoo.formats import wav
from zoo.tokenizers import mu_law


class SoundSource(Source):
    """Sound.

    Attributes:
      rate: The number of samples per second, the same throughout.
    """

    kind: ClassVar[str] = "sound"
    rate: int

    @abstractmethod
    def seconds(self) -> Iterator[np.ndarray]:
        """Yield samples from -1 to 1, about a second at a time."""

    def documents(self) -> Iterator[str]:
        return (mu_law.to_text(mu_law.encode(samples)) for samples in self.seconds())

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(str(self.rate).encode())
        for samples in self.seconds():
            digest.update(mu_law.encode(samples).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Samples(SoundSource):
    """Sound in memory: samples from -1 to 1."""

    samples: np.ndarray
    rate: int

    def seconds(self) -> Iterator[np.ndarray]:
        starts = range(0, len(self.samples), self.rate)
        return (self.samples[start : start + self.rate] for start in starts)


@dataclass(frozen=True)
class WaveFiles(SoundSource):
    """Sound files, one after the other."""

    paths: tuple[Path, ...]
    rate: int

    def seconds(self) -> Iterator[np.ndarray]:
        return (samples for path in self.paths for samples in wav.blocks(path))


def files(paths: Sequence[str | Path]) -> WaveFiles:
    """Return a source of sound files: `.wav` with 16-bit PCM samples; channels are averaged.

    Raises:
      FileNotFoundError: If a file does not exist.
      ValueError: If a file has another format, or another number of samples per second.
    """
    rates = {Path(path): wav.rate(path) for path in paths}
    (first, rate), *others = rates.items()
    for path, other in others:
        if other != rate:
            raise ValueError(
                f"{path} has {other} samples per second, but {first} has {rate}: resample one"
            )
    return WaveFiles(tuple(rates), rate)
