"""The contract of evaluations that adapt to the text: by a cache of outputs, or by gradients."""

from typing import NamedTuple, Protocol

import chex
from flax import linen as nn

from train.objectives.causal_stateful import StatefulCausal
from train.objectives.objective import Objective
from train.recipes.recipe import Recipe
from train.step import Evaluate
from zoo.tokenizers import AnyTokenizer


class Pretrained(NamedTuple):
    """A loaded recurrent language model; `recipe` has its config and the length of a window."""

    model: nn.Module
    params: chex.ArrayTree
    tokenizer: AnyTokenizer
    recipe: Recipe
    objective: StatefulCausal


class Evaluation(NamedTuple):
    """What `train.step.add_up` needs besides the batches of a text."""

    objective: Objective
    evaluate: Evaluate
    params: chex.ArrayTree
    carry: chex.ArrayTree


class Adaptation(Protocol):
    """An evaluation that adapts to the text.

    It is for recurrent language models, whose states continue from window to window, so that the
    text is read in order.
    """

    @property
    def flag(self) -> str:
        """The flag of the command line that requests it."""
        ...

    @property
    def length(self) -> int:
        """The number of tokens per window if the user gives none."""
        ...

    def evaluation(self, pretrained: Pretrained, batch_size: int) -> Evaluation:
        """Return how to evaluate a model, from before the first window on."""
        ...
