"""Unfreezing strategies: which groups of parameters are trained, when, and at what learning rate.

GROUPS of an architecture says how its parameters fall into groups, from the input to the output;
the last is the head. Frozen parameters are no argument of the loss that is differentiated: they
cost no backward pass and no optimizer state, and stay as they are to the bit.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import optax

from train.optimization import optimizers, schedules
from train.optimization.weight_decay import BIASES_AND_NORMS


class Stage(NamedTuple):
    """Some epochs in which the groups from `first` on are trained."""

    epochs: float
    first: int


# The number of groups and of epochs -> the stages.
Strategy = Callable[[int, float], list[Stage]]


def train_all(groups: int, epochs: float) -> list[Stage]:
    """Train all weights at once, as BERT is fine-tuned."""
    return [Stage(epochs, 0)]


def head_only(groups: int, epochs: float) -> list[Stage]:
    """Train the head alone, on the features of a frozen trunk."""
    return [Stage(epochs, groups - 1)]


def head_first(groups: int, epochs: float) -> list[Stage]:
    """Train the head for a third of the time, then everything."""
    return [Stage(epochs / 3, groups - 1), Stage(epochs - epochs / 3, 0)]


def gradual(groups: int, epochs: float) -> list[Stage]:
    """Train one group more in each of equal stages, from the head down.

    Howard and Ruder 2018, section 3.3, https://arxiv.org/abs/1801.06146.
    """
    return [Stage(epochs / groups, first) for first in reversed(range(groups))]


STRATEGIES: dict[str, Strategy] = {
    "all": train_all,
    "head": head_only,
    "head-first": head_first,
    "gradual": gradual,
}
# The number of steps -> a schedule with a peak of 1.
SCHEDULES: dict[str, Callable[[int], optax.Schedule]] = {
    "linear": lambda steps: schedules.linear(1.0, steps // 10, steps),
    "slanted": lambda steps: schedules.slanted_triangular(1.0, steps),
    "one-cycle": lambda steps: schedules.one_cycle(1.0, max(steps, 4)),
    "constant": lambda steps: schedules.constant(1.0),
}


def groups(paths: Sequence[str], patterns: Sequence[str]) -> list[list[str]]:
    """Return the paths in groups, from the input to the output.

    The first pattern found in a path decides; if it has a number, each number is a group.
    """
    by_key: dict[tuple[int, int], list[str]] = {}
    for path in paths:
        which, match = next(
            (number, match)
            for number, pattern in enumerate(patterns)
            if (match := re.search(pattern, path))
        )
        by_key.setdefault((which, int(match[1]) if match.groups() else 0), []).append(path)
    return [by_key[key] for key in sorted(by_key)]


def learning_rates(text: str, count: int, layer_decay: float = 1.0) -> np.ndarray:
    """Return the learning rate of each group.

    Args:
      text: "1e-4" for all groups, or "1e-6:1e-4" from the first to the last, with equal factors in
        between (discriminative learning rates, Howard and Ruder 2018, section 3.1).
      count: The number of groups.
      layer_decay: Factor from each group to the one before it (Clark et al. 2020, appendix B).
    """
    try:
        low, high = [float(x) for x in (text.split(":") if ":" in text else (text, text))]
    except ValueError:
        raise ValueError(
            f"--learning-rate {text}: give a number, or two such as 1e-6:1e-4"
        ) from None
    if not 0 < low < np.inf or not 0 < high < np.inf:
        raise ValueError(f"--learning-rate {text}: learning rates must be above 0")
    return np.geomspace(low, high, count) * layer_decay ** np.arange(count)[::-1]


def optimizer(
    schedule: optax.Schedule, learning_rates: Mapping[str, float], weight_decay: float
) -> optax.GradientTransformation:
    """Return AdamW for flat parameters, with a learning rate for each path, times the schedule.

    Biases and norms have no weight decay; the gradient is clipped to a norm of 1.
    """
    undecayed = re.compile("|".join(BIASES_AND_NORMS))
    mask = lambda params: {path: not undecayed.search(path) for path in params}

    def scale(updates, state, params=None):
        return {path: learning_rates[path] * update for path, update in updates.items()}, state

    scale_by_path = optax.GradientTransformation(lambda params: optax.EmptyState(), scale)
    adamw = optimizers.adamw(schedule, decay=weight_decay, decay_mask=mask, clip=1.0)
    return optax.chain(adamw, scale_by_path)
