"""The tables of an n-gram model, from counts and estimates; pruning."""

from collections.abc import Sequence

import numpy as np

from train.counting.counts import Level
from train.counting.estimators import Estimates


def kept(levels: Sequence[Level], prune: Sequence[int]) -> list[np.ndarray]:
    """Return which n-grams of every order remain, by the rule of KenLM's --prune.

    Args:
      levels: The n-grams.
      prune: For every order, the highest count that is pruned, such as (0, 0, 1). The last number
        is also that of the orders above. Order 1 keeps the whole vocabulary.

    Raises:
      ValueError: If the numbers do not fit.
    """
    check_prune(prune, len(levels))
    most = [*prune, *[prune[-1] if prune else 0] * (len(levels) - len(prune))]
    above = [level.counts > number for level, number in zip(levels, most, strict=True)]
    return [np.ones_like(above[0]), *above[1:]]


def check_prune(prune: Sequence[int], order: int) -> None:
    """Raise ValueError if `prune` is not a rule of at most `order` numbers."""
    shown = " ".join(map(str, prune))
    if len(prune) > order:
        raise ValueError(
            f"--prune {shown} has {len(prune)} numbers, but the order is {order}: give one number "
            "per order, or fewer; the last is repeated"
        )
    if prune and prune[0] != 0:
        raise ValueError(
            f"--prune {shown}: the first number must be 0; use --min-count or --vocab-size to "
            "leave out words"
        )
    if list(prune) != sorted(prune):
        raise ValueError(
            f"--prune {shown}: a number must not be lower than the one before it, because an "
            "n-gram needs those that it consists of"
        )


def tables(
    levels: Sequence[Level], estimates: Estimates, kept: Sequence[np.ndarray]
) -> dict[str, dict[str, np.ndarray]]:
    """Return the tables in the form of zoo/models/ngram.py, with the n-grams that are kept."""
    result: dict[str, dict[str, np.ndarray]] = {}
    for n, (level, is_kept, p) in enumerate(zip(levels, kept, estimates.p, strict=True), 1):
        table = {}
        if n > 1:
            before = np.concatenate([[0], np.cumsum(is_kept)])[level.first]
            starts = before[:-1][kept[n - 2]]
            table["first"] = np.append(starts, before[-1]).astype(np.int32)
            table["last"] = level.last[is_kept]
        table["p"] = p[is_kept].astype(np.float32)
        if n < len(levels):
            table["b"] = estimates.b[n - 1][is_kept].astype(np.float32)
        result[f"order_{n}"] = table
    return result
