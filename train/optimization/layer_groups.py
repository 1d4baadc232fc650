"""Groups of parameters from input to output, and a learning rate for each of them."""

import re
from collections.abc import Sequence

import jax
import optax

from zoo.params import flatten


def groups(paths: Sequence[str], patterns: Sequence[str]) -> list[list[str]]:
    """Return the paths in groups, from input to output.

    The first pattern that matches a path determines its group. If the pattern captures a number,
    every number is a separate group.
    """
    by_key: dict[tuple[int, int], list[str]] = {}
    for path in paths:
        index, match = next(
            (number, match)
            for number, pattern in enumerate(patterns)
            if (match := re.search(pattern, path))
        )
        by_key.setdefault((index, int(match[1]) if match.groups() else 0), []).append(path)
    return [by_key[key] for key in sorted(by_key)]


def discriminative(
    optimizer: optax.GradientTransformation, patterns: Sequence[str], factor: float
) -> optax.GradientTransformation:
    """Return an optimizer whose learning rate falls by a factor from each group to the one below.

    Howard and Ruder 2018, section 3.2, where the factor is 2.6.

    Args:
      optimizer: The optimizer of the last group, whose updates are scaled for the others.
      patterns: As in `groups`.
      factor: The learning rate of a group, divided by that of the group before it.
    """

    def scale(updates, state, params=None):
        paths = list(flatten(updates))
        ordered = groups(paths, patterns)
        power = {path: -n for n, group in enumerate(reversed(ordered)) for path in group}
        leaves = [
            factor ** power[path] * leaf
            for path, leaf in zip(paths, jax.tree.leaves(updates), strict=True)
        ]
        return jax.tree.unflatten(jax.tree.structure(updates), leaves), state

    scaled = optax.GradientTransformation(lambda params: optax.EmptyState(), scale)
    return optax.chain(optimizer, scaled)
