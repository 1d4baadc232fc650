"""GloVe, trained on the counts of pairs of words (Pennington et al. 2014, section 4.2).

The settings are those of the paper: 10 words on either side, X_max = 100, AdaGrad with a learning
rate of 0.05, 50 epochs for vectors less wide than 300, and 100 otherwise. In place of threads that
update the tables without locks, every step reads `batch` rows of pairs side by side, in blocks.

Against the paper and its program: the pairs of a block are read in both orders at once.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import chex
import numpy as np

from train.data import cooccurrences
from train.data.batches.cooccurrences import Cooccurrences
from train.data.corpus.corpus import Corpus
from train.objectives.glove import WeightedLeastSquares
from train.optimization import rows, schedules
from train.recipes.recipe import RecipeFactory
from train.recipes.word_vectors import WordVectorRecipe
from zoo.models import glove
from zoo.tokenizers import AnyTokenizer


@dataclass(frozen=True, kw_only=True)
class GloVeRecipe(WordVectorRecipe):
    """A recipe of GloVe. Its unit is a pair of words, whichever comes first.

    Attributes:
      x_max: The count from which on all pairs weigh the same.
      block_size: Pairs that are read before the tables change, in every row of a batch.
    """

    unit: ClassVar[str] = "pairs"

    window: int = 10
    x_max: float = 100.0
    block_size: int = 256

    def objective(self, tokenizer: AnyTokenizer) -> WeightedLeastSquares:
        return WeightedLeastSquares(self.block_size, self.x_max)

    def batches(self, tokenizer: AnyTokenizer) -> Cooccurrences:
        return Cooccurrences(
            length=self.length,
            block_size=self.block_size,
            rule=self.rule(tokenizer),
            num_words=int(self.counts.sum()),
        )

    def rule(self, tokenizer: AnyTokenizer) -> cooccurrences.Rule:
        """Return which pairs of words count."""
        ends_line = np.zeros(len(self.counts), bool)
        ends_line[list(self.line_ends(tokenizer))] = True
        return cooccurrences.Rule(window=self.window, is_word=self.counts > 0, ends_line=ends_line)

    def epoch(self, tokenizer: AnyTokenizer, corpus: Corpus) -> int:
        return len(cooccurrences.records(corpus, self.rule(tokenizer)))

    def flops_per_step(self, params: chex.ArrayTree) -> float:
        """Return the FLOP of all dot products, in both orders, and of their gradients."""
        return float(2 * 6 * self.config.width * self.batch * self.length)

    def identity(self) -> dict[str, Any]:
        names = ("x_max", "block_size", "epochs")
        return super().identity() | {name: getattr(self, name) for name in names}


def recipe(name: str, **fields) -> GloVeRecipe:
    """Return a recipe of a size of zoo.models.glove."""
    settings: dict[str, Any] = {
        "architecture": "glove",
        "config": glove.SIZES[name],
        "schedule": schedules.AnyLength(schedules.constant(0.05)),
        "optimizer": rows.glove_adagrad,
        "undecayed": (),
        "steps": 1,
        "batch": 4,
        "length": 16384,
    }
    return GloVeRecipe(name=name, **settings | fields)


def tiny() -> GloVeRecipe:
    """Return `zoo pretrain glove-tiny`: 100 wide, 25 epochs, minutes on two cores.

    X_max is 10, as in the demonstration of the program, since no pair of a small text is frequent.
    """
    return recipe("glove-tiny", x_max=10.0, epochs=25)


RECIPES: dict[str, RecipeFactory] = {
    "glove-tiny": tiny,
    **{
        name: partial(recipe, name, epochs=50 if config.width < 300 else 100)
        for name, config in glove.SIZES.items()
        if name != "glove-tiny"
    },
}
