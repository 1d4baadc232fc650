"""Evaluation of a recurrent language model with a continuous cache (Grave et al. 2016)."""

from dataclasses import dataclass
from typing import ClassVar

import jax

from train.objectives.causal_cached import CachedCausal
from train.pretraining.adaptation import Evaluation, Pretrained
from train.step import make_evaluate


@dataclass(frozen=True)
class NeuralCache:
    """The settings of the cache, whose formula is in `train.objectives.causal_cached`.

    Merity et al. 2017 use a window of 500, theta 1 and weight 0.1 for the Penn Treebank, and 3785,
    0.662 and 0.1279 for WikiText-2.
    """

    flag: ClassVar[str] = "--cache-window"
    length: ClassVar[int] = 128

    window: int
    theta: float = 0.3
    weight: float = 0.1

    def __post_init__(self):
        if self.window < 1:
            raise ValueError(f"--cache-window must be at least 1, not {self.window}")
        if not 0 <= self.theta < float("inf"):
            raise ValueError(f"--cache-theta must be at least 0, not {self.theta}")
        if not 0 < self.weight < 1:
            raise ValueError(f"--cache-weight must be between 0 and 1, not {self.weight}")

    def evaluation(self, pretrained: Pretrained, batch_size: int) -> Evaluation:
        """Return the evaluation with the cache, which begins empty."""
        model, end = pretrained.model, pretrained.objective.end_of_document
        objective = CachedCausal(end, self.window, self.theta, self.weight)
        compiled = jax.jit(make_evaluate(model, objective, dtype="float32"))
        carry = objective.initial_carry(model, batch_size)
        return Evaluation(objective, compiled, pretrained.params, carry)
