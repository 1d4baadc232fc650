"""Ways to transfer: which groups of parameters learn, when, and how fast.

Every model says in GROUPS how its parameters fall into groups, from the input to the output; the
last is the head. What does not learn is no argument of the loss that is differentiated: it costs no
backward pass, has no room in the optimizer, and stays as it is to the bit.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import optax

from train.optimization import optimizers, schedules, weight_decay


class Stage(NamedTuple):
    """Some epochs in which the groups from `first` on learn."""

    epochs: float
    first: int


# A way takes the number of groups and of epochs to its stages.
Way = Callable[[int, float], list[Stage]]


def everything(groups: int, epochs: float) -> list[Stage]:
    """All weights at once, as BERT is fine-tuned."""
    return [Stage(epochs, 0)]


def features(groups: int, epochs: float) -> list[Stage]:
    """The head alone, on what the trunk makes of the texts."""
    return [Stage(epochs, groups - 1)]


def head_first(groups: int, epochs: float) -> list[Stage]:
    """The head for a third of the time, then everything."""
    return [Stage(epochs / 3, groups - 1), Stage(epochs - epochs / 3, 0)]


def gradual(groups: int, epochs: float) -> list[Stage]:
    """One group more in each of equal stages, from the head down (Howard and Ruder 2018, 3.3)."""
    return [Stage(epochs / groups, first) for first in reversed(range(groups))]


WAYS: dict[str, Way] = {
    "all": everything,
    "features": features,
    "head-first": head_first,
    "gradual": gradual,
}
SCHEDULES = {
    "linear": lambda steps: schedules.linear(1.0, steps // 10, steps),
    "slanted": lambda steps: schedules.slanted_triangular(1.0, steps),
    "one-cycle": lambda steps: schedules.one_cycle(1.0, max(steps, 4)),
    "constant": lambda steps: schedules.constant(1.0),
}


def groups(paths: Sequence[str], patterns: Sequence[str]) -> list[list[str]]:
    """The paths in groups, from the input to the output.

    The first pattern found in a path decides; where it holds a number, each number is a group.
    """
    found: dict[tuple[int, int], list[str]] = {}
    for path in paths:
        which, match = next(
            (number, match)
            for number, pattern in enumerate(patterns)
            if (match := re.search(pattern, path))
        )
        found.setdefault((which, int(match[1]) if match.groups() else 0), []).append(path)
    return [found[key] for key in sorted(found)]


def rates(text: str, count: int, decay: float = 1.0) -> np.ndarray:
    """The rate of each group: "1e-4" for all, or "1e-6:1e-4" from the first to the last.

    In between they grow by equal factors (discriminative rates, Howard and Ruder 2018, section
    3.1). `decay` makes each group's less than that of the one after it, by this factor (Clark et
    al. 2020, appendix B). Raises ValueError for what is no rate.
    """
    try:
        low, high = [float(x) for x in (text.split(":") if ":" in text else (text, text))]
    except ValueError:
        raise ValueError(f"--rate {text}: give a number, or two such as 1e-6:1e-4") from None
    if not 0 < low < np.inf or not 0 < high < np.inf:
        raise ValueError(f"--rate {text}: rates are above 0")
    return np.geomspace(low, high, count) * decay ** np.arange(count)[::-1]


def optimizer(schedule, rates_of: dict[str, float], decay: float) -> optax.GradientTransformation:
    """AdamW whose updates of each path go at its own rate, times the schedule; a flat dict of
    parameters.

    Biases and norms are not decayed; the gradient is clipped to a norm of 1.
    """
    undecayed = re.compile("|".join(weight_decay.BIASES_AND_NORMS))
    mask = lambda params: {path: not undecayed.search(path) for path in params}

    def scale(updates, state, params=None):
        return {path: rates_of[path] * update for path, update in updates.items()}, state

    at_their_rates = optax.GradientTransformation(lambda params: optax.EmptyState(), scale)
    return optax.chain(
        optimizers.adamw(schedule, decay=decay, decay_mask=mask, clip=1.0), at_their_rates
    )
