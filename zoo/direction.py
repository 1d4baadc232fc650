"""The direction in which a causal model reads: the field `direction` of its config.

A backward model predicts each token from those after it (Peters et al. 2018, section 3.1; Howard
and Ruder 2018, section 3). It is the same network, trained on the tokens of a text in reversed
order, so whatever gives it tokens reverses them. Configs without the field read forward.
"""

from typing import Any

DIRECTIONS = ("forward", "backward")


def is_backward(config: Any) -> bool:
    """Return whether a model with this config reads texts from their last token to their first.

    Raises:
      ValueError: If the direction is unknown.
    """
    direction = getattr(config, "direction", "forward")
    if direction not in DIRECTIONS:
        raise ValueError(f"unknown direction {direction!r}: use one of {', '.join(DIRECTIONS)}")
    return direction == "backward"
