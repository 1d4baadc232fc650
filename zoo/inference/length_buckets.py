"""Length buckets: the few lengths that sequences are padded to.

Each new length compiles a new program, so lengths are rounded up to a bucket boundary. The
boundaries grow by 3/2 and 4/3 in turn, so at most a third of a padded row is padding, except in
rows of fewer than 6 tokens. A length that few sequences have is not worth a program.
"""

import bisect
from collections import Counter
from collections.abc import Sequence

import jax
import numpy as np

SHORTEST = 8
# On an accelerator a program takes some 20 s to compile, in which it does hundreds of batches.
ACCELERATED = 32


def bucket_boundaries(longest: int) -> list[int]:
    """Return the lengths to pad to: 8, 12, 16, 24, 32, 48, 64, 96, ... and `longest`, the last.

    Args:
      longest: The maximum length of a sequence.
    """
    if longest < 1:
        raise ValueError(f"the maximum length must be at least 1 token, not {longest}")
    boundaries, power = [], SHORTEST
    while power < longest:
        boundaries += [power, power * 3 // 2]
        power *= 2
    return [*(boundary for boundary in boundaries if boundary < longest), longest]


def bucket(length: int, longest: int) -> int:
    """Return the length to pad a sequence of `length` tokens to: the first boundary that fits.

    Raises:
      ValueError: If the sequence is longer than `longest`.
    """
    boundaries = bucket_boundaries(longest)
    if length > longest:
        raise ValueError(f"a sequence of {length} tokens exceeds the maximum length of {longest}")
    return boundaries[bisect.bisect_left(boundaries, length)]


def least(batches: int) -> int:
    """Return how many batches pay for compiling their length, given how many do on a CPU."""
    return batches if jax.default_backend() == "cpu" else batches * ACCELERATED


def aligned(lengths: np.ndarray, longest: int) -> np.ndarray:
    """Return lengths, rounded up on an accelerator to multiples of 8, whose products are fast."""
    multiple = 1 if jax.default_backend() == "cpu" else SHORTEST
    return np.minimum(-(-lengths // multiple) * multiple, longest)


def merged(lengths: Sequence[int], count: int) -> list[int]:
    """Round lengths that occur fewer than `count` times up to the next longer one.

    They count towards that length. The longest length stays.
    """
    counts, pending = Counter(lengths), list[int]()
    longer: dict[int, int] = {}
    for length in sorted(counts):
        pending.append(length)
        if sum(counts[each] for each in pending) >= count or length == max(counts):
            longer |= dict.fromkeys(pending, length)
            pending = []
    return [longer[length] for length in lengths]
