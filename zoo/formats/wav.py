"""Sound files: `.wav` with uncompressed 16-bit samples (PCM)."""

import contextlib
import wave
from collections.abc import Iterator
from os import PathLike

import numpy as np

from zoo import untrusted

SCALE = 1 << 15  # the samples of a file are integers from -SCALE to SCALE - 1
SAMPLE_BYTES = 2


def rate(path: str | PathLike) -> int:
    """Return the samples per second of a file; the errors are those of `blocks`."""
    with _opened(path) as file:
        return file.getframerate()


def blocks(path: str | PathLike) -> Iterator[np.ndarray]:
    """Yield the samples of a file, from -1 to 1, second by second: float32, the mean of channels.

    Raises:
      FileNotFoundError: If the file does not exist.
      ValueError: If it is not a `.wav` file with 16-bit PCM samples.
    """
    with _opened(path) as file:
        while content := file.readframes(file.getframerate()):
            if len(content) % (SAMPLE_BYTES * file.getnchannels()):
                raise EOFError
            channels = np.frombuffer(content, "<i2").reshape(-1, file.getnchannels())
            yield channels.mean(1, dtype=np.float32) / SCALE


def write(path: str | PathLike, samples: np.ndarray, rate: int) -> None:
    """Write samples from -1 to 1 as a file with one channel; those outside are clipped."""
    integers = np.clip(np.round(samples * SCALE), -SCALE, SCALE - 1).astype("<i2")
    with open(path, "wb") as raw, wave.open(raw, "wb") as file:
        file.setparams((1, SAMPLE_BYTES, rate, len(integers), "NONE", "not compressed"))
        file.writeframes(integers.tobytes())


@contextlib.contextmanager
def _opened(path: str | PathLike) -> Iterator[wave.Wave_read]:
    untrusted.check_file(path, "sound")
    try:
        with wave.open(str(path), "rb") as file:
            if file.getsampwidth() != SAMPLE_BYTES:
                raise wave.Error(f"samples of {8 * file.getsampwidth()} bits")
            yield file
    except (wave.Error, EOFError) as error:
        reason = str(error) or "it is truncated"
        raise ValueError(f"{path} is not a 16-bit PCM .wav file ({reason}): convert it") from None
