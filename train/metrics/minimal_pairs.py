"""The accuracy of a language model on minimal pairs (Warstadt et al. 2019, BLiMP)."""

from collections.abc import Sequence

import numpy as np

from train.data.examples.minimal_pairs import MinimalPair


def correct(good: Sequence[float], bad: Sequence[float]) -> np.ndarray:
    """Return 1 for every pair whose good sentence is more probable, 1/2 for a tie, else 0."""
    good_N, bad_N = np.asarray(good), np.asarray(bad)
    return (good_N > bad_N) + 0.5 * (good_N == bad_N)


def accuracy(
    pairs: Sequence[MinimalPair], good: Sequence[float], bad: Sequence[float]
) -> dict[str, float]:
    """Return the accuracy of each paradigm, the mean of each field and of all paradigms.

    Args:
      pairs: The pairs.
      good: The log probability of the good sentence of each pair.
      bad: That of the bad one.

    Returns:
      Name -> accuracy: paradigms, then fields, then "all". Unnamed ones are left out.
    """
    correct_N = correct(good, bad)
    paradigms = {}
    for paradigm in dict.fromkeys(pair.paradigm for pair in pairs):
        is_of_it = [pair.paradigm == paradigm for pair in pairs]
        paradigms[paradigm] = float(correct_N[is_of_it].mean())
    field_of = {pair.paradigm: pair.field for pair in pairs}
    fields = {
        field: float(np.mean([p for name, p in paradigms.items() if field_of[name] == field]))
        for field in dict.fromkeys(field_of.values())
    }
    named = {name: value for name, value in (paradigms | fields).items() if name}
    return {**named, "all": float(np.mean(list(paradigms.values())))}
