"""A fixed permutation of integers that looks random, so that sorting by it shuffles."""

from typing import NamedTuple

import numpy as np

# Odd numbers without a pattern in their bits; multiplication by them mixes low bits into high ones.
FACTORS = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


class Permutation(NamedTuple):
    """A permutation of the integers below 2 ** bits, for 2 to 63 bits.

    Every round multiplies modulo 2 ** bits and mixes the high half of the bits into the low half.
    Both can be undone, so different integers stay different.
    """

    bits: int

    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        """Return the places of integers: int64."""
        x = numbers.astype(np.uint64)
        for factor in FACTORS:
            x = self._times(x, factor)
            x ^= x >> np.uint64(-(-self.bits // 2))
        return x.astype(np.int64)

    def inverse(self, places: np.ndarray) -> np.ndarray:
        """Return the integers at places: int64."""
        x = places.astype(np.uint64)
        for factor in reversed(FACTORS):
            x ^= x >> np.uint64(-(-self.bits // 2))
            x = self._times(x, pow(factor, -1, 1 << self.bits))
        return x.astype(np.int64)

    def _times(self, x: np.ndarray, factor: int) -> np.ndarray:
        size = 1 << self.bits
        return x * np.uint64(factor % size) & np.uint64(size - 1)
