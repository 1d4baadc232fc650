"""Unfreezing strategies: which parameter groups are trained, when, and with what learning rate.

GROUPS of an architecture defines the groups from input to output; the last one is the head. The
loss is not differentiated with respect to frozen parameters, so they need no backward pass and no
optimizer state, and remain bit-identical.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import optax

from train.optimization import optimizers, schedules
from train.optimization.layer_groups import groups
from train.optimization.weight_decay import BIASES_AND_NORMS


class Stage(NamedTuple):
    """A number of epochs in which the groups from `first` on are trained."""

    epochs: float
    first: int


# The number of groups and of epochs -> the stages.
Strategy = Callable[[int, float], list[Stage]]


def train_all(groups: int, epochs: float) -> list[Stage]:
    """Train all parameters at once, as in the fine-tuning of BERT."""
    return [Stage(epochs, 0)]


def head_only(groups: int, epochs: float) -> list[Stage]:
    """Train only the head, on the features of a frozen trunk."""
    return [Stage(epochs, groups - 1)]


def head_first(groups: int, epochs: float) -> list[Stage]:
    """Train the head for a third of the epochs, then all parameters."""
    return [Stage(epochs / 3, groups - 1), Stage(epochs - epochs / 3, 0)]


def gradual(groups: int, epochs: float) -> list[Stage]:
    """Train one more group in each of equally long stages, from the head down.

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


def top_layers(paths: Sequence[str], patterns: Sequence[str], count: int) -> list[str]:
    """Return the paths of the top layers, and of all that is above them up to the head.

    Zhang et al. 2021, section 5 (https://arxiv.org/abs/2006.05987) initialize these again, because
    the top layers of a pretrained model are specialized in its pretraining task. BERT's pooler is
    above the layers.

    Args:
      paths: The paths of all parameters.
      patterns: As in `groups`. A layer is a group whose pattern captures a number.
      count: Number of layers.

    Raises:
      ValueError: If there are fewer layers.
    """
    layered = [bool(re.compile(pattern).groups) for pattern in patterns]
    ordered = groups(paths, patterns)
    is_layer = [
        next(layered[n] for n, pattern in enumerate(patterns) if re.search(pattern, group[0]))
        for group in ordered
    ]
    layers = [number for number, layer in enumerate(is_layer) if layer]
    if count > len(layers):
        raise ValueError(f"--reinit {count}: the model has {len(layers)} layers")
    return [path for group in ordered[layers[-count] :] for path in group] if count else []


def learning_rates(text: str, count: int, layer_decay: float = 1.0) -> np.ndarray:
    """Return the learning rate of each group.

    Args:
      text: "1e-4" for all groups, or "1e-6:1e-4" for a geometric sequence from the first to the
        last group (discriminative learning rates, Howard and Ruder 2018, section 3.1).
      count: Number of groups.
      layer_decay: Factor between the learning rates of adjacent groups, from the head down (Clark
        et al. 2020, appendix B).

    Raises:
      ValueError: If `text` is not one or two positive numbers.
    """
    try:
        low, high = [float(x) for x in (text.split(":") if ":" in text else (text, text))]
    except ValueError:
        raise ValueError(
            f"--learning-rate {text}: use a number, or a range such as 1e-6:1e-4"
        ) from None
    if not 0 < low < np.inf or not 0 < high < np.inf:
        raise ValueError(f"--learning-rate {text}: use positive numbers")
    return np.geomspace(low, high, count) * layer_decay ** np.arange(count)[::-1]


def optimizer(
    schedule: optax.Schedule,
    learning_rates: Mapping[str, float],
    weight_decay: float,
    name: Literal["adamw", "adafactor"] = "adamw",
) -> optax.GradientTransformation:
    """Return an optimizer of flat parameters, with one peak learning rate per path.

    AdamW excludes biases and norms from weight decay, and clips the gradient to a norm of 1.
    Adafactor is that of T5 (Raffel et al. 2020, section 3.1.2), without weight decay.
    """
    undecayed = re.compile("|".join(BIASES_AND_NORMS))
    mask = lambda params: {path: not undecayed.search(path) for path in params}

    def scale(updates, state, params=None):
        return {path: learning_rates[path] * update for path, update in updates.items()}, state

    scale_by_path = optax.GradientTransformation(lambda params: optax.EmptyState(), scale)
    if name == "adafactor":
        return optax.chain(optimizers.adafactor(schedule), scale_by_path)
    adamw = optimizers.adamw(schedule, decay=weight_decay, decay_mask=mask, clip=1.0)
    return optax.chain(adamw, scale_by_path)
